"""Export of a model to one file: ONNX or `torch.export`."""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from outcrop.errors import OutcropError
from outcrop.files import check_new, new_file
from outcrop.training.classical import ClassicalModel
from outcrop.training.classical_module import ClassicalModule
from outcrop.training.classifier import Classifier, mean_logits, views
from outcrop.training.model import Model
from outcrop.training.run import Trained, model_of

_TOLERANCE = 1e-4
_USUAL = 8  # probes without gaps
_BATCH = {"images": {0: torch.export.Dim("batch")}}


def export(
    model: Trained,
    path: str | Path,
    format: Literal["onnx", "torch-export"] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a trained model to one file that other programs can run.

    The input is `images`: float32 `N × bands × height × width` for any N, in the units of the
    source and the size of the training patches. NaN and infinite pixels are no data. The outputs
    are `logits` and `probabilities`, both float32 `N × classes`. Normalisation, the mean over
    mirror images (if the model has it) and the temperature are part of the file: the probabilities
    are calibrated, and the logits are their logarithms up to a constant for each image. Multiplied
    by the temperature, the logits are those of the network (with mirror images: the logarithms of
    the mean probabilities).

    The content of `model.json` of the run (classes, bands, size, normalisation, temperature,
    network) is included: in ONNX as `metadata_props`, all but plain text as JSON; for
    `torch.export` as the extra file `model.json`.

    Before the file is written, the exported model is compared with the classifier on random,
    extreme and empty images, in onnxruntime or after `torch.export.load`. Logits must agree to
    1e-4, relative to logits larger than 1.

    Args:
        model: network, classical model, run, or folder of a run.
        path: output file.
        format: "onnx", or "torch-export" for `torch.export.load`. None: by the ending of the file,
            .onnx or .pt2.
        overwrite: replace an existing file.

    Raises:
        OutcropError: another ending without a format; the file exists and `overwrite` is false;
            ONNX without the packages of `outcrop[onnx]`; the exported model does not agree.
    """
    path = Path(path)
    form = _form(path, format)
    check_new(path, overwrite)
    missing = [package for package in form.packages if find_spec(package) is None]
    if missing:
        raise OutcropError(
            path, f"this format needs {', '.join(missing)}; pip install 'outcrop[onnx]'"
        )
    trained = model_of(model)
    whole = _Whole(trained)
    with _quiet():
        content = form.write(_program(trained, whole), trained.description)
        _check(path, trained, whole, lambda images: form.run(content, images))
    with new_file(path) as temporary:
        temporary.write_bytes(content)


class _Whole(nn.Module):
    """The whole model on the CPU, from raw pixels to logits and probabilities."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        if isinstance(model, ClassicalModel):
            self.module: nn.Module = ClassicalModule(model)
        else:
            assert isinstance(model, Classifier)
            self.module = _NetworkModule(model)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        logits = self.module(images)
        return {"logits": logits, "probabilities": logits.softmax(dim=1)}


class _NetworkModule(nn.Module):
    """A copy of a network with weights in the default memory format: raw pixels to logits."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        network = copy.deepcopy(classifier.module).eval().requires_grad_(False).to("cpu")
        self.network = network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.normalisation, self.flip = classifier.normalisation, classifier.flip
        self.temperature, self.label_of = classifier.temperature, classifier.label_of

    def forward(self, images: Tensor) -> Tensor:
        looked_at = views(self.normalisation(images), self.flip, self.label_of)
        return mean_logits([self.network(view) for view in looked_at]) / self.temperature


def _program(model: Model, whole: nn.Module) -> torch.export.ExportedProgram:
    # With a single image, torch.export would fix the batch size to 1.
    example = torch.zeros(2, len(model.bands), *model.size)
    with torch.no_grad():
        program = torch.export.export(whole, (example,), dynamic_shapes=_BATCH)
    for node in program.graph.nodes:
        # It contains paths of this machine.
        node.meta.pop("stack_trace", None)
    return program


def _to_onnx(program: torch.export.ExportedProgram, description: Mapping[str, Any]) -> bytes:
    made = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        input_names=["images"],
        output_names=["logits", "probabilities"],
        dynamic_shapes=_BATCH,
    )
    assert made is not None
    made.model.metadata_props.update(
        {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in description.items()
        }
    )
    return made.model_proto.SerializeToString()


def _run_onnx(content: bytes, images: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": images})[0]


def _to_pt2(program: torch.export.ExportedProgram, description: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(
        program, buffer, extra_files={"model.json": json.dumps(description, indent=2)}
    )
    return buffer.getvalue()


def _run_pt2(content: bytes, images: np.ndarray) -> np.ndarray:
    program = torch.export.load(io.BytesIO(content))
    return program.module()(torch.from_numpy(images))["logits"].numpy()


@dataclass(frozen=True)
class _Form:
    """A file format: ending, required packages, and functions to write and run it."""

    suffix: str
    packages: tuple[str, ...]
    write: Callable[[torch.export.ExportedProgram, Mapping[str, Any]], bytes]
    run: Callable[[bytes, np.ndarray], np.ndarray]


_FORMS = {
    "onnx": _Form(".onnx", ("onnx", "onnxscript", "onnxruntime"), _to_onnx, _run_onnx),
    "torch-export": _Form(".pt2", (), _to_pt2, _run_pt2),
}


def _form(path: Path, name: str | None) -> _Form:
    if name is not None and name not in _FORMS:
        raise OutcropError("`format`", f"there is no '{name}'; take {' or '.join(_FORMS)}")
    by_ending = {form.suffix: form for form in _FORMS.values()}
    found = _FORMS[name] if name else by_ending.get(path.suffix.lower())
    if found is None:
        endings = " or ".join(by_ending)
        raise OutcropError(
            path, f"its ending tells no format; let it end in {endings}, or pass `format`"
        )
    return found


def _check(
    path: Path, model: Model, whole: nn.Module, run: Callable[[np.ndarray], np.ndarray]
) -> None:
    images = _probes(model)
    with torch.inference_mode():
        found = whole(torch.from_numpy(images))
    wanted = found["logits"].numpy()
    if isinstance(model, ClassicalModel):
        # What is exported says in other words what the model is.
        usual = slice(0, _USUAL)
        worst = np.abs(found["probabilities"].numpy() - model.predict_proba(images))[usual].max()
        if worst > _TOLERANCE:
            raise OutcropError(
                path, f"its probabilities differ by {worst:.1g} from the model's; report this"
            )
    for n in (1, len(images)):
        given = run(images[:n])
        if not np.allclose(given, wanted[:n], _TOLERANCE, _TOLERANCE, equal_nan=True):
            worst = np.abs(given - wanted[:n]).max()
            raise OutcropError(
                path, f"its logits differ by {worst:.1g} from the classifier's; report this"
            )


def _probes(model: Model) -> np.ndarray:
    """Test images: normal ones, much too bright or dark ones, with gaps, and empty."""
    mean, std = (np.reshape(numbers, (-1, 1, 1)) for numbers in _spread(model))
    shape = (12, len(model.bands), *model.size)
    images = mean + std * np.random.default_rng(0).standard_normal(shape)
    images[4:6] += 1000 * std
    images[6:8] -= 1000 * std
    images[8:10, ..., ::2] = np.nan
    images[9, ..., ::3] = np.inf
    images[10] = np.nan
    images[11] = 0
    return images.astype(np.float32)


def _spread(model: Model) -> tuple[Sequence[float], Sequence[float]]:
    """A typical value of each band, and the typical deviation from it."""
    if isinstance(model, Classifier):
        return model.normalisation.mean, model.normalisation.std
    known = model.trained_on.values if model.trained_on else ()
    middle = [one.median for one in known] or [0.0] * len(model.bands)
    return middle, [(one.high - one.low) / 4 or 1.0 for one in known] or [1.0] * len(middle)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress log messages and warnings of the exporters."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
