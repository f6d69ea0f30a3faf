import errno
import json
import shutil
import signal
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from outcrop.errors import OutcropError, Stopped
from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import Column, PatchSet, read_patches
from outcrop.splits import SIDES, delivered_split
from outcrop.splits.split import Split
from outcrop.training import batches, engine, loop, pictures
from outcrop.training.augment import Moves, draw, draw_gains, move
from outcrop.training.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from outcrop.training.classifier import Classifier, read_classifier
from outcrop.training.engine import train
from outcrop.training.log import score
from outcrop.training.normalise import Normalisation, learn_normalisation
from outcrop.training.recipe import Augmentation, Machine, Recipe
from outcrop.training.run import Run, read_run

NETWORK = ResidualNet(depth=8, width=4)
RECIPE = Recipe(epochs=3, batch=16, machine=Machine(device="cpu"))
BF16 = Machine(device="cpu", precision="bf16-mixed")
CLASSES = ("water", "rice field", "built-up")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    # Nets as small as these only wait for one another's threads.
    torch.set_num_threads(1)


def some_patches(dtype: str = "uint8", seed: int = 0) -> PatchSet:
    """Three classes that differ in brightness and in the direction of their stripes."""
    random = np.random.default_rng(seed)
    labels = np.arange(96) % 3
    images = random.normal(100, 20, (96, 2, 8, 8)) + 15 * labels[:, None, None, None]
    images[labels == 1, :, ::2] += 40
    return PatchSet(images.astype(dtype), labels, CLASSES, ("red", "nir"))


def some_split(patches: PatchSet) -> Split:
    """Every fourth patch judges, every twelfth is left for the test."""
    sides = np.zeros(len(patches), dtype=np.int8)
    sides[::4] = 1
    sides[::12] = 2
    return Split(sides, np.arange(len(patches)), patches.fingerprint, {"splitter": "by hand"})


PATCHES = some_patches()
SPLIT = some_split(PATCHES)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(PATCHES, SPLIT, tmp_path_factory.mktemp("runs") / "run", NETWORK, RECIPE)


def weights(run: Run) -> dict[str, torch.Tensor]:
    return run.classifier.module.state_dict()


def assert_same(one: Run, other: Run) -> None:
    """Bit-identical weights, predictions and metrics (but for clock and memory)."""
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, weights(other)[name]), name
    np.testing.assert_array_equal(one.predictions.probabilities, other.predictions.probabilities)
    assert lines(one.folder) == lines(other.folder)


MEASURED = ("seconds", "images_per_second", "peak_memory")


def lines(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in MEASURED} for row in rows]


# Augmentation


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    seed=st.integers(0, 1000),
    crop=st.integers(0, 9),
    dtype=st.sampled_from(["uint8", "int16", "float32"]),
)
def test_moved_pictures_are_crops_of_the_padded_turned_mirror_image(
    size: tuple[int, int], seed: int, crop: int, dtype: str
) -> None:
    random = np.random.default_rng(seed)
    images = random.integers(1, 255, (5, 2, *size)).astype(dtype)
    moves = draw(Augmentation(crop=crop), 5, size, has_up=False, random=random)
    moved, inside = move(torch.from_numpy(images), moves)
    moved = torch.where(inside, moved, 0).numpy()

    height, width = size
    for k in range(5):
        picture = images[k][:, :, ::-1] if moves.mirror[k] else images[k]
        picture = np.rot90(picture, moves.turns[k].item(), axes=(1, 2))
        padded = np.pad(picture, ((0, 0), (crop, crop), (crop, crop)))
        top, left = crop + moves.down[k].item(), crop + moves.right[k].item()
        expected = padded[:, top : top + height, left : left + width]
        np.testing.assert_array_equal(moved[k], expected)


def test_four_quarter_turns_are_none_and_the_first_is_against_the_clock() -> None:
    image = torch.arange(9.0).view(1, 1, 3, 3)
    zero, one = torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.int64)
    turn = Moves(torch.zeros(1, dtype=torch.bool), one, zero, zero)
    turned = image
    for k in range(1, 5):
        turned, inside = move(turned, turn)
        assert inside.all()
        assert torch.equal(turned, torch.rot90(image, k, (2, 3)))
    assert torch.equal(turned, image)


