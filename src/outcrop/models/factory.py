"""From the description of a network to a module with new weights; networks of users."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from outcrop.errors import OutcropError
from outcrop.files import first_line
from outcrop.models.architectures import MultiScaleNet, Network, ResidualNet, UserNet
from outcrop.models.multiscale import WINDOWS, MultiScaleNetwork
from outcrop.models.residual import ResidualNetwork


def build(
    network: Network, bands: int, classes: int, size: tuple[int, int] | None = None
) -> NetworkModule:
    """Build a network; its weights are drawn from the global generator of torch.

    Args:
        network: its description.
        bands, classes: numbers of bands and classes.
        size: height and width of a patch. Default: the widest window of a multi-scale network.

    Returns:
        A module that maps float32 `N × bands × height × width` to float32 logits `N × classes`.

    Raises:
        OutcropError: the function of a `UserNet` does not exist, fails, or returns no module.

    >>> build(ResidualNet(depth=8), bands=3, classes=10)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    if isinstance(network, ResidualNet):
        return ResidualNetwork(network, bands, classes)
    if isinstance(network, MultiScaleNet):
        return MultiScaleNetwork(network, bands, classes, size or (WINDOWS[-1], WINDOWS[-1]))
    return _of_user(network, bands, classes, size)


def _of_user(
    network: UserNet, bands: int, classes: int, size: tuple[int, int] | None
) -> UserNetwork:
    make = network.function
    try:
        module = make(bands, classes)
    except Exception as error:
        raise OutcropError(
            network.factory, f"failed with {bands} bands and {classes} classes: {error}; correct it"
        ) from error
    if not isinstance(module, nn.Module):
        raise OutcropError(
            network.factory, f"returns a {type(module).__name__}; let it return a torch.nn.Module"
        )
    made = UserNetwork(module, classes, network.factory)
    if size is not None:
        # Lazy layers get their sizes, and a module that does not fit fails before training.
        with torch.no_grad():
            made.eval()(torch.zeros(2, bands, *size))
        made.train()
    return made


class UserNetwork(nn.Module):
    """A user's module, with the methods that training and mapping need."""

    def __init__(self, module: nn.Module, classes: int, name: str) -> None:
        super().__init__()
        self.module = module
        self._classes, self._name = classes, name
        layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
        self._last = [layers[-1]] if layers else []
        self.order: list[int] | None = None

    def forward(self, images: Tensor, kept: Any = None) -> Tensor:
        """Logits `N × classes`.

        Raises:
            OutcropError: the module fails, or returns something else.
        """
        if self.order is not None:
            images = images[:, self.order]
        try:
            logits = self.module(images)
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:  # of code that is the user's
            raise OutcropError(
                self._name,
                f"fails on images {tuple(images.shape)}: {first_line(error)}; cut patches "
                "of the size that it takes",
            ) from error
        if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] != self._classes:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            wanted = (images.shape[0], self._classes)
            raise OutcropError(self._name, f"gives {got} where logits {wanted} are wanted; mend it")
        return logits

    @property
    def channels(self) -> int:
        """Number of features."""
        return self._last[0].in_features if self._last else self._classes

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and features `N × channels`: the input of the last linear layer.

        If there is no such layer, or it is not called exactly once with a matrix, the features are
        the logits, padded with zeros.
        """
        seen: list[Tensor] = []
        hooks = [
            layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
            for layer in self._last
        ]
        try:
            logits = self(images)
        finally:
            for hook in hooks:
                hook.remove()
        usable = len(seen) == 1 and seen[0].shape == (len(images), self.channels)
        if usable:
            return logits, seen[0]
        few = logits[:, : self.channels]
        return logits, nn.functional.pad(few, (0, self.channels - few.shape[1]))

    def in_order(self, back: Sequence[int]) -> UserNetwork:
        """A copy for images whose band j is band `back[j]` of this network."""
        copy = deepcopy(self)
        there = [list(back).index(band) for band in range(len(back))]
        copy.order = there if self.order is None else [there[band] for band in self.order]
        return copy


NetworkModule = ResidualNetwork | MultiScaleNetwork | UserNetwork
"""`forward` gives logits, `logits_and_features` also the features, `channels` of them; `in_order`
gives a copy for another order of bands."""
