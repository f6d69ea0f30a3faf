"""An exported classifier gives the same results in onnxruntime and torch.export."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import outcrop
from outcrop.errors import OutcropError
from outcrop.metrics.calibration import tempered
from outcrop.models.architectures import ResidualNet
from outcrop.models.factory import build
from outcrop.training import export as exporting
from outcrop.training.classifier import Classifier
from outcrop.training.export import export
from outcrop.training.normalise import Normalisation
from tests.command_line import content, run

CLASSES = ("water", "rice field", "bâti")
NETWORK = ResidualNet(depth=8, width=4)
FAMILY = {
    "plain": NETWORK,
    "stochastic depth": ResidualNet(depth=8, width=4, survival=0.5),
    "RoR-3": ResidualNet(depth=8, width=4, levels=3, survival=0.5),
    "pre-activation": ResidualNet(depth=8, width=4, order="pre-activation"),
    "wide": ResidualNet(
        depth=10, width=4, widen=2, order="pre-activation", shortcut="projection", levels=3
    ),
    "bottleneck": ResidualNet(
        depth=11, width=4, order="pre-activation", bottleneck=True, shortcut="projection"
    ),
    "large stem": ResidualNet(depth=8, width=4, stem="large"),
    "unpadded": ResidualNet(depth=11, width=4, bottleneck=True, levels=2, padding="none"),
    "part of a patch": ResidualNet(depth=8, width=4, seen=6, halvings=1),
}


def some_classifier(network: ResidualNet = NETWORK, size=(8, 8), flip: bool = False) -> Classifier:
    """A classifier as after training: all weights and running statistics are random."""
    torch.manual_seed(0)
    module = build(network, 2, 3)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith(("running_var", "norm.weight")):
                tensor.uniform_(0.5, 2)
            elif tensor.is_floating_point() and tensor.ndim == 1:
                tensor.normal_(0, 0.3)
    normal = Normalisation((1000.0, -3.0), (200.0, 0.5))
    return Classifier(
        network, module.eval(), normal, flip, classes=CLASSES, bands=("red", "nir"), size=size
    )


def some_images(n: int, size=(8, 8)) -> np.ndarray:
    """Images in the units of the source: some with gaps, one empty, one very bright."""
    random = np.random.default_rng(n)
    images = random.normal(size=(n, 2, *size)).astype(np.float32)
    images = images * np.float32([[[400]], [[1]]]) + np.float32([[[1000]], [[-3]]])
    images[random.random(images.shape) < 0.02] = np.nan
    images[0, 0, 1] = np.inf
    images[-1] = np.nan
    images[n // 2] = 65_535
    return images


def through_onnx(path: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images}), strict=True))


def through_torch(path: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    found = torch.export.load(path).module()(torch.from_numpy(images))
    return {name: tensor.numpy() for name, tensor in found.items()}


RUN = {".onnx": through_onnx, ".pt2": through_torch}
both = pytest.mark.parametrize("suffix", RUN)


def assert_same_predictions(classifier: Classifier, path: Path) -> None:
    """The file predicts as the classifier, for one image and for many."""
    for n in (1, 9):
        images = some_images(n, classifier.size)
        said, given = classifier.predict_proba(images), RUN[path.suffix](path, images)
        np.testing.assert_allclose(given["probabilities"], said, atol=1e-5)
        np.testing.assert_array_equal(given["logits"].argmax(axis=1), said.argmax(axis=1))
        if not classifier.flip:
            normal = classifier.normalisation(torch.from_numpy(images))
            logits = classifier.module(normal).detach().numpy() / classifier.temperature
            np.testing.assert_allclose(given["logits"], logits, rtol=1e-4, atol=1e-4)


# ONNX takes three times as long as a program of PyTorch: only networks whose graphs differ.
ONNX = ("RoR-3", "wide", "large stem", "unpadded", "part of a patch")


@pytest.mark.parametrize(
    ("name", "suffix"),
    [(name, ".onnx") for name in ONNX]
    + [(name, ".pt2") for name in FAMILY if name not in ONNX or name == "RoR-3"],
)
def test_every_exported_network_predicts_the_same(tmp_path, name, suffix):
    size = {"large stem": (21, 14), "unpadded": (19, 12)}.get(name, (9, 7))
    classifier = some_classifier(FAMILY[name], size)
    export(classifier, tmp_path / f"model{suffix}")
    assert_same_predictions(classifier, tmp_path / f"model{suffix}")


@pytest.mark.parametrize(("suffix", "label_of"), [(".onnx", "pixel"), (".pt2", "image")])
def test_mirror_images_are_averaged_inside(tmp_path, suffix, label_of):
    classifier = replace(some_classifier(flip=True), label_of=label_of)
    path = tmp_path / f"model{suffix}"
    export(classifier, path)
    assert_same_predictions(classifier, path)
    images = some_images(5)
    plain = replace(classifier, flip=False).predict_proba(images)
    given = RUN[suffix](path, images)
    assert np.abs(given["probabilities"] - plain).max() > 1e-3
    np.testing.assert_allclose(np.exp(given["logits"]), given["probabilities"], atol=1e-5)


@pytest.mark.parametrize(("suffix", "flip"), [(".onnx", True), (".pt2", False)])
def test_calibrated_probabilities_leave_as_they_are(tmp_path, suffix, flip):
    plain = some_classifier(flip=flip)
    classifier = replace(plain, temperature=2.5)
    path = tmp_path / f"model{suffix}"
    export(classifier, path)
    assert_same_predictions(classifier, path)
    images = some_images(5)
    given = RUN[suffix](path, images)
    expected = tempered(plain.predict_proba(images), 2.5)
    np.testing.assert_allclose(given["probabilities"], expected, atol=1e-5)
    assert np.abs(expected - plain.predict_proba(images)).max() > 0.05


def test_onnx_contains_the_description(tmp_path):
    classifier = replace(some_classifier(), temperature=1.5)
    export(classifier, tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert told["format"] == "outcrop model"
    assert json.loads(told["classes"]) == list(CLASSES)
    assert json.loads(told["bands"]) == ["red", "nir"]
    assert json.loads(told["size"]) == [8, 8]
    assert json.loads(told["normalisation"]) == {"mean": [1000, -3], "std": [200, 0.5]}
    assert json.loads(told["temperature"]) == 1.5
    assert ResidualNet(**json.loads(told["network"])) == NETWORK
    (images,) = model.graph.input
    shape = [axis.dim_param or axis.dim_value for axis in images.type.tensor_type.shape.dim]
    assert (images.name, shape) == ("images", ["batch", 2, 8, 8])
    assert [output.name for output in model.graph.output] == ["logits", "probabilities"]


def test_a_program_contains_the_description(tmp_path):
    classifier = some_classifier()
    export(classifier, tmp_path / "model.pt2")
    extra = {"model.json": ""}
    torch.export.load(tmp_path / "model.pt2", extra_files=extra)
    told = json.loads(extra["model.json"])
    classifier.save(tmp_path)
    kept = json.loads((tmp_path / "model.json").read_text())
    assert told == {name: kept[name] for name in kept.keys() - {"weights", "checksum"}}


@both
def test_the_same_classifier_gives_the_same_file_without_a_path_of_this_machine(tmp_path, suffix):
    files = []
    for name in ("one", "other"):
        export(some_classifier(), tmp_path / f"{name}{suffix}")
        files.append((tmp_path / f"{name}{suffix}").read_bytes())
    assert files[0] == files[1]
    assert str(Path(outcrop.__file__).parent).encode() not in files[0]


@both
def test_a_file_with_other_predictions_is_not_written(tmp_path, monkeypatch, suffix):
    others = exporting._Whole(some_classifier(replace(NETWORK, levels=2)))
    program = exporting._program
    monkeypatch.setattr(exporting, "_program", lambda model, _: program(model, others))
    with pytest.raises(OutcropError, match="logits differ by"):
        export(some_classifier(), tmp_path / f"model{suffix}")
    assert content(tmp_path) == {}


def test_the_classifier_stays_as_it_was(tmp_path):
    classifier = some_classifier()
    classifier.module.train()
    before = {name: tensor.clone() for name, tensor in classifier.module.state_dict().items()}
    export(classifier, tmp_path / "model.pt2")
    assert classifier.module.training
    assert all(p.requires_grad for p in classifier.module.parameters())
    for name, tensor in classifier.module.state_dict().items():
        assert torch.equal(tensor, before[name]), name
        assert tensor.stride() == before[name].stride(), name


def test_an_existing_file_is_kept_without_overwrite(tmp_path):
    path = tmp_path / "model.pt2"
    path.write_text("mine")
    with pytest.raises(OutcropError, match="exists already"):
        export(some_classifier(), path)
    assert path.read_text() == "mine"
    export(some_classifier(), path, overwrite=True)
    assert_same_predictions(some_classifier(), path)


def test_a_format_by_name_and_none_by_ending(tmp_path):
    export(some_classifier(), tmp_path / "model.bin", "torch-export")
    assert torch.export.load(io.BytesIO((tmp_path / "model.bin").read_bytes()))
    with pytest.raises(OutcropError, match=r"model\.h5: .* \.onnx or \.pt2"):
        export(some_classifier(), tmp_path / "model.h5")
    with pytest.raises(OutcropError, match="take onnx or torch-export"):
        export(some_classifier(), tmp_path / "model.h5", "keras")  # type: ignore[arg-type]


def test_onnx_without_its_packages_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    with pytest.raises(OutcropError) as caught:
        export(some_classifier(), tmp_path / "model.onnx")
    assert "onnx, onnxscript, onnxruntime; pip install 'outcrop[onnx]'" in str(caught.value)
    export(some_classifier(), tmp_path / "model.pt2")


def test_nothing_but_an_export_imports_onnx():
    code = (
        "import sys, outcrop; outcrop.train, outcrop.export, outcrop.ResidualClassifier;"
        "sys.exit(any(name.startswith('onnx') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_command_exports_a_model_folder_in_silence(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    classifier = some_classifier()
    classifier.save("run")
    for suffix in RUN:
        assert run(f"export run -o model{suffix}") == 0
        assert capfd.readouterr() == (f"model{suffix}\n", "")
        assert_same_predictions(classifier, Path(f"model{suffix}"))
