"""Descriptions of networks: plain data that a config can hold and a model folder can store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from outcrop.errors import OutcropError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ResidualNet:
    """A residual network for small images (He et al. 2015, arXiv:1512.03385, section 4.2).

    Attributes:
        depth: layers with weights, 6n + 2 for n residual blocks in each of the three stages.
        width: filters of the first stage; the second has twice, the third four times as many.

    Raises:
        OutcropError: a depth that is not 6n + 2 with n ≥ 1, or a width below 1.

    >>> ResidualNet(depth=20).blocks
    3
    """

    depth: int = 20
    width: int = 16

    def __post_init__(self) -> None:
        if self.depth < 8 or self.depth % 6 != 2:
            raise OutcropError(
                "network", f"depth {self.depth} is not 6n + 2; take 8, 14, 20, 32, 44, 56, ..."
            )
        if self.width < 1:
            raise OutcropError("network", f"width {self.width} is below 1; the paper has 16")

    @property
    def blocks(self) -> int:
        """Residual blocks in each stage."""
        return (self.depth - 2) // 6

    def build(self, bands: int, classes: int) -> nn.Module:
        """The network with new weights, drawn from torch's global generator.

        It maps float32 `N × bands × height × width` to float32 logits `N × classes`.
        """
        from outcrop.models.residual import ResidualNetwork

        return ResidualNetwork(self, bands, classes)
