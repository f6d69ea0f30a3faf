"""`VaeGanModel`: trained networks, ready for new patches; `VaeGanRun`: the folder of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from outcrop.errors import OutcropError
from outcrop.files import decoding
from outcrop.generative.grids import to_rgb
from outcrop.generative.metrics import VaeGanMetrics
from outcrop.generative.networks import Networks, build
from outcrop.generative.settings import VaeGan
from outcrop.patches.patchset import PatchSet
from outcrop.splits.split import Split, read_split
from outcrop.training.checkpoint import load_model, save_model
from outcrop.training.device import exact_convolutions, pick_device
from outcrop.training.folder import PICTURE_MODEL, is_finished, read_config, read_description
from outcrop.training.log import read_lines
from outcrop.training.normalise import Normalisation
from outcrop.training.pictures import to_tensor
from outcrop.typed import typed

_VERSION = 1
_BATCH = 512


@dataclass(frozen=True, eq=False)
class VaeGanModel:
    """Trained generative networks, and a description of their images.

    Attributes:
        network: description of the networks.
        networks: the networks with their weights.
        bands: names of the bands.
        scale: normalisation of each band to -1 to 1.
        size: height and width of the images in pixels.
        dtype: number type of the patches and of decoded images.
    """

    network: VaeGan
    networks: Networks
    bands: tuple[str, ...]
    scale: Normalisation
    size: int
    dtype: str

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return next(self.networks.parameters()).device

    def encode(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The Gaussian distribution of the code of each image.

        Args:
            images: `N × bands × size × size` in the source's units, of any number type. Missing
                pixels count as the middle of the band's range.

        Returns:
            Mean and log-variance, float32, `N × latent` each.

        Raises:
            OutcropError: a GAN, which has no encoder; images of another shape.
        """
        encoder = self.networks.encoder
        if encoder is None:
            raise OutcropError(
                "model", f"a {self.network.title} has no encoder; train one with `parts='vaegan'`"
            )
        found = self._apply(self._batches(images), lambda x: torch.cat(encoder(x), dim=1))
        mean, log_variance = np.split(found, 2, axis=1)
        return mean, log_variance

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The image of each code, `N × latent`, in the source's units and number type."""
        given = torch.from_numpy(np.asarray(codes, dtype=np.float32))
        centre, half = (
            np.asarray(ends, dtype=np.float32)[:, None, None]
            for ends in (self.scale.mean, self.scale.std)
        )
        values = self._apply(given.split(_BATCH), self.networks.decoder) * half + centre
        if np.dtype(self.dtype).kind in "iu":
            ends = np.iinfo(self.dtype)
            values = np.clip(np.rint(values), ends.min, ends.max)
        return values.astype(self.dtype)

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """The reconstruction of each image: the decoded mean of its code.

        Raises:
            OutcropError: as for `encode`.
        """
        return self.decode(self.encode(images)[0])

    def sample(self, number: int, seed: int = 0) -> np.ndarray:
        """Samples: images of random codes from the prior."""
        return self.decode(self.sample_codes(number, seed))

    def sample_codes(self, number: int, seed: int = 0) -> np.ndarray:
        """Random codes from the prior: float32, `number × latent`."""
        rng = np.random.default_rng(seed)
        return rng.standard_normal((number, self.network.latent), dtype=np.float32)

    def features(self, images: np.ndarray) -> np.ndarray:
        """The discriminator's features of each image: float32, `N × features`.

        Raises:
            OutcropError: a VAE, which has no discriminator; images of another shape.
        """
        discriminator = self.networks.discriminator
        if discriminator is None:
            raise OutcropError("model", f"a {self.network.title} has no discriminator")
        return self._apply(self._batches(images), lambda x: discriminator(x)[0])

    def normalised(self, images: np.ndarray) -> np.ndarray:
        """Images in the source's units, as input of the networks: float32 from -1 to 1."""
        return self.scale(to_tensor(images)).clamp(-1, 1).numpy()

    def pictures(self, images: np.ndarray) -> np.ndarray:
        """Images in the source's units, in colour: uint8, `N × size × size × 3`."""
        return to_rgb(self.normalised(images), self.bands)

    def save(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `model.json` into an existing folder.

        Raises:
            OutcropError: the folder is missing, or the disk is full.
        """
        description = {
            "format": PICTURE_MODEL.model,
            "version": _VERSION,
            "network": asdict(self.network),
            "bands": self.bands,
            "scale": asdict(self.scale),
            "size": self.size,
            "dtype": self.dtype,
        }
        save_model(Path(folder), self.networks, description)

    def _batches(self, images: np.ndarray) -> Iterator[Tensor]:
        needed = (len(self.bands), self.size, self.size)
        if images.shape[1:] != needed:
            raise OutcropError(
                "images",
                f"have the shape {' × '.join(map(str, images.shape))}; the model needs "
                f"N × {' × '.join(map(str, needed))}; cut the patches again",
            )
        starts = range(0, len(images), _BATCH)
        parts = (to_tensor(images[k : k + _BATCH]).to(self.device) for k in starts)
        return (self.scale(part).clamp(-1, 1) for part in parts)

    def _apply(self, batches: Any, function: Callable[[Tensor], Tensor]) -> np.ndarray:
        """The outputs of a network in evaluation mode.

        Raises:
            OutcropError: an output is not finite, because the training diverged.
        """
        training = [module for module in self.networks.modules() if module.training]
        self.networks.eval()
        with torch.inference_mode(), exact_convolutions():
            found = [function(batch.to(self.device)).float().cpu() for batch in batches]
        for module in training:
            module.training = True
        together = torch.cat(found)
        if not together.isfinite().all():
            raise OutcropError(
                "model", "gives values that are not finite; train it with a smaller `learning_rate`"
            )
        return together.numpy()


def read_vaegan(folder: str | Path, device: str = "auto") -> VaeGanModel:
    """Read a model that `VaeGanModel.save` wrote. No code in the files is executed.

    Raises:
        OutcropError: files are missing, damaged or of another program; a classifier; no such
            device.
    """
    folder, target = Path(folder), pick_device(device)
    _, content = read_description(folder, PICTURE_MODEL)
    with decoding(folder / "model.json", "a model of this outcrop", "train it again"):
        if content["version"] != _VERSION:
            raise ValueError("another version")
        network = typed(VaeGan, content["network"], "network")
        bands = typed(tuple[str, ...], content["bands"], "bands")
        size = typed(int, content["size"], "size")
        scale = typed(Normalisation, content["scale"], "scale")
        if not len(bands) == len(scale.mean) == len(scale.std):
            raise ValueError("bands and scale differ in number")
        network.check_size((size, size))
        dtype = np.dtype(typed(str, content["dtype"], "dtype")).name
    networks = load_model(folder, content, lambda: build(network, len(bands), size))
    networks.to(target, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return VaeGanModel(network, networks, bands, scale, size, dtype)


@dataclass(frozen=True, eq=False)
class VaeGanRun:
    """A finished training of generative networks.

    Attributes:
        folder: the run folder.
        model: the networks after the last epoch.
        metrics: the metrics of each epoch.
        config: the configuration of the training.
    """

    folder: Path
    model: VaeGanModel
    metrics: tuple[VaeGanMetrics, ...]
    config: dict[str, Any]

    @cached_property
    def split(self) -> Split:
        """The split of the patches."""
        return read_split(self.folder / "split.json")

    @property
    def judged(self) -> bool:
        """Whether the training measured samples by the features of a judge."""
        judge_alone = [] if self.model.network.has_discriminator else ["feature_error"]
        return any(
            getattr(epoch, name) is not None
            for epoch in self.metrics
            for name in ("frechet", "precision", *judge_alone)
        )

    def check_patches(self, patches: PatchSet) -> None:
        """Check that the run was trained on these patches.

        Raises:
            OutcropError: it was trained on another patch set.
        """
        if patches.fingerprint != self.config["patches"]["fingerprint"]:
            raise OutcropError(
                "patches", f"are not those that {self.folder} was trained on; take the same set"
            )


def read_vaegan_run(folder: str | Path | VaeGanRun, device: str = "auto") -> VaeGanRun:
    """Open the folder of a finished training; a run is returned as it is.

    Raises:
        OutcropError: files are missing, damaged or of another program; the training is not
            finished; a run of a classifier.
    """
    if isinstance(folder, VaeGanRun):
        return folder
    folder = Path(folder)
    config = read_config(folder, PICTURE_MODEL)
    if not is_finished(folder):
        raise OutcropError(
            folder, "is not finished; continue it with `outcrop.train_vaegan(resume=True)`"
        )
    metrics = read_lines(folder / "metrics.jsonl", VaeGanMetrics)
    return VaeGanRun(folder, read_vaegan(folder, device), metrics, config)
