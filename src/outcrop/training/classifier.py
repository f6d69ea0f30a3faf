"""`Classifier`: a trained network as a `Model`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from outcrop.files import decoding
from outcrop.models.architectures import Network, network_json, network_of_json
from outcrop.models.factory import NetworkModule, build
from outcrop.training.augment import nearest
from outcrop.training.checkpoint import checksum, load_model, save_model
from outcrop.training.device import exact_convolutions, pick_device
from outcrop.training.folder import CLASSIFIER, read_description
from outcrop.training.model import Model, check_images, described, from_description
from outcrop.training.normalise import Normalisation
from outcrop.training.pictures import Pictures, to_tensor
from outcrop.training.recipe import LabelOf
from outcrop.typed import typed


@dataclass(frozen=True, eq=False)
class Classifier(Model):
    """A trained network with its classes and the patches it expects.

    Attributes:
        flip: average the probabilities of a patch and its mirror image, about the labelled pixel or
            the middle of the image (`label_of`).
    """

    network: Network
    module: NetworkModule
    normalisation: Normalisation
    flip: bool = False

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.module.parameters()).device

    @property
    def title(self) -> str:
        """The name of the network."""
        return self.network.title

    @property
    def identity(self) -> str:
        """The checksum of the weights."""
        return f"{checksum(self.module.state_dict()):08x}"

    @property
    def description(self) -> dict[str, Any]:
        """Everything but the weights, as JSON."""
        return {
            **described(self, CLASSIFIER),
            "network": network_json(self.network),
            "normalisation": asdict(self.normalisation),
            "flip": self.flip,
        }

    def _in_order(self, order: Sequence[int], back: Sequence[int]) -> dict[str, Any]:
        mean, std = (
            tuple(values[i] for i in back)
            for values in (self.normalisation.mean, self.normalisation.std)
        )
        return {"module": self.module.in_order(back), "normalisation": Normalisation(mean, std)}

    def predict_proba(self, images: np.ndarray, batch: int = 512) -> np.ndarray:
        """See `Model`; `batch` is the number of patches computed at once."""
        return self.probabilities_and_features(images, batch)[0]

    def probabilities_and_features(
        self, images: np.ndarray, batch: int = 512
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Model` and `see`; `batch` is the number of patches computed at once."""
        check_images(self, images.shape)
        found = np.empty((len(images), len(self.classes)), dtype=np.float32)
        features = np.empty((len(images), self.module.channels), dtype=np.float32)
        was_training = self.module.training
        self.module.eval()
        with torch.inference_mode():
            for start in range(0, len(images), batch):
                part = to_tensor(images[start : start + batch]).to(self.device)
                for whole, its in zip((found, features), self.see(part), strict=True):
                    whole[start : start + batch] = its.cpu().numpy()
        self.module.train(was_training)
        return found, features

    def features(self, pictures: Pictures, batch: int = 512) -> np.ndarray:
        """Features of loaded images, as `probabilities_and_features` gives them."""
        parts = [pictures.all[start : start + batch] for start in range(0, len(pictures), batch)]
        self.module.eval()
        with torch.inference_mode():
            found = [self.see(images)[1].cpu().numpy() for images, _ in pictures.batches(parts)]
        return np.concatenate([np.empty((0, self.module.channels), np.float32), *found])

    def see(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Calibrated probabilities and features of one batch, on the device of the network.

        The features are the input of the last layer; with `flip` their mean over a patch and its
        mirror image.

        Args:
            images: `M × bands × height × width`, not yet normalised.

        Returns:
            float32, `M × classes` and `M × channels`.
        """
        with exact_convolutions():
            outputs = [
                self.module.logits_and_features(view)
                for view in views(self.normalisation(images), self.flip, self.label_of)
            ]
        logits, features = zip(*outputs, strict=True)
        likely = (mean_logits(logits) / self.temperature).softmax(dim=1)
        return likely, torch.stack(features).mean(dim=0)

    def save(self, folder: str | Path) -> None:
        """See `Model`."""
        save_model(Path(folder), self.module, self.description)


def averaged_probabilities(
    module: Callable[[Tensor], Tensor], images: Tensor, flip: bool, label_of: LabelOf
) -> Tensor:
    """Probabilities before calibration, float32 `M × classes`; with `flip` the mean over an image
    and its mirror image."""
    return mean_logits([module(view) for view in views(images, flip, label_of)]).softmax(dim=1)


def views(images: Tensor, flip: bool, label_of: LabelOf) -> tuple[Tensor, ...]:
    """The images that the network evaluates: the images, and with `flip` their mirror images.

    Images are mirrored as in training (`outcrop.training.augment.move`): about the labelled pixel
    or the middle of the image.
    """
    if not flip:
        return (images,)
    if label_of == "image" or images.shape[3] % 2:
        return images, images.flip(3)
    first = nearest(images.shape[3])
    return images, torch.cat([images[..., first, None], images[..., 1:].flip(3)], dim=3)


def mean_logits(logits: Sequence[Tensor]) -> Tensor:
    """Logits, float32, whose softmax is the mean of the softmaxes of several."""
    if len(logits) == 1:
        return logits[0].float()
    # In logarithms, because small probabilities would underflow.
    each = torch.stack(list(logits)).float().log_softmax(dim=2)
    return each.logsumexp(dim=0) - math.log(len(logits))


def read_classifier(folder: str | Path, device: str = "auto") -> Classifier:
    """Read a classifier that `Classifier.save` wrote. No code in the files is executed.

    Raises:
        OutcropError: files are missing, damaged or not of outcrop; a model of another kind; no such
            device.
    """
    folder = Path(folder)
    target = pick_device(device)
    _, content = read_description(folder, CLASSIFIER)
    with decoding(folder / "model.json", "a model of this outcrop", "train it anew"):
        shared = from_description(content)
        description = typed(dict[str, Any], content["network"], "network")
        network = None if "factory" in description else network_of_json(description)
        flip = typed(bool, content.get("flip", False), "flip")
        normalisation = typed(Normalisation, content["normalisation"], "normalisation")
        if not len(shared["bands"]) == len(normalisation.mean) == len(normalisation.std):
            raise ValueError("bands and normalisation differ in number")
    if network is None:
        network = network_of_json(description)
    numbers = len(shared["bands"]), len(shared["classes"])
    module = load_model(folder, content, lambda: build(network, *numbers, shared["size"]))
    return Classifier(network, module.to(target), normalisation, flip, **shared)