def test_pictures_with_an_up_are_not_turned_and_others_in_all_eight_ways() -> None:
    def kinds(augmentation: Augmentation, has_up: bool, size: tuple[int, int] = (8, 8)) -> set:
        moves = draw(augmentation, 400, size, has_up, np.random.default_rng(0))
        return set(zip(moves.mirror.tolist(), moves.turns.tolist(), strict=True))

    assert kinds(Augmentation(), has_up=True) == {(False, 0), (True, 0)}
    assert len(kinds(Augmentation(), has_up=False)) == 8
    assert len(kinds(Augmentation(), has_up=False, size=(8, 6))) == 4
    assert kinds(Augmentation(flip=False, rotate=False), has_up=False) == {(False, 0)}


def test_crop_reaches_an_eighth_of_the_picture() -> None:
    moves = draw(Augmentation(), 2000, (32, 32), True, np.random.default_rng(0))
    assert sorted(set(moves.down.tolist())) == list(range(-4, 5))
    still = draw(Augmentation(crop=0), 50, (32, 32), True, np.random.default_rng(0))
    assert not still.down.any()
    assert not still.right.any()


def test_gains_differ_by_band_where_a_picture_has_no_up() -> None:
    def gains(augmentation: Augmentation, has_up: bool) -> np.ndarray:
        return draw_gains(augmentation, 500, 3, has_up, np.random.default_rng(0)).numpy()

    scene = gains(Augmentation(), has_up=False)
    assert scene.shape == (500, 3, 1, 1)
    assert 0.8 <= scene.min() < 0.81
    assert 1.19 < scene.max() <= 1.2
    assert abs(np.corrcoef(scene[:, 0, 0, 0], scene[:, 1, 0, 0])[0, 1]) < 0.1
    assert (gains(Augmentation(), has_up=True) == 1).all()
    assert (gains(Augmentation(gain=0), has_up=False) == 1).all()
    assert np.ptp(gains(Augmentation(gain=0.5), has_up=True)) > 0.9


# Recipe


def test_learning_rate_follows_the_papers_steps_and_the_cosine() -> None:
    step = Recipe(epochs=100, learning_rate=0.1, schedule="step", warm_up=0)
    rates = [step.learning_rate_at(epoch) for epoch in (0, 49.9, 50, 74.9, 75, 99)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    cosine = Recipe(epochs=100, learning_rate=0.1, warm_up=2)
    rates = [cosine.learning_rate_at(epoch) for epoch in (1, 50, 100)]
    assert rates == pytest.approx([0.05, 0.05, 0], abs=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch": 3},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"momentum": 1.0},
        {"schedule": "linear"},
        {"seed": -1},
    ],
)
def test_wrong_recipes_are_refused_by_name(wrong: dict) -> None:
    with pytest.raises(OutcropError, match=f"recipe: {next(iter(wrong))} is"):
        Recipe(**wrong)


# Normalisation


