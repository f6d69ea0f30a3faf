"""User networks: any module from patches to logits."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from outcrop.errors import OutcropError
from outcrop.files import first_line


class UserNetwork(nn.Module):
    """A user's module, with the methods that training and mapping need.

    Attributes:
        module: the user's module.
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

    def recompute(self, blocks: int) -> None:
        """Do nothing: the module has no known blocks."""

    def compile_blocks(self) -> None:
        """Do nothing: the module has no known blocks."""
