import json
import shutil
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy.spatial.distance import cdist, pdist

from outcrop.errors import OutcropError
from outcrop.files import sealed
from outcrop.metrics.applicability import judge_applicability, learn_area, mean_distance
from outcrop.splits import Split
from outcrop.training.applicability import read_applicability, write_applicability
from outcrop.training.checkpoint import checksum, write_tensors
from outcrop.training.engine import train
from outcrop.training.run import Run, read_run
from outcrop.workflow.evaluate import evaluate
from tests.command_line import run as command
from tests.tiny import NETWORK, PATCHES, RECIPE, SPLIT

seeds = st.integers(0, 2**32 - 1)
several = settings(deadline=None, max_examples=30)


def cloud(n, seed, channels=6, shift=0.0):
    return torch.from_numpy(
        np.random.default_rng(seed).gamma(2, 1, (n, channels)).astype(np.float32) + shift
    )


def alone(training):
    return np.arange(len(training))


def paper(training, others=None, held=None, apart=None, weights=1.0):
    """Dissimilarity indices and threshold by Meyer and Pebesma 2021, in float64 and by all pairs.

    Args:
        others: indices of these are returned.
        held: held-out patches; or, with `apart`, the training patches themselves, each compared
            with the training patches that its row of `apart` names.
    """
    mean, std = training.mean(axis=0), training.std(axis=0)
    standard = (training - mean) / std * weights
    scale = pdist(standard).mean()
    if apart is None:
        of_held = cdist((held - mean) / std * weights, standard).min(axis=1) / scale
    else:
        of_held = np.where(apart, cdist(standard, standard), np.inf).min(axis=1) / scale
    low, high = np.percentile(of_held, (25, 75))
    threshold = of_held[of_held <= high + 1.5 * (high - low)].max()
    found = cdist((others - mean) / std * weights, standard).min(axis=1) / scale
    return found, threshold, of_held


def normal(n, channels, seed, spread=1.0):
    return np.random.default_rng(seed).normal(size=(n, channels)) * spread


def as_given(values):
    return torch.from_numpy(values.astype(np.float32))