def test_normalisation_is_that_of_the_valid_training_pixels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("outcrop.training.normalise._CHUNK_PIXELS", 700)
    images = some_patches("float32").images
    images[:12, 1] = np.nan
    images[13, 0, 2:5] = np.nan
    images[14, 1, 0, 0] = np.inf
    patches = replace(PATCHES, images=images)
    found = learn_normalisation(patches, SPLIT.train)
    valid = np.where(np.isfinite(images), images, np.nan)[SPLIT.train].astype(np.float64)
    np.testing.assert_allclose(found.mean, np.nanmean(valid, axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(found.std, np.nanstd(valid, axis=(0, 2, 3)), rtol=1e-6)

    normalised = found(torch.from_numpy(images[[13, 14]]))
    assert normalised.isfinite().all()
    assert (normalised[0, 0, 2:5] == 0).all()


def test_constant_band_has_std_1_and_an_empty_one_is_refused() -> None:
    images = some_patches("float32").images
    images[:, 1] = 7
    assert learn_normalisation(replace(PATCHES, images=images), SPLIT.train).std[1] == 1
    images[:, 1] = np.nan
    with pytest.raises(OutcropError, match="band 'nir': has no valid pixel"):
        learn_normalisation(replace(PATCHES, images=images), SPLIT.train)


def test_validation_pictures_teach_nothing(run: Run, tmp_path: Path) -> None:
    images = PATCHES.images.copy()
    images[SPLIT.validation] = 255 - images[SPLIT.validation]
    images[SPLIT.test] = 0
    other = train(replace(PATCHES, images=images), SPLIT, tmp_path / "run", NETWORK, RECIPE)
    assert other.classifier.normalisation == run.classifier.normalisation
    assert all(torch.equal(tensor, weights(other)[name]) for name, tensor in weights(run).items())


# Training


def test_a_run_learns_and_leaves_all_it_promises(run: Run) -> None:
    assert run.metrics[-1].train.loss < run.metrics[0].train.loss
    assert {path.name for path in run.folder.iterdir()} == {
        "config.json",
        "split.json",
        "checkpoint.safetensors",
        "checkpoint-before.safetensors",
        "metrics.jsonl",
        "events",
        "predictions.npz",
        "model.safetensors",
        "model.json",
    }
    config = json.loads((run.folder / "config.json").read_text())
    assert config["network"] == asdict(NETWORK)
    assert config["recipe"]["augmentation"]["flip"] is True
    assert config["patches"]["fingerprint"] == PATCHES.fingerprint
    assert config["split"]["how"] == {"splitter": "by hand"}
    assert config["versions"]["torch"] == torch.__version__

    predictions = run.predictions
    np.testing.assert_array_equal(predictions.index, SPLIT.validation)
    np.testing.assert_array_equal(predictions.truth, PATCHES.labels[SPLIT.validation])
    again = run.classifier.probabilities(PATCHES.take(SPLIT.validation), batch=5)
    np.testing.assert_allclose(predictions.probabilities, again, atol=1e-6)
    found = predictions.probabilities.argmax(axis=1)
    assert run.metrics[-1].validation.accuracy == np.mean(found == predictions.truth)


def test_the_seed_decides(run: Run, tmp_path: Path) -> None:
    assert_same(run, train(PATCHES, SPLIT, tmp_path / "same", NETWORK, RECIPE))
    other = train(PATCHES, SPLIT, tmp_path / "other", NETWORK, replace(RECIPE, seed=1))
    assert not torch.equal(weights(run)["linear.weight"], weights(other)["linear.weight"])


def test_pictures_read_batch_by_batch_give_the_same_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "RESIDENT_BYTES", 0)
    PATCHES.save(tmp_path / "patches.zarr")
    lazy = read_patches(tmp_path / "patches.zarr")
    assert_same(run, train(lazy, SPLIT, tmp_path / "run", NETWORK, RECIPE))


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32"])
def test_every_type_of_pixel_gives_the_same_run(run: Run, tmp_path: Path, dtype: str) -> None:
    patches = replace(PATCHES, images=PATCHES.images.astype(dtype))
    assert_same(run, train(patches, SPLIT, tmp_path / "run", NETWORK, RECIPE))


def test_gaps_and_half_precision_train(tmp_path: Path) -> None:
    images = PATCHES.images.astype(np.float32)
    images[::5, :, :3] = np.nan
    recipe = replace(RECIPE, epochs=1, machine=BF16, schedule="step")
    done = train(replace(PATCHES, images=images), SPLIT, tmp_path / "run", NETWORK, recipe)
    assert np.isfinite(done.predictions.probabilities).all()
    assert {tensor.dtype for tensor in weights(done).values()} == {torch.float32, torch.int64}


def test_divergence_names_the_remedy(tmp_path: Path) -> None:
    recipe = replace(RECIPE, learning_rate=1e30, warm_up=0)
    with pytest.raises(OutcropError, match="take a learning rate below"):
        train(PATCHES, SPLIT, tmp_path / "run", NETWORK, recipe)


def test_a_training_that_cannot_begin_leaves_nothing(tmp_path: Path) -> None:
    images = np.full(PATCHES.images.shape, np.nan, dtype=np.float32)
    with pytest.raises(OutcropError, match="leave the band out"):
        train(replace(PATCHES, images=images), SPLIT, tmp_path / "run", NETWORK, RECIPE)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_explained_and_leaves_no_half_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OutcropError, match="the disk is full"):
            train(PATCHES, SPLIT, tmp_path / "run", NETWORK, RECIPE)
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {"config.json", "split.json", "metrics.jsonl", "events"}


