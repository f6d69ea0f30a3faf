"""`VaeGan`: the description of networks that learn the pictures themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from outcrop.errors import OutcropError

SIZES = (32, 64, 128)
_TITLES = {
    "vaegan": "VAE-GAN",
    "vae": "VAE",
    "gan": "GAN",
    "vae-dis": "VAE with a learned metric",
}
_PAPER_FILTERS = 64


@dataclass(frozen=True)
class VaeGan:
    """A variational autoencoder and a GAN that share their decoder, or parts of the two.

    Source: Larsen, Sønderby, Larochelle and Winther 2016, Autoencoding beyond pixels using a
    learned similarity metric (arXiv:1512.09300), table 1, which is for pictures of 64 pixels. For
    32 the same layers work on half the grid; for 128 the widest of them stands once more.

    Attributes:
        parts: "vaegan": encoder, decoder and discriminator; "vae": encoder and decoder, which
            compare pixels; "gan": decoder and discriminator; "vae-dis": a VAE that compares what
            the discriminator of a GAN sees, which was trained before and learns no more.
        latent: numbers in the code of a picture.
        filters: of the encoder's first layer, 64 in the paper; all other layers are as much wider
            or narrower.
        spectral: in the discriminator, normalise the weights by their largest singular value
            (Miyato et al. 2018, arXiv:1802.05957) and not the batch.

    Raises:
        OutcropError: a number out of its range, or an unknown word.

    >>> VaeGan("gan").has_encoder
    False
    """

    parts: Literal["vaegan", "vae", "gan", "vae-dis"] = "vaegan"
    latent: int = 128
    filters: int = _PAPER_FILTERS
    spectral: bool = False

    def __post_init__(self) -> None:
        for name, good, range_ in (
            ("parts", self.parts in _TITLES, ", ".join(_TITLES)),
            ("latent", self.latent >= 1, "1 or more; the default is 128"),
            ("filters", self.filters >= 4, "4 or more; the paper has 64"),
            ("spectral", not self.spectral or self.has_discriminator, "false without a GAN"),
        ):
            if not good:
                raise OutcropError(f"--{name}", f"is {getattr(self, name)}; take {range_}")

    @property
    def has_encoder(self) -> bool:
        """Whether pictures can be turned into codes."""
        return self.parts != "gan"

    @property
    def has_discriminator(self) -> bool:
        """Whether there is a network that tells real pictures from generated ones."""
        return self.parts != "vae"

    @property
    def plays(self) -> bool:
        """Whether decoder and discriminator learn against each other."""
        return self.parts in ("vaegan", "gan")

    @property
    def title(self) -> str:
        """What a table calls it."""
        return _TITLES[self.parts]

    @staticmethod
    def check_size(size: tuple[int, int]) -> None:
        """Refuse pictures that the layers do not fit.

        Raises:
            OutcropError: they are not squares of 32, 64 or 128 pixels.
        """
        height, width = size
        if height != width or height not in SIZES:
            raise OutcropError(
                "patches",
                f"are of {height} × {width} pixels; networks that learn pictures take squares of "
                f"{', '.join(map(str, SIZES[:-1]))} or {SIZES[-1]}, cut them anew with --size",
            )

    def halvings(self, size: int) -> int:
        """How often the encoder halves a picture of `size` pixels.

        >>> [VaeGan().halvings(size) for size in SIZES]
        [3, 3, 4]
        """
        return 4 if size == 128 else 3

    def scaled(self, filters: int) -> int:
        """So many filters of the paper, as many here.

        >>> VaeGan(filters=16).scaled(2048)
        512
        """
        return max(1, filters * self.filters // _PAPER_FILTERS)

    def features(self, size: int) -> int:
        """How many features of a picture of `size` pixels the discriminator compares.

        >>> VaeGan().features(32), VaeGan().features(64)
        (4096, 16384)
        """
        return self.scaled(256) * (size >> self.halvings(size)) ** 2


PARTS = tuple(_TITLES)
