"""`Classifier`: a trained network with all that is needed to use it on new patches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from outcrop.errors import OutcropError
from outcrop.files import read_json, write_json
from outcrop.models.architectures import ResidualNet
from outcrop.training.checkpoint import write_tensors
from outcrop.training.device import pick_device
from outcrop.training.normalise import Normalisation
from outcrop.training.pictures import to_tensor

_FORMAT = "outcrop model"
_VERSION = 1


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network, the classes it tells apart, and the patches it expects.

    Attributes:
        network: the description that `module` was built from.
        module: the network with its weights.
        classes: the class names, in the order of the logits.
        bands: the names of the bands, in the order of the channels.
        normalisation: of the training side.
        size: height and width of the patches it was trained on, in pixels.
        flip: average the probabilities of a patch and its mirror image.
    """

    network: ResidualNet
    module: torch.nn.Module
    classes: tuple[str, ...]
    bands: tuple[str, ...]
    normalisation: Normalisation
    size: tuple[int, int]
    flip: bool = False

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.module.parameters()).device

    @property
    def description(self) -> dict[str, Any]:
        """All but the weights, as JSON holds it."""
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "network": asdict(self.network),
            "classes": list(self.classes),
            "bands": list(self.bands),
            "normalisation": asdict(self.normalisation),
            "size": list(self.size),
            "flip": self.flip,
        }

    def probabilities(self, images: np.ndarray, batch: int = 512) -> np.ndarray:
        """The probability of each class for each patch.

        Args:
            images: `N × bands × height × width` in the source's units, any number type; NaN and
                infinite pixels count as no data.
            batch: patches computed at once; fewer need less memory.

        Returns:
            float32, `N × classes`; rows sum to 1.

        Raises:
            OutcropError: another number of bands, or another size, than it was trained on.
        """
        self._check(images.shape)
        found = np.empty((len(images), len(self.classes)), dtype=np.float32)
        was_training = self.module.training
        self.module.eval()
        with torch.inference_mode():
            for start in range(0, len(images), batch):
                part = to_tensor(images[start : start + batch]).to(self.device)
                given = probabilities(self.module, self.normalisation(part), self.flip)
                found[start : start + batch] = given.cpu().numpy()
        self.module.train(was_training)
        return found

    def _check(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 4:
            raise OutcropError("images", f"must be N × bands × height × width, not {shape}")
        if shape[1] != len(self.bands):
            raise OutcropError(
                "images",
                f"model wants {len(self.bands)} bands ({', '.join(self.bands)}), got {shape[1]}; "
                "choose the bands it was trained on",
            )
        if shape[2:] != self.size:
            wanted, got = (f"{height} × {width}" for height, width in (self.size, shape[2:]))
            raise OutcropError(
                "images", f"model wants patches of {wanted} pixels, got {got}; cut them anew"
            )

    def save(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `model.json` into an existing folder.

        Raises:
            OutcropError: the folder is missing, or the disk is full.
        """
        folder = Path(folder)
        write_tensors(folder / "model.safetensors", self.module.state_dict())
        write_json(folder / "model.json", self.description)


def probabilities(
    module: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, flip: bool
) -> torch.Tensor:
    """float32 `M × classes`; with `flip`, the mean over a picture and its mirror image."""
    found = module(images).float().softmax(dim=1)
    if flip:
        found = (found + module(images.flip(3)).float().softmax(dim=1)) / 2
    return found


def read_classifier(folder: str | Path, device: str = "auto") -> Classifier:
    """Read what `Classifier.save` wrote. Nothing that is read is executed.

    Raises:
        OutcropError: missing, damaged or foreign files; no such device.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise OutcropError(folder, "no such model folder; make one with `outcrop train`")
    target = pick_device(device)
    content = read_json(folder / "model.json", "model", "train")
    try:
        if (content["format"], content["version"]) != (_FORMAT, _VERSION):
            raise KeyError("format")
        network = ResidualNet(**content["network"])
        bands, classes = tuple(content["bands"]), tuple(content["classes"])
        height, width = map(int, content["size"])
        flip = bool(content.get("flip", False))
        mean, std = (tuple(map(float, content["normalisation"][key])) for key in ("mean", "std"))
        if not len(bands) == len(mean) == len(std):
            raise ValueError("bands and normalisation differ in number")
    except (KeyError, TypeError, ValueError, OutcropError) as error:
        raise OutcropError(
            folder / "model.json", f"is not a model of this outcrop ({error}); train it anew"
        ) from error
    return Classifier(
        network=network,
        module=_read_weights(folder / "model.safetensors", network, bands, classes).to(target),
        classes=classes,
        bands=bands,
        normalisation=Normalisation(mean, std),
        size=(height, width),
        flip=flip,
    )


def _read_weights(
    path: Path, network: ResidualNet, bands: tuple[str, ...], classes: tuple[str, ...]
) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        module = network.build(len(bands), len(classes))
    try:
        module.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise OutcropError(path, "no such weights; train the model anew") from None
    except (SafetensorError, RuntimeError, OSError) as error:
        raise OutcropError(
            path, "is damaged or belongs to another model; train the model anew"
        ) from error
    return module.eval()
