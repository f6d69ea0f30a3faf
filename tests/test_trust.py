import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy.spatial.distance import cdist, pdist

from outcrop.errors import OutcropError
from outcrop.evaluation.trust import farthest_points, judge_trust, learn_area
from outcrop.experiment.evaluate import evaluate
from outcrop.splits import Split
from outcrop.training.engine import train
from outcrop.training.run import Run, read_run
from outcrop.training.trust import read_trust, write_trust
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


@several
@given(seeds)
def test_with_all_patches_as_references_it_is_the_index_of_the_paper(seed):
    training, held_out, new = cloud(60, seed), cloud(40, seed + 1), cloud(30, seed + 2, shift=2)
    area = learn_area(training, alone(training), held_out, references=60)
    mean, std = training.numpy().mean(axis=0), training.numpy().std(axis=0)
    standard, held, other = ((x.numpy() - mean) / std for x in (training, held_out, new))

    def index(x):
        return cdist(x, standard).min(axis=1) / pdist(standard).mean()

    np.testing.assert_allclose(area.dissimilarity(new), index(other), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(area.held_out, index(held), rtol=1e-3, atol=1e-3)
    low, high = np.percentile(index(held), (25, 75))
    inliers = index(held)[index(held) <= high + 1.5 * (high - low)]
    assert area.threshold == pytest.approx(inliers.max(), rel=1e-3)
    assert area.dissimilarity(training).max() < 2e-3


@several
@given(seeds, st.integers(2, 6))
def test_without_held_out_ground_patches_are_held_against_other_ground(seed, pieces):
    training, groups = cloud(50, seed), np.arange(50) % pieces
    area = learn_area(training, groups, training[:0], references=50)
    standard = (training.numpy() - area.mean.numpy()) / area.std.numpy()
    distances = cdist(standard, standard)
    distances[groups[:, None] == groups] = np.inf
    expected = distances.min(axis=1) / pdist(standard).mean()
    np.testing.assert_allclose(area.held_out, expected, rtol=1e-3)
    one_piece = learn_area(training, np.zeros(50, int), training[:0], references=50)
    same = learn_area(training, alone(training), training[:0], references=50)
    assert one_piece.threshold == same.threshold


@several
@given(seeds, st.integers(1, 40))
def test_references_cover_the_training_side_and_raise_the_index_by_no_more_than_they_miss(
    seed, number
):
    training, held_out, new = cloud(80, seed), cloud(20, seed + 1), cloud(30, seed + 2, shift=1)
    few, every = (
        learn_area(training, alone(training), held_out, references=n) for n in (number, 80)
    )
    assert few.references.shape == (number, 6)
    assert few.mean_distance == every.mean_distance
    missed = few.dissimilarity(training).max()
    grown = few.dissimilarity(new) - every.dissimilarity(new)
    assert grown.min() >= -2e-3
    assert grown.max() <= missed + 2e-3
    # Gonzalez 1985: at most twice as far as with the best references there are, so nearer than
    # the references are to one another.
    assert missed <= pdist(few.references.numpy()).min(initial=np.inf) / few.mean_distance + 2e-3


def test_farthest_points_stop_where_all_are_taken():
    points = torch.tensor([[0.0, 0], [1, 0], [0, 0], [1, 0]])
    assert len(farthest_points(points, 512)) == 2


def test_foreign_features_lie_outside_on_any_kind_of_array():
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


def test_channels_that_hardly_move_do_not_outweigh_the_others():
    training, held_out = cloud(200, 0), cloud(100, 1)
    training[:, 0], held_out[:, 0] = 0.0, 0.0
    training[0, 0], held_out[0, 0] = 1e-6, 0.1
    area = learn_area(training, alone(training), held_out)
    assert area.dissimilarity(held_out).max() < 5
    nothing = learn_area(torch.zeros(4, 3), np.arange(4), torch.zeros(2, 3))
    assert (nothing.threshold, len(nothing.references)) == (0, 1)
    assert (nothing.dissimilarity(torch.ones(2, 3)) > nothing.threshold).all()


def test_accuracy_inside_and_outside_by_hand():
    outside = np.array([False] * 6 + [True] * 4)
    right = np.array([True] * 5 + [False] + [True] + [False] * 3)
    found = judge_trust(outside, right, np.arange(10) % 5)
    assert found.outside.value == 0.4
    assert found.accuracy_inside.value == pytest.approx(5 / 6)
    assert found.accuracy_outside.value == 0.25
    assert found.accuracy_outside.low <= 0.25 <= found.accuracy_outside.high
    none = judge_trust(np.zeros(10, bool), right)
    assert none.outside.value == 0
    assert np.isnan(none.accuracy_outside.value)
    with pytest.raises(OutcropError, match="no patches"):
        judge_trust(outside[:0], right[:0])


# Of a run


def test_a_run_knows_its_area_of_trust(run: Run, tmp_path):
    area = run.trust
    model = run.classifier
    _, features = model.probabilities_and_features(PATCHES.take(SPLIT.train))
    np.testing.assert_allclose(area.mean, features.mean(axis=0), atol=1e-5)
    assert area.dissimilarity(features).max() < 2e-3  # fewer patches than references
    _, features = model.probabilities_and_features(PATCHES.take(SPLIT.validation))
    np.testing.assert_allclose(area.held_out, area.dissimilarity(features), atol=1e-4)

    write_trust(tmp_path, area)
    again = read_trust(tmp_path)
    for name, value in vars(area).items():
        if name != "model":
            assert torch.equal(torch.as_tensor(getattr(again, name)), torch.as_tensor(value)), name
    assert again.model == area.model == run.predictions.model


def test_foreign_patches_lie_outside_and_evaluate_says_so(run: Run):
    near = evaluate(run, PATCHES.subset(SPLIT.validation))
    dice = np.random.default_rng(0)
    strange = dice.choice([0, 255], PATCHES.images.shape).astype(np.uint8)
    far = evaluate(run, replace(PATCHES, images=strange))
    assert near.trusted.outside.value < 0.15
    assert far.trusted.outside.value > 0.9
    assert near.scores.overall.value == run.scores.overall.value
    assert near.reliability.error == pytest.approx(
        evaluate(run.classifier, PATCHES.subset(SPLIT.validation)).reliability.error
    )
    assert evaluate(run.classifier, PATCHES).trusted is None


def test_a_run_without_a_validation_side_has_one_from_its_ground(tmp_path):
    n = len(PATCHES)
    split = Split(np.zeros(n, np.int8), np.arange(n) // 8, PATCHES.fingerprint)
    run = train(PATCHES, split, tmp_path / "run", NETWORK, replace(RECIPE, epochs=1))
    assert run.classifier.temperature == 1
    assert len(run.trust.held_out) == n
    assert run.trust.threshold > 0


def test_runs_of_before_and_damaged_areas_say_what_to_do(run: Run, tmp_path, capfd):
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    path = folder / "trust.safetensors"
    content = path.read_bytes()
    for damaged in (content[:-40], b"", b"x" * 100):
        path.write_bytes(damaged)
        with pytest.raises(
            OutcropError, match=r"trust\.safetensors: is not an area of trust .*; train"
        ):
            read_trust(folder)
    for tensors, metadata in (
        ({"mean": torch.zeros(3)}, None),
        ({"mean": torch.zeros(3)}, {"outcrop area of trust": "[]"}),
    ):
        save_file(tensors, path, metadata)
        with pytest.raises(OutcropError, match="is damaged"):
            read_trust(folder)
    path.unlink()
    with pytest.raises(OutcropError, match="this run has none; train it anew"):
        _ = read_run(folder, "cpu").trust

    PATCHES.save(tmp_path / "patches.zarr")
    assert command(f"evaluate {folder} {tmp_path / 'patches.zarr'} --device cpu") == 0
    assert "area of trust      none: the run was made before" in capfd.readouterr().out
    assert command(f"evaluate {run.folder} {tmp_path / 'patches.zarr'} --device cpu") == 0
    said = capfd.readouterr().out
    assert "points above the accuracy; expected calibration error" in said
    assert "accuracy inside" in said