# Stopping and going on


PLACES = {"move": batches, "save_checkpoint": loop, "Predictions": engine}


def stop(
    monkeypatch: pytest.MonkeyPatch, function: str, times: int, folder: Path, before: bool = True
) -> None:
    """Train, and end it around the last of so many calls of a function."""
    original, calls = getattr(PLACES[function], function), []

    def interrupted(*arguments: object) -> object:
        calls.append(None)
        if len(calls) == times and before:
            raise KeyboardInterrupt
        result = original(*arguments)
        if len(calls) == times:
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patch:
        patch.setattr(PLACES[function], function, interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(PATCHES, SPLIT, folder, NETWORK, RECIPE)


@pytest.mark.parametrize(
    ("function", "times", "before", "epochs_done"),
    [
        ("move", 2, True, 0),
        ("move", 12, True, 2),
        ("save_checkpoint", 2, True, 1),
        ("save_checkpoint", 3, False, 3),
        ("Predictions", 1, True, 3),
    ],
)
def test_a_stopped_run_goes_on_to_the_same_end(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    times: int,
    before: bool,
    epochs_done: int,
) -> None:
    folder = tmp_path / "run"
    stop(monkeypatch, function, times, folder, before)
    assert not list(folder.glob(".*partial*"))
    assert not (folder / "model.json").exists()
    with pytest.raises(OutcropError, match="is not finished"):
        read_run(folder)
    assert (folder / "checkpoint.safetensors").exists() == (epochs_done > 0)

    assert_same(run, train(PATCHES, SPLIT, folder, NETWORK, RECIPE, resume=True))
    steps = [event.step for event in read_events(folder).Scalars("loss/train")]
    assert steps == [1, 2, 3]


def test_resuming_a_finished_run_returns_it_and_a_missing_one_starts(
    run: Run, tmp_path: Path
) -> None:
    changed = (run.folder / "model.safetensors").stat().st_mtime_ns
    elsewhere = replace(RECIPE, machine=Machine(device="auto"))
    assert_same(run, train(PATCHES, SPLIT, run.folder, NETWORK, elsewhere, resume=True))
    assert (run.folder / "model.safetensors").stat().st_mtime_ns == changed
    assert_same(run, train(PATCHES, SPLIT, tmp_path / "new", NETWORK, RECIPE, resume=True))


def test_a_run_by_delivered_sides_goes_on(tmp_path: Path) -> None:
    patches = replace(PATCHES, columns={"side": Column(SPLIT.sides, SIDES)})
    split, once = delivered_split(patches), replace(RECIPE, epochs=1)
    done = train(patches, split, tmp_path / "run", NETWORK, once)
    assert_same(done, train(patches, split, tmp_path / "run", NETWORK, once, resume=True))


def test_only_the_same_run_goes_on(run: Run, tmp_path: Path) -> None:
    with pytest.raises(OutcropError, match=r"exists already; .* --resume"):
        train(PATCHES, SPLIT, run.folder, NETWORK, RECIPE)
    with pytest.raises(OutcropError, match=r"recipe\.epochs was 3, is 4"):
        train(PATCHES, SPLIT, run.folder, NETWORK, replace(RECIPE, epochs=4), resume=True)
    with pytest.raises(OutcropError, match=r"network\.depth was 8, is 14"):
        train(PATCHES, SPLIT, run.folder, replace(NETWORK, depth=14), RECIPE, resume=True)
    other = replace(SPLIT, sides=np.roll(SPLIT.sides, 1))
    with pytest.raises(OutcropError, match="the split is another"):
        train(PATCHES, other, run.folder, NETWORK, RECIPE, resume=True)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(OutcropError, match="is not a run"):
        train(PATCHES, SPLIT, tmp_path, NETWORK, RECIPE, resume=True)
    with pytest.raises(OutcropError, match="does not exist"):
        train(PATCHES, SPLIT, tmp_path / "no" / "run", NETWORK, RECIPE)


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("steps", [7, 10])
def test_a_request_to_stop_is_obeyed_after_the_step_and_nothing_is_lost(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: signal.Signals, steps: int
) -> None:
    folder, calls = tmp_path / "run", []

    def ask(*arguments: object) -> object:
        calls.append(None)
        if len(calls) == steps:
            signal.raise_signal(asked)
        return move(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(batches, "move", ask)
        with pytest.raises(Stopped if asked == signal.SIGTERM else KeyboardInterrupt) as caught:
            train(PATCHES, SPLIT, folder, NETWORK, RECIPE)
    assert len(calls) == steps
    reached = read_checkpoint(folder)
    assert (reached.epoch, reached.step) == divmod(steps, 5)
    if asked == signal.SIGTERM:
        assert "stopped after epoch" in str(caught.value)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert_same(run, train(PATCHES, SPLIT, folder, NETWORK, RECIPE, resume=True))


def test_long_epochs_are_saved_between_steps(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SAVE_EVERY", 0.0)
    stop(monkeypatch, "move", 9, tmp_path / "run")
    reached = read_checkpoint(tmp_path / "run")
    assert (reached.epoch, reached.step) == (1, 3)
    assert_same(run, train(PATCHES, SPLIT, tmp_path / "run", NETWORK, RECIPE, resume=True))


# Checkpoints


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[:-100]
    elif how == "empty":
        content = bytearray()
    elif how == "foreign":
        content = bytearray(b"x" * 50)
    else:  # one bit of one weight
        content[-1000] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["cut", "empty", "foreign", "flipped"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    how: str,
) -> None:
    folder = tmp_path / "run"
    stop(monkeypatch, "save_checkpoint", 2, folder, before=False)
    damage(folder / "checkpoint.safetensors", how)
    again = train(PATCHES, SPLIT, folder, NETWORK, RECIPE, resume=True)
    assert "is damaged; going on from the one before it" in " ".join(
        capsys.readouterr().err.split()
    )
    assert_same(run, again)


def test_without_a_whole_checkpoint_the_line_says_what_to_do(tmp_path: Path) -> None:
    tensors = {"model.weight": torch.arange(500.0)}
    for epoch in (1, 2):
        save_checkpoint(tmp_path, Checkpoint(epoch, 3, tensors))
    found = read_checkpoint(tmp_path)
    assert (found.epoch, found.step) == (2, 3)
    assert torch.equal(found.below("model")["weight"], tensors["model.weight"])
    for path in tmp_path.glob("*.safetensors"):
        damage(path, "cut")
    with pytest.raises(OutcropError, match="is damaged; delete it"):
        read_checkpoint(tmp_path)


def test_a_checkpoint_of_another_network_is_refused(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    (tmp_path / "run" / "model.json").unlink()
    save_checkpoint(tmp_path / "run", Checkpoint(1, 0, {"model.weight": torch.ones(3)}))
    with pytest.raises(OutcropError, match="belongs to another network"):
        train(PATCHES, SPLIT, tmp_path / "run", NETWORK, RECIPE, resume=True)


# Metrics


def test_undefined_precision_and_recall_are_none() -> None:
    found = score(0.5, torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1]), CLASSES)
    assert found.accuracy == 0.75
    assert found.precision == pytest.approx(
        {"water": 1.0, "rice field": 2 / 3, "built-up": None}, abs=1e-6
    )
    assert found.recall == {"water": 0.5, "rice field": 1.0, "built-up": None}


def read_events(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder / "events"))
    events.Reload()
    return events


def test_tensorboard_has_the_scalars_and_the_blocks_of_the_graph(run: Run) -> None:
    events = read_events(run.folder)
    tags = set(events.Tags()["scalars"])
    assert tags >= {"loss/train", "loss/validation", "accuracy/train", "accuracy/validation"}
    assert tags >= {"recall/rice field", "training/learning rate"}
    last = events.Scalars("loss/validation")[-1]
    assert (last.step, last.value) == (3, pytest.approx(run.metrics[-1].validation.loss))
    scopes = {node.name for node in events.Graph().node}
    for stage in range(3):
        assert any(
            f"Nest[stage{stage + 1}]/ModuleDict[units]/ResidualBlock[block1]" in name
            for name in scopes
        )


# Classifier


def with_folder(run: Run, tmp_path: Path) -> Path:
    run.classifier.save(tmp_path)
    return tmp_path


def test_saved_classifier_says_the_same(run: Run, tmp_path: Path) -> None:
    again = read_classifier(with_folder(run, tmp_path), device="cpu")
    assert again.classes == CLASSES
    assert (again.network, again.size) == (NETWORK, (8, 8))
    images = PATCHES.images.astype(np.float64)
    images[0, 0, 0, 0] = np.nan
    found = again.probabilities(images, batch=7)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(found, run.classifier.probabilities(images), atol=1e-6)
    assert again.probabilities(images[:0]).shape == (0, 3)


def test_classifier_refuses_other_bands_and_sizes(run: Run) -> None:
    with pytest.raises(OutcropError, match=r"wants 2 bands \(red, nir\), got 3"):
        run.classifier.probabilities(np.zeros((1, 3, 8, 8)))
    with pytest.raises(OutcropError, match=r"wants patches of 8 × 8 pixels, got 8 × 9"):
        run.classifier.probabilities(np.zeros((1, 2, 8, 9)))
    with pytest.raises(OutcropError, match="must be N × bands"):
        run.classifier.probabilities(np.zeros((2, 8, 8)))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.json", None, "no such model"),
        ("model.json", b"\xff\xfe", "is not a model"),
        ("model.json", b"[1]", "is not a model"),
        ("model.json", b'{"format": "outcrop model", "version": 1}', "is not a model"),
        ("model.safetensors", None, "no such weights"),
        ("model.safetensors", b"\x80\x04cos\nsystem\n", "is damaged"),
    ],
)
def test_unreadable_models_give_one_clear_line(
    run: Run, tmp_path: Path, file: str, content: bytes | None, message: str
) -> None:
    folder = with_folder(run, tmp_path)
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(OutcropError, match=message) as caught:
        read_classifier(folder)
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_are_refused(run: Run, tmp_path: Path) -> None:
    other = ResidualNet(depth=14, width=4)
    Classifier(
        other, other.build(2, 3), CLASSES, ("red", "nir"), Normalisation((0, 0), (1, 1)), (8, 8)
    ).save(tmp_path)
    (tmp_path / "model.json").write_text((run.folder / "model.json").read_text())
    with pytest.raises(OutcropError, match="belongs to another model"):
        read_classifier(tmp_path)


def test_missing_folder_and_unknown_device(run: Run, tmp_path: Path) -> None:
    with pytest.raises(OutcropError, match="no such model folder"):
        read_classifier(tmp_path / "nothing")
    with pytest.raises(OutcropError, match="no such run"):
        read_run(tmp_path / "nothing")
    with pytest.raises(OutcropError, match="device: abacus is not on this machine"):
        train(
            PATCHES,
            SPLIT,
            tmp_path / "run",
            NETWORK,
            replace(RECIPE, machine=Machine(device="abacus")),
        )
    assert not (tmp_path / "run").exists()


def test_scores_are_those_of_the_predictions(run):
    said = run.predictions
    right = said.probabilities.argmax(axis=1) == said.truth
    assert run.scores.overall.value == pytest.approx(right.mean())
    assert run.scores.confusion.sum() == len(said.truth)