@pytest.mark.parametrize("channels", [2, 8, 32])
def test_it_finds_outside_what_the_index_of_the_paper_finds_of_5000_patches(channels):
    training, held, new = (
        normal(n, channels, seed, spread)
        for n, seed, spread in ((5000, 1, 1), (800, 2, 1), (2000, 3, 1.15))
    )
    area = learn_area(as_given(training), np.arange(5000) // 50, as_given(held))
    index, threshold, _ = paper(training, new, held)
    found = area.dissimilarity(as_given(new)).numpy()
    np.testing.assert_allclose(found, index, atol=1e-3)
    assert area.threshold == pytest.approx(threshold, abs=1e-3)
    assert area.mean_distance_error == 0
    outside = index > threshold
    assert outside.sum() > 20
    assert ((found > area.threshold) == outside).mean() >= 0.999
    assert (found > area.threshold)[outside].mean() >= 0.98


@several
@given(seeds, st.sampled_from([1, 3, 20]), st.sampled_from([1.0, 1e-4, 1e5]), st.booleans())
def test_it_is_the_index_of_the_paper_whatever_the_units_of_the_features(
    seed, channels, unit, weighted
):
    units = unit ** (np.arange(channels) % 2)
    training, held, new = (
        units * (3 + normal(n, channels, seed + n, spread))
        for n, spread in ((90, 1), (40, 1), (30, 2))
    )
    weights = np.linspace(0.2, 3, channels) if weighted else None
    area = learn_area(as_given(training), alone(training), as_given(held), weights=weights)
    index, threshold, of_held = paper(
        training, new, held, weights=1.0 if weights is None else weights
    )
    np.testing.assert_allclose(area.dissimilarity(as_given(new)), index, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(area.held_out, of_held, rtol=1e-3, atol=1e-3)
    assert area.threshold == pytest.approx(threshold, rel=1e-3, abs=1e-3)
    assert area.dissimilarity(as_given(training)).max() < 1e-3


@several
@given(seeds, st.integers(2, 6))
def test_without_a_validation_side_patches_are_compared_with_other_blocks(seed, pieces):
    training, groups = cloud(50, seed), np.arange(50) % pieces
    area = learn_area(training, groups, training[:0])
    _, threshold, of_held = paper(
        training.numpy(), training.numpy(), apart=groups[:, None] != groups
    )
    np.testing.assert_allclose(area.held_out, of_held, rtol=1e-3)
    assert area.threshold == pytest.approx(threshold, rel=1e-3)
    one_piece = learn_area(training, np.zeros(50, int), training[:0])
    same = learn_area(training, alone(training), training[:0])
    assert one_piece.threshold == same.threshold


@several
@given(seeds, st.integers(2, 5))
def test_folds_of_a_cross_validation_are_those_of_the_paper(seed, number):
    training, fold = cloud(60, seed), np.arange(60) % number
    # Every fold leaves out a buffer: it trains on less than all that it does not hold out.
    buffer = np.random.default_rng(seed).random((number, 60)) < 0.2
    trains = (fold != np.arange(number)[:, None]) & ~buffer
    folds = [(np.flatnonzero(trains[k]), np.flatnonzero(fold == k)) for k in range(number)]
    area = learn_area(training, alone(training), training[:0], folds)
    _, threshold, of_held = paper(training.numpy(), training.numpy(), apart=trains[fold])
    np.testing.assert_allclose(area.held_out, of_held[np.argsort(fold, kind="stable")], rtol=1e-3)
    assert area.threshold == pytest.approx(threshold, rel=1e-3)


def test_the_mean_distance_of_a_sample_is_as_near_as_its_error_says():
    points = cloud(3000, 5)
    exact, none = mean_distance(points)
    assert none == 0
    assert exact == pytest.approx(pdist(points.numpy()).mean(), rel=1e-5)
    found = np.array([mean_distance(points, seed, most=300) for seed in range(60)])
    errors = (found[:, 0] - exact) / found[:, 1]
    assert 0.75 < errors.std() < 1.3
    assert abs(errors.mean()) < 0.5


def test_distant_features_lie_outside_on_any_kind_of_array():
    training = cloud(500, 0)
    area = learn_area(training, alone(training), cloud(300, 1))
    assert len(area.references) == 500
    assert (area.held_out > area.threshold).float().mean() < 0.08
    assert (area.dissimilarity(cloud(300, 2)) > area.threshold).float().mean() < 0.08
    far = cloud(300, 3, shift=8)
    assert (area.dissimilarity(far) > area.threshold).all()
    given = area.dissimilarity(far.numpy())
    assert isinstance(given, np.ndarray)
    np.testing.assert_array_equal(given, area.dissimilarity(far))
    assert area.dissimilarity(far[:0]).shape == (0,)


def test_channels_of_a_network_that_hardly_move_do_not_outweigh_the_others():
    training, held_out = cloud(200, 0), cloud(100, 1)
    training[:, 0], held_out[:, 0] = 0.0, 0.0
    training[0, 0], held_out[0, 0] = 1e-6, 0.1
    area = learn_area(training, alone(training), held_out, narrowest=0.01)
    assert area.dissimilarity(held_out).max() < 5
    own_units = learn_area(training, alone(training), held_out)
    assert own_units.dissimilarity(held_out).max() > 1000
    nothing = learn_area(torch.zeros(4, 3), np.arange(4), torch.zeros(2, 3))
    assert (nothing.threshold, nothing.mean_distance) == (0, 1)
    assert (nothing.dissimilarity(torch.ones(2, 3)) > nothing.threshold).all()


def test_features_without_importance_do_not_count():
    training, new = cloud(100, 0), cloud(50, 1)
    far = new.clone()
    far[:, 1] += 100
    area = learn_area(training, alone(training), new, weights=np.array([1, 0, 1, -1, np.nan, 2]))
    assert torch.equal(area.weights, torch.tensor([0.5, 0, 0.5, 0, 0, 1]))
    assert torch.equal(area.dissimilarity(far), area.dissimilarity(new))
    unweighted = learn_area(training, alone(training), new)
    none = learn_area(training, alone(training), new, weights=np.zeros(6))
    assert torch.equal(none.held_out, unweighted.held_out)


def test_accuracy_inside_and_outside_by_hand():
    outside = np.array([False] * 6 + [True] * 4)
    right = np.array([True] * 5 + [False] + [True] + [False] * 3)
    found = judge_applicability(outside, right, np.arange(10) % 5)
    assert found.outside.value == 0.4
    assert found.accuracy_inside.value == pytest.approx(5 / 6)
    assert found.accuracy_outside.value == 0.25
    assert found.accuracy_outside.low <= 0.25 <= found.accuracy_outside.high
    none = judge_applicability(np.zeros(10, bool), right)
    assert none.outside.value == 0
    assert np.isnan(none.accuracy_outside.value)
    with pytest.raises(OutcropError, match="no patches"):
        judge_applicability(outside[:0], right[:0])


# Of a run


def test_a_run_has_its_area_of_applicability(run: Run, tmp_path):
    area = run.applicability
    model = run.classifier
    _, features = model.probabilities_and_features(PATCHES.take(SPLIT.train))
    np.testing.assert_allclose(area.mean, features.mean(axis=0), atol=1e-5)
    assert len(area.references) == len(SPLIT.train)
    assert area.dissimilarity(features).max() < 1e-3
    _, features = model.probabilities_and_features(PATCHES.take(SPLIT.validation))
    np.testing.assert_allclose(area.held_out, area.dissimilarity(features), atol=1e-4)

    write_applicability(tmp_path, area)
    again = read_applicability(tmp_path)
    for name in (field.name for field in fields(area) if field.name != "model"):
        one, other = (torch.as_tensor(getattr(each, name)) for each in (area, again))
        assert torch.equal(one, other), name
    assert again.model == area.model == run.predictions.model


def test_out_of_distribution_patches_lie_outside_and_evaluate_reports_it(run: Run):
    near = evaluate(run, PATCHES.subset(SPLIT.validation))
    rng = np.random.default_rng(0)
    strange = rng.choice([0, 255], PATCHES.images.shape).astype(np.uint8)
    far = evaluate(run, replace(PATCHES, images=strange))
    assert near.applicability.outside.value < 0.15
    assert far.applicability.outside.value > 0.9
    assert near.scores.overall.value == run.scores.overall.value
    assert near.reliability.error == pytest.approx(
        evaluate(run.classifier, PATCHES.subset(SPLIT.validation)).reliability.error
    )
    assert evaluate(run.classifier, PATCHES).applicability is None


def test_a_run_without_a_validation_side_has_an_area_from_its_blocks(tmp_path):
    n = len(PATCHES)
    split = Split(np.zeros(n, np.int8), np.arange(n) // 8, PATCHES.fingerprint)
    run = train(PATCHES, split, tmp_path / "run", NETWORK, replace(RECIPE, epochs=1))
    assert run.classifier.temperature == 1
    assert len(run.applicability.held_out) == n
    assert run.applicability.threshold > 0


def thinned(path, area):
    """Write the file of an older version: fewer references, and no version entry."""
    names = ("references", "mean", "std", "held_out")
    numbers = {"mean_distance": area.mean_distance, "threshold": area.threshold, "model": ""}
    tensors = {name: getattr(area, name) for name in names}
    tensors["references"] = tensors["references"][:4].clone()
    told = json.dumps(sealed(numbers, checksum(tensors)))
    write_tensors(path, tensors, {"outcrop area of applicability": told})


def test_older_runs_and_damaged_areas_give_a_remedy(run: Run, tmp_path, capfd):
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    path = folder / "trust.safetensors"
    content = path.read_bytes()
    for damaged in (content[:-40], b"", b"x" * 100):
        path.write_bytes(damaged)
        with pytest.raises(
            OutcropError, match=r"trust\.safetensors: is not an area of applicability .*; train"
        ):
            read_applicability(folder)
    for tensors, metadata in (
        ({"mean": torch.zeros(3)}, None),
        ({"mean": torch.zeros(3)}, {"outcrop area of applicability": "[]"}),
    ):
        save_file(tensors, path, metadata)
        with pytest.raises(OutcropError, match="is damaged"):
            read_applicability(folder)
    thinned(path, run.applicability)
    with pytest.raises(OutcropError, match=r"keeps 512 training patches at most .*; train the run"):
        _ = read_run(folder, "cpu").applicability
    assert evaluate(read_run(folder, "cpu"), PATCHES).applicability is None
    path.unlink()
    with pytest.raises(OutcropError, match="this run has none; train it anew"):
        _ = read_run(folder, "cpu").applicability

    PATCHES.save(tmp_path / "patches.zarr")
    assert command(f"evaluate {folder} {tmp_path / 'patches.zarr'} --device cpu") == 0
    assert (
        "area of applicability      none: the run is of an older version" in capfd.readouterr().out
    )
    assert command(f"evaluate {run.folder} {tmp_path / 'patches.zarr'} --device cpu") == 0
    said = capfd.readouterr().out
    assert "points above the accuracy; expected calibration error" in said
    assert "accuracy inside" in said
