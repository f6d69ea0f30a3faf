"""Encoder, decoder and discriminator in torch (Larsen et al. 2016, table 1), and their layers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

from outcrop.generative.settings import VaeGan

_KERNEL = 5
_DEVIATION = 0.02

_Layer = nn.Conv2d | nn.ConvTranspose2d | nn.Linear


class Encoder(nn.Module):
    """From an image to the Gaussian distribution of its code.

    Strided convolutions of 64, 128 and 256 filters, a fully connected layer of 2048, and a last
    layer for mean and log-variance, which the paper does not describe.
    """

    def __init__(self, network: VaeGan, bands: int, size: int) -> None:
        super().__init__()
        filters = _filters(network, (64, 128, 256), size)
        grid, wide = _grid(network, size), network.scaled(2048)
        self.layers = nn.Sequential(_chain("down", _down, bands, filters))
        self.wide = _connected(filters[-1] * grid * grid, wide)
        self.code = _initialised(nn.Linear(wide, 2 * network.latent))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images, `N × bands × size × size` in -1 to 1, to mean and log-variance, `N × latent`."""
        found = self.code(self.wide(self.layers(images).flatten(1)))
        mean, log_variance = found.chunk(2, dim=1)
        return mean, log_variance


class Decoder(nn.Module):
    """From a code to an image: the generator of the GAN."""

    def __init__(self, network: VaeGan, bands: int, size: int) -> None:
        super().__init__()
        up = _filters(network, (256, 128, 32), size)
        self.grid = _grid(network, size)
        self.first = network.scaled(256)
        self.wide = _connected(network.latent, self.first * self.grid * self.grid)
        self.layers = nn.Sequential(_chain("up", _up, self.first, up))
        # The names of layers are those of the weights in saved models.
        self.picture = _initialised(nn.Conv2d(up[-1], bands, _KERNEL, padding=_KERNEL // 2))

    def forward(self, codes: Tensor) -> Tensor:
        """Codes, `N × latent`, to images, `N × bands × size × size` in -1 to 1."""
        grid = self.wide(codes).view(-1, self.first, self.grid, self.grid)
        return self.picture(self.layers(grid)).tanh()


class Discriminator(nn.Module):
    """From an image to the logit that it is real, and to features for the reconstruction loss."""

    def __init__(self, network: VaeGan, bands: int, size: int) -> None:
        super().__init__()
        filters = _filters(network, (128, 256, 256), size)
        grid, wide = _grid(network, size), network.scaled(512)
        first = network.scaled(32)
        spectral = network.spectral
        convolution = _initialised(nn.Conv2d(bands, first, _KERNEL, padding=_KERNEL // 2), spectral)
        layers = _chain("down", partial(_down, spectral=spectral), first, filters)
        self.layers = nn.Sequential(
            OrderedDict(first=nn.Sequential(convolution, nn.ReLU()), **layers)
        )
        # Features of spectrally normalised layers are small compared with the unit variance of the
        # reconstruction loss. Batch normalisation scales them.
        self.compared = nn.BatchNorm2d(filters[-1], affine=False) if spectral else nn.Identity()
        self.wide = _connected(filters[-1] * grid * grid, wide, spectral)
        self.verdict = _initialised(nn.Linear(wide, 1), spectral)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images, `N × bands × size × size` in -1 to 1, to features and logits.

        The features are those of the last convolution, after three halvings of the image (section
        4.1), or four at 128 pixels.

        Returns:
            `N × features`, flat, and `N`.
        """
        hidden = self.layers(images)
        logits = self.verdict(self.wide(hidden.flatten(1))).squeeze(1)
        return self.compared(hidden).flatten(1), logits


class Networks(nn.Module):
    """Encoder, decoder and discriminator; None if the description has none."""

    def __init__(
        self, decoder: Decoder, encoder: Encoder | None, discriminator: Discriminator | None
    ) -> None:
        super().__init__()
        self.decoder, self.encoder, self.discriminator = decoder, encoder, discriminator


def _down(inputs: int, outputs: int, spectral: bool = False) -> nn.Sequential:
    """A convolution that halves the image, with normalisation and activation."""
    convolution = nn.Conv2d(inputs, outputs, _KERNEL, 2, padding=_KERNEL // 2, bias=spectral)
    return _normalised(convolution, nn.BatchNorm2d(outputs), spectral)


def _up(inputs: int, outputs: int) -> nn.Sequential:
    """A transposed convolution that doubles the image, with normalisation and activation."""
    convolution = nn.ConvTranspose2d(
        inputs, outputs, _KERNEL, 2, padding=_KERNEL // 2, output_padding=1, bias=False
    )
    return _normalised(convolution, nn.BatchNorm2d(outputs))


def _connected(inputs: int, outputs: int, spectral: bool = False) -> nn.Sequential:
    return _normalised(nn.Linear(inputs, outputs, bias=spectral), nn.BatchNorm1d(outputs), spectral)


def _normalised(layer: _Layer, norm: nn.Module, spectral: bool = False) -> nn.Sequential:
    first = _initialised(layer, spectral)
    return nn.Sequential(first, nn.ReLU()) if spectral else nn.Sequential(first, norm, nn.ReLU())


def _initialised(layer: _Layer, spectral: bool = False) -> nn.Module:
    """A layer with initial weights after Radford et al. 2016 (arXiv:1511.06434), section 4.

    The initial weights of torch are smaller. Before batch normalisation small weights change fast:
    too fast for adversarial training.
    """
    nn.init.normal_(layer.weight, std=_DEVIATION)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return spectral_norm(layer) if spectral else layer


def _filters(network: VaeGan, filters: Sequence[int], size: int) -> list[int]:
    """The filters of each halving layer; a fourth layer repeats the widest of the three."""
    more = [max(filters)] * (network.halvings(size) - len(filters))
    rising = filters[0] < filters[-1]
    return [network.scaled(f) for f in ((*filters, *more) if rising else (*more, *filters))]


def _grid(network: VaeGan, size: int) -> int:
    """Height and width of an image after all halvings."""
    return size >> network.halvings(size)


def _chain(
    name: str, layer: Callable[[int, int], nn.Module], first: int, filters: Sequence[int]
) -> OrderedDict[str, nn.Module]:
    """Numbered layers: from `first` filters to the first of `filters`, and on to each next one."""
    pairs = enumerate(pairwise([first, *filters]))
    return OrderedDict((f"{name}{k}", layer(*inputs_outputs)) for k, inputs_outputs in pairs)


def build(network: VaeGan, bands: int, size: int) -> Networks:
    """Networks for images of `size` pixels, with weights from the global generator of torch."""
    return Networks(
        Decoder(network, bands, size),
        Encoder(network, bands, size) if network.has_encoder else None,
        Discriminator(network, bands, size) if network.has_discriminator else None,
    )


@dataclass(frozen=True)
class Layer:
    """A layer with weights, together with its normalisation and activation.

    Attributes:
        words: a description such as "convolution 5 × 5, halves, batch normalisation, ReLU".
        shape: shape of its output for one image: channels, height and width, or features.
        parameters: number of trained parameters.
    """

    words: str
    shape: tuple[int, ...]
    parameters: int


def layers_of(network: nn.Module, given: Tensor) -> tuple[Layer, ...]:
    """The layers of a network in evaluation mode, in the order of their computation.

    Args:
        given: images or codes, as the network takes them, of any values.

    >>> layers_of(nn.Sequential(nn.Linear(3, 2)), torch.zeros(1, 3))
    (Layer(words='fully connected', shape=(2,), parameters=8),)
    """
    found: list[Layer] = []

    def note(words: str, parameters: int, _: nn.Module, __: object, output: Tensor) -> None:
        found.append(Layer(words, tuple(output.shape[1:]), parameters))

    hooks = [
        layer.register_forward_hook(
            partial(note, ", ".join(_words(layer)), sum(p.numel() for p in layer.parameters()))
        )
        for layer in _layers(network)
    ]
    try:
        with torch.inference_mode():
            network(given)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(found)


def _layers(network: nn.Module) -> Iterator[nn.Module]:
    """The children with parameters; those of `layers` one by one."""
    for name, child in network.named_children():
        if name == "layers":
            yield from child.children()
        elif any(True for _ in child.parameters()):
            yield child


def _words(layer: nn.Module) -> Iterator[str]:
    for module in layer.modules():
        if isinstance(module, nn.Conv2d):
            yield f"convolution {module.kernel_size[0]} × {module.kernel_size[1]}"
            if module.stride[0] == 2:
                yield "halves"
        elif isinstance(module, nn.ConvTranspose2d):
            yield f"transposed convolution {module.kernel_size[0]} × {module.kernel_size[1]}"
            if module.stride[0] == 2:
                yield "doubles"
        elif isinstance(module, nn.Linear):
            yield "fully connected"
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            yield "batch normalisation"
        elif isinstance(module, nn.ReLU):
            yield "ReLU"
        if is_parametrized(module):
            yield "spectral normalisation"
