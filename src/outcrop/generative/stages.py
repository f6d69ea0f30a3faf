"""The layers that a picture or a code goes through, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized


@dataclass(frozen=True)
class Stage:
    """What one layer with weights does, with what belongs to it.

    Attributes:
        words: such as "convolution 5 × 5, halves, batch normalisation, ReLU".
        shape: of what it gives for one picture: channels, height and width, or numbers.
        parameters: numbers that are learnt.
    """

    words: str
    shape: tuple[int, ...]
    parameters: int


def stages(network: nn.Module, given: Tensor) -> tuple[Stage, ...]:
    """What each layer gives, in the order in which the network computes them.

    Args:
        network: an encoder, a decoder or a discriminator (`outcrop.generative.autoencoder`), as it
            is when nothing is learnt.
        given: pictures or codes as the network takes them, of any values.

    >>> stages(nn.Sequential(nn.Linear(3, 2)), torch.zeros(1, 3))
    (Stage(words='fully connected', shape=(2,), parameters=8),)
    """
    found: list[Stage] = []

    def note(words: str, parameters: int, _: nn.Module, __: object, output: Tensor) -> None:
        found.append(Stage(words, tuple(output.shape[1:]), parameters))

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
    """The children that learn; those of `layers`, a row of several, each by itself."""
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
