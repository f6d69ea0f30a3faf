"""Networks of the user's own: any module from patches to logits."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from outcrop.errors import OutcropError

Factory = Callable[[int, int], nn.Module]
"""From the number of bands and of classes to a module."""


@dataclass(frozen=True)
class UserNet:
    """A network that a function of the user's makes.

    The function takes the number of bands and the number of classes and gives a `torch.nn.Module`
    that maps float32 `N × bands × height × width`, normalised, to logits `N × classes`. It is run
    when a network is built, also when a model is read; so a file alone never names it: who reads a
    model passes the function again.

    Attributes:
        factory: its name, "package.module:function".
        make: the function; if None, it is imported by its name.

    >>> from torch import nn
    >>> def small(bands, classes):
    ...     return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))
    >>> UserNet.of(small).title.endswith("small")
    True
    """

    factory: str
    make: Factory | None = None

    @classmethod
    def of(cls, make: Factory | nn.Module) -> UserNet:
        """The network that a function makes, or copies of a module as it is."""
        if isinstance(make, nn.Module):
            module = make
            return cls(type(module).__qualname__, lambda bands, classes: deepcopy(module))
        return cls(f"{make.__module__}:{make.__qualname__}", make)

    @property
    def title(self) -> str:
        """What a table calls it."""
        return self.factory

    # What a residual network has, and these have not.
    survival = 1.0
    survivals: tuple[float, ...] = ()
    padding = "zeros"
    stride = 1

    def check_size(self, size: tuple[int, int]) -> None:
        """What it can see is found out when it is run."""

    def build(
        self, bands: int, classes: int, size: tuple[int, int] | None = None
    ) -> UserNetwork:
        """The network with new weights, drawn from torch's global generator.

        Raises:
            OutcropError: there is no such function, it fails, or gives no module.
        """
        make = self.make or _imported(self.factory)
        try:
            module = make(bands, classes)
        except Exception as error:
            raise OutcropError(
                self.factory, f"failed with {bands} bands and {classes} classes: {error}; mend it"
            ) from error
        if not isinstance(module, nn.Module):
            raise OutcropError(
                self.factory, f"gives a {type(module).__name__}; let it give a torch.nn.Module"
            )
        network = UserNetwork(module, classes, self.factory)
        if size is not None:
            # Lazy layers learn their sizes, and what does not fit is said before any training.
            with torch.no_grad():
                network.eval()(torch.zeros(2, bands, *size))
            network.train()
        return network


class UserNetwork(nn.Module):
    """A module of the user's, with what training and mapping ask of a network.

    Attributes:
        module: the user's.
    """

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
            OutcropError: the module fails, or gives something else.
        """
        if self.order is not None:
            images = images[:, self.order]
        try:
            logits = self.module(images)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise OutcropError(
                self._name,
                f"fails on images {tuple(images.shape)}: {str(error).splitlines()[0]}; cut patches "
                "of the size that it takes",
            ) from error
        wanted = (len(images), self._classes)
        if not isinstance(logits, Tensor) or logits.shape != wanted:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise OutcropError(self._name, f"gives {got} where logits {wanted} are wanted; mend it")
        return logits

    @property
    def channels(self) -> int:
        """How many features there are."""
        return self._last[0].in_features if self._last else self._classes

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and features `N × channels`: what its last linear layer takes.

        Where there is none, or none that is run once on rows of numbers, they are the logits,
        padded with zeros.
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
        """A copy for images whose band j is band `back[j]` here."""
        copy = deepcopy(self)
        there = [list(back).index(band) for band in range(len(back))]
        copy.order = there if self.order is None else [there[band] for band in self.order]
        return copy

    def recompute(self, blocks: int) -> None:
        """What a module computes again is its own affair."""

    def compile_blocks(self) -> None:
        """Nothing is known of its blocks."""


def _imported(name: str) -> Factory:
    """The function of the name "package.module:function", also of a file in the working folder."""
    module, _, function = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise OutcropError(
            "--network", f"{name} cannot be imported ({error}); write package.module:function"
        ) from error
    finally:
        sys.path.remove(here)
    if not callable(found):
        raise OutcropError("--network", f"{name} is no function; name one")
    return found
