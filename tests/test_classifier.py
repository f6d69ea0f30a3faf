import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from outcrop.errors import OutcropError
from outcrop.files import write_json
from outcrop.metrics.calibration import fit_temperature, tempered
from outcrop.models.architectures import ResidualNet
from outcrop.models.factory import build
from outcrop.training.classifier import Classifier, read_classifier
from outcrop.training.engine import train
from outcrop.training.normalise import Normalisation
from outcrop.training.recipe import Machine
from outcrop.training.run import Run, read_run
from tests.tiny import CLASSES, DEVICE, NETWORK, PATCHES, RECIPE, SPLIT

# CPU and GPU differ by the order of their sums.
ACROSS = 1e-6 if DEVICE == "cpu" else 1e-5


def with_folder(run: Run, tmp_path: Path) -> Path:
    run.classifier.save(tmp_path)
    return tmp_path


def test_a_saved_classifier_predicts_the_same(run: Run, tmp_path: Path) -> None:
    again = read_classifier(with_folder(run, tmp_path), device="cpu")
    assert again.classes == CLASSES
    assert (again.network, again.size) == (NETWORK, (8, 8))
    images = PATCHES.images.astype(np.float64)
    images[0, 0, 0, 0] = np.nan
    found = again.predict_proba(images, batch=7)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(found, run.classifier.predict_proba(images), atol=ACROSS)
    assert again.predict_proba(images[:0]).shape == (0, 3)


def test_label_of_is_stored_and_is_image_in_older_models(run: Run, tmp_path: Path) -> None:
    replace(run.classifier, label_of="pixel").save(tmp_path)
    assert read_classifier(tmp_path, "cpu").label_of == "pixel"
    path = tmp_path / "model.json"
    content = json.loads(path.read_text())
    del content["checksum"]
    path.write_text(json.dumps(content | {"label_of": "corner"}))
    with pytest.raises(OutcropError, match="label_of is 'corner'"):
        read_classifier(tmp_path, "cpu")
    del content["label_of"]
    path.write_text(json.dumps(content))
    assert read_classifier(tmp_path, "cpu").label_of == "image"


def test_temperature_and_area_are_applied_and_stored(run: Run, tmp_path: Path) -> None:
    said = run.predictions
    temperature = fit_temperature(said.truth, said.probabilities)
    assert run.classifier.temperature == temperature != 1
    assert run.calibration.temperature == temperature
    images = PATCHES.take(said.index)
    plain = replace(run.classifier, temperature=1.0)
    np.testing.assert_allclose(plain.predict_proba(images), said.probabilities, atol=1e-6)
    np.testing.assert_allclose(
        run.classifier.predict_proba(images), tempered(said.probabilities, temperature), atol=1e-6
    )
    folder = with_folder(run, tmp_path)
    assert read_classifier(folder).temperature == temperature
    # Models of versions without a temperature give the probabilities of the network.
    told = json.loads((folder / "model.json").read_text())
    del told["temperature"]
    write_json(folder / "model.json", told)
    np.testing.assert_allclose(
        read_classifier(folder, "cpu").predict_proba(images), said.probabilities, atol=ACROSS
    )


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf"), "hot", None])
def test_invalid_temperatures_are_refused(run: Run, tmp_path: Path, temperature) -> None:
    folder = with_folder(run, tmp_path)
    told = json.loads((folder / "model.json").read_text()) | {"temperature": temperature}
    write_json(folder / "model.json", told)
    with pytest.raises(OutcropError, match="is not a model of this outcrop"):
        read_classifier(folder)


@pytest.mark.parametrize("order", ["original", "pre-activation"])
@pytest.mark.parametrize("flip", [False, True])
def test_features_are_the_input_of_the_linear_layer(run: Run, order, flip) -> None:
    network = replace(NETWORK, order=order)
    normal = run.classifier.normalisation
    module = build(network, 2, 3).eval()
    model = Classifier(
        network, module, normal, flip,
        classes=CLASSES, bands=("red", "nir"), size=(8, 8), temperature=2.0,
    )  # fmt: skip
    images = PATCHES.images[:10]
    said, features = model.probabilities_and_features(images, batch=4)
    assert features.shape == (10, module.linear.in_features)
    seen: list[torch.Tensor] = []
    module.linear.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    np.testing.assert_array_equal(model.predict_proba(images), said)
    views = len(seen)
    assert views == 1 + flip
    np.testing.assert_allclose(features, torch.stack(seen).mean(dim=0), atol=1e-6)
    assert model.probabilities_and_features(images[:0])[1].shape == (0, features.shape[1])


def test_classifier_refuses_other_bands_and_sizes(run: Run) -> None:
    with pytest.raises(OutcropError, match=r"wants 2 bands \(red, nir\), got 3"):
        run.classifier.predict_proba(np.zeros((1, 3, 8, 8)))
    with pytest.raises(OutcropError, match=r"wants patches of 8 × 8 pixels, got 8 × 9"):
        run.classifier.predict_proba(np.zeros((1, 2, 8, 9)))
    with pytest.raises(OutcropError, match="must be N × bands"):
        run.classifier.predict_proba(np.zeros((2, 8, 8)))


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
        other, build(other, 2, 3), Normalisation((0, 0), (1, 1)),
        classes=CLASSES, bands=("red", "nir"), size=(8, 8),
    ).save(tmp_path)  # fmt: skip
    (tmp_path / "model.json").write_text((run.folder / "model.json").read_text())
    with pytest.raises(OutcropError, match="is not the weights of this model"):
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
