"""`VaeGanModel`: trained networks with all that is needed to use them on new patches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from outcrop.errors import OutcropError
from outcrop.files import decoding, file_hash, read_json, write_json
from outcrop.generative.autoencoder import PictureNetworks, build
from outcrop.generative.network import VaeGan
from outcrop.training.checkpoint import check_weights, load_weights, write_tensors
from outcrop.training.device import exact_convolutions, pick_device
from outcrop.training.folder import PICTURE_MODEL, kind_of_model
from outcrop.training.normalise import Normalisation
from outcrop.training.pictures import to_tensor
from outcrop.typed import typed

_VERSION = 1
_BATCH = 512


@dataclass(frozen=True, eq=False)
class VaeGanModel:
    """Networks that have learnt pictures, and the pictures they know.

    Attributes:
        network: the description of the networks.
        networks: with their weights.
        bands: the names of the bands.
        scale: brings pictures into -1 to 1.
        size: height and width of the pictures in pixels.
        dtype: the number type of the patches, which decoded pictures have too.
    """

    network: VaeGan
    networks: PictureNetworks
    bands: tuple[str, ...]
    scale: Normalisation
    size: int
    dtype: str

    @property
    def device(self) -> torch.device:
        """Where the networks compute."""
        return next(self.networks.parameters()).device

    @property
    def description(self) -> dict[str, Any]:
        """All but the weights, as JSON holds it."""
        return {
            "format": PICTURE_MODEL.model,
            "version": _VERSION,
            "network": asdict(self.network),
            "bands": list(self.bands),
            "scale": asdict(self.scale),
            "size": self.size,
            "dtype": self.dtype,
        }

    def encode(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The Gaussian of each picture's code.

        Args:
            images: `N × bands × size × size` in the source's units, any number type; no data is
                taken for the middle of the band's range.

        Returns:
            Mean and log-variance, float32, `N × latent` each.

        Raises:
            OutcropError: a GAN, which has no encoder; pictures of another shape.
        """
        encoder = self.networks.encoder
        if encoder is None:
            raise OutcropError(
                "model", f"a {self.network.title} has no encoder; train `--model vaegan`"
            )
        self._check(images.shape)
        found = self._each(self._pictures(images), lambda x: torch.cat(encoder(x), dim=1))
        mean, log_variance = np.split(found, 2, axis=1)
        return mean, log_variance

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The picture of each code, `N × latent`, in the source's units and number type."""
        wanted = torch.from_numpy(np.asarray(codes, dtype=np.float32))
        drawn = self._each(wanted.split(_BATCH), self.networks.decoder)
        return self.in_units(drawn)

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """Each picture as the decoder draws the mean of its code.

        Raises:
            OutcropError: as `encode`.
        """
        return self.decode(self.encode(images)[0])

    def sample(self, number: int, seed: int = 0) -> np.ndarray:
        """Pictures of codes that are drawn from the prior."""
        return self.decode(self.draw(number, seed))

    def draw(self, number: int, seed: int = 0) -> np.ndarray:
        """Codes from the prior: float32, `number × latent`."""
        random = np.random.default_rng(seed)
        return random.standard_normal((number, self.network.latent), dtype=np.float32)

    def features(self, images: np.ndarray) -> np.ndarray:
        """What the discriminator sees of each picture: float32, `N × features`.

        Raises:
            OutcropError: a VAE, which has no discriminator; pictures of another shape.
        """
        discriminator = self.networks.discriminator
        if discriminator is None:
            raise OutcropError("model", f"a {self.network.title} has no discriminator")
        self._check(images.shape)
        return self._each(self._pictures(images), lambda x: discriminator(x)[0])

    def in_units(self, drawn: np.ndarray) -> np.ndarray:
        """Pictures in -1 to 1 in the source's units and number type."""
        centre, half = (
            np.asarray(ends, dtype=np.float32)[:, None, None]
            for ends in (self.scale.mean, self.scale.std)
        )
        pictures = drawn * half + centre
        dtype = np.dtype(self.dtype)
        if dtype.kind in "iu":
            ends = np.iinfo(dtype)
            pictures = np.clip(np.rint(pictures), ends.min, ends.max)
        return pictures.astype(dtype)

    def in_range(self, images: np.ndarray) -> np.ndarray:
        """Pictures in the source's units as the networks see them: float32 in -1 to 1."""
        return self.scale(to_tensor(images)).clamp(-1, 1).numpy()

    def save(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `model.json` into an existing folder.

        Raises:
            OutcropError: the folder is missing, or the disk is full.
        """
        folder = Path(folder)
        write_tensors(folder / "model.safetensors", self.networks.state_dict())
        write_json(
            folder / "model.json",
            {**self.description, "weights": file_hash(folder / "model.safetensors")},
        )

    def _pictures(self, images: np.ndarray) -> Iterator[Tensor]:
        for start in range(0, len(images), _BATCH):
            part = to_tensor(images[start : start + _BATCH]).to(self.device)
            yield self.scale(part).clamp(-1, 1)

    def _each(self, parts: Any, function: Callable[[Tensor], Tensor]) -> np.ndarray:
        """What a network gives for each part, as it does when nothing is learnt.

        Raises:
            OutcropError: it is not finite, because the training diverged.
        """
        learns = [module for module in self.networks.modules() if module.training]
        self.networks.eval()
        with torch.inference_mode(), exact_convolutions():
            found = [function(part.to(self.device)).float().cpu() for part in parts]
        for module in learns:
            module.training = True
        together = torch.cat(found)
        if not together.isfinite().all():
            raise OutcropError(
                "model", "gives what is no number; train it anew with a smaller --learning-rate"
            )
        return together.numpy()

    def _check(self, shape: tuple[int, ...]) -> None:
        wanted = (len(self.bands), self.size, self.size)
        if tuple(shape[1:]) != wanted:
            told = " × ".join(map(str, shape))
            raise OutcropError(
                "images",
                f"are {told}; the model wants N × {' × '.join(map(str, wanted))}, cut them anew",
            )


def read_vaegan(folder: str | Path, device: str = "auto") -> VaeGanModel:
    """Read what `VaeGanModel.save` wrote. Nothing that is read is executed.

    Raises:
        OutcropError: missing, damaged or foreign files; a classifier; no such device.
    """
    folder, target = Path(folder), pick_device(device)
    content = read_json(folder / "model.json", "model", "generative train")
    kind_of_model(folder, content, PICTURE_MODEL)
    with decoding(folder / "model.json", "a model of this outcrop", "train it anew"):
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
    check_weights(folder / "model.safetensors", content.get("weights"))
    networks = _read_weights(folder / "model.safetensors", network, len(bands), size)
    networks.to(target, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return VaeGanModel(network, networks, bands, scale, size, dtype)


def _read_weights(path: Path, network: VaeGan, bands: int, size: int) -> PictureNetworks:
    with torch.random.fork_rng(devices=[]):
        networks = build(network, bands, size)
    load_weights(networks, path)
    return networks.eval()
