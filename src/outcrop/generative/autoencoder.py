"""Encoder, decoder and discriminator in torch, after table 1 of Larsen et al. 2016."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from outcrop.generative.network import VaeGan

_KERNEL = 5
_DEVIATION = 0.02

_Layer = nn.Conv2d | nn.ConvTranspose2d | nn.Linear


class Encoder(nn.Module):
    """From a picture to the Gaussian of its code.

    Strided convolutions of 64, 128 and 256 filters, a fully connected layer of 2048, and one that
    gives mean and log-variance, of which the paper does not speak.
    """

    def __init__(self, network: VaeGan, bands: int, size: int) -> None:
        super().__init__()
        filters = _filters(network, (64, 128, 256), size)
        grid, wide = _grid(network, size), network.scaled(2048)
        self.layers = nn.Sequential(
            OrderedDict(
                (f"down{k}", _down(inputs, outputs))
                for k, (inputs, outputs) in enumerate(_pairs(bands, filters))
            )
        )
        self.wide = _connected(filters[-1] * grid * grid, wide)
        self.code = _begun(nn.Linear(wide, 2 * network.latent))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """`N × bands × size × size` in -1 to 1, to mean and log-variance, `N × latent` each."""
        found = self.code(self.wide(self.layers(pictures).flatten(1)))
        mean, log_variance = found.chunk(2, dim=1)
        return mean, log_variance


class Decoder(nn.Module):
    """From a code to a picture: the GAN's generator."""

    def __init__(self, network: VaeGan, bands: int, size: int) -> None:
        super().__init__()
        up = _filters(network, (256, 128, 32), size)
        self.grid = _grid(network, size)
        self.first = network.scaled(256)
        self.wide = _connected(network.latent, self.first * self.grid * self.grid)
        self.layers = nn.Sequential(
            OrderedDict(
                (f"up{k}", _up(inputs, outputs))
                for k, (inputs, outputs) in enumerate(_pairs(self.first, up))
            )
        )
        self.picture = _begun(nn.Conv2d(up[-1], bands, _KERNEL, padding=_KERNEL // 2))

    def forward(self, codes: Tensor) -> Tensor:
        """`N × latent` to `N × bands × size × size` in -1 to 1."""
        grid = self.wide(codes).view(-1, self.first, self.grid, self.grid)
        return self.picture(self.layers(grid)).tanh()


class Discriminator(nn.Module):
    """Whether a picture is real; and, in its inner features, what it is like."""

    def __init__(self, network: VaeGan, bands: int, size: int) -> None:
        super().__init__()
        filters = _filters(network, (128, 256, 256), size)
        grid, wide = _grid(network, size), network.scaled(512)
        first = network.scaled(32)
        spectral = network.spectral
        convolution = _begun(nn.Conv2d(bands, first, _KERNEL, padding=_KERNEL // 2), spectral)
        self.layers = nn.Sequential(
            OrderedDict(
                [
                    ("first", nn.Sequential(convolution, nn.ReLU())),
                    *(
                        (f"down{k}", _down(inputs, outputs, spectral))
                        for k, (inputs, outputs) in enumerate(_pairs(first, filters))
                    ),
                ]
            )
        )
        # Spectrally normalised layers make features small, which a Gaussian of unit variance would
        # take for alike. Those behind batch normalisation have the right size.
        self.compared = nn.BatchNorm2d(filters[-1], affine=False) if spectral else nn.Identity()
        self.wide = _connected(filters[-1] * grid * grid, wide, spectral)
        self.verdict = _begun(nn.Linear(wide, 1), spectral)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """`N × bands × size × size` in -1 to 1, to features and logits that they are real.

        The features are those of the last convolution, where the picture has been halved three
        times (section 4.1), or four times at 128 pixels.

        Returns:
            `N × features`, flat, and `N`.
        """
        hidden = self.layers(pictures)
        verdicts = self.verdict(self.wide(hidden.flatten(1))).squeeze(1)
        return self.compared(hidden).flatten(1), verdicts


class PictureNetworks(nn.Module):
    """Encoder, decoder and discriminator, as many of them as there are.

    Attributes:
        decoder, encoder, discriminator: the networks; None where the description has none.
    """

    def __init__(
        self, decoder: Decoder, encoder: Encoder | None, discriminator: Discriminator | None
    ) -> None:
        super().__init__()
        self.decoder, self.encoder, self.discriminator = decoder, encoder, discriminator


def _down(inputs: int, outputs: int, spectral: bool = False) -> nn.Sequential:
    """A convolution that halves, and what follows it."""
    convolution = nn.Conv2d(inputs, outputs, _KERNEL, 2, padding=_KERNEL // 2, bias=spectral)
    return _normalised(convolution, nn.BatchNorm2d(outputs), spectral)


def _up(inputs: int, outputs: int) -> nn.Sequential:
    """A transposed convolution that doubles, and what follows it."""
    convolution = nn.ConvTranspose2d(
        inputs, outputs, _KERNEL, 2, padding=_KERNEL // 2, output_padding=1, bias=False
    )
    return _normalised(convolution, nn.BatchNorm2d(outputs))


def _connected(inputs: int, outputs: int, spectral: bool = False) -> nn.Sequential:
    return _normalised(nn.Linear(inputs, outputs, bias=spectral), nn.BatchNorm1d(outputs), spectral)


def _normalised(layer: _Layer, norm: nn.Module, spectral: bool = False) -> nn.Sequential:
    begun = _begun(layer, spectral)
    return nn.Sequential(begun, nn.ReLU()) if spectral else nn.Sequential(begun, norm, nn.ReLU())


def _begun(layer: _Layer, spectral: bool = False) -> nn.Module:
    """A layer with its first weights, after Radford et al. 2016 (arXiv:1511.06434), section 4.

    torch's own are smaller, and behind batch normalisation small weights learn fast: too fast for
    two networks that learn against each other.
    """
    nn.init.normal_(layer.weight, std=_DEVIATION)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return spectral_norm(layer) if spectral else layer


def _filters(network: VaeGan, filters: Sequence[int], size: int) -> list[int]:
    """Those of each halving; a fourth one has the widest of the three once more."""
    more = [max(filters)] * (network.halvings(size) - len(filters))
    rising = filters[0] < filters[-1]
    return [network.scaled(f) for f in ((*filters, *more) if rising else (*more, *filters))]


def _grid(network: VaeGan, size: int) -> int:
    """Height and width of a picture after all halvings."""
    return size >> network.halvings(size)


def _pairs(first: int, filters: Sequence[int]) -> list[tuple[int, int]]:
    """What enters and what leaves each layer."""
    return list(zip([first, *filters], filters, strict=False))


def build(network: VaeGan, bands: int, size: int) -> PictureNetworks:
    """Build the networks; their weights are drawn from the global generator of torch.

    Args:
        network: their description.
        bands: number of bands of an image.
        size: height and width of an image.
    """
    return PictureNetworks(
        Decoder(network, bands, size),
        Encoder(network, bands, size) if network.has_encoder else None,
        Discriminator(network, bands, size) if network.has_discriminator else None,
    )
