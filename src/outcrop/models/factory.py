"""From the description of a network to a module with new weights."""

from __future__ import annotations

from typing import overload

import torch
from torch import nn

from outcrop.errors import OutcropError
from outcrop.models.architectures import MultiScaleNet, Network, ResidualNet, UserNet
from outcrop.models.multiscale import WINDOWS, MultiScaleNetwork
from outcrop.models.residual import ResidualNetwork
from outcrop.models.user import UserNetwork


@overload
def build(
    network: ResidualNet, bands: int, classes: int, size: tuple[int, int] | None = None
) -> ResidualNetwork: ...
@overload
def build(
    network: Network, bands: int, classes: int, size: tuple[int, int] | None = None
) -> ResidualNetwork | MultiScaleNetwork | UserNetwork: ...
def build(
    network: Network, bands: int, classes: int, size: tuple[int, int] | None = None
) -> ResidualNetwork | MultiScaleNetwork | UserNetwork:
    """Build a network; its weights are drawn from the global generator of torch.

    Args:
        network: its description.
        bands: number of bands of a patch.
        classes: number of classes.
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
            network.factory,
            f"returns a {type(module).__name__}; let it return a torch.nn.Module",
        )
    made = UserNetwork(module, classes, network.factory)
    if size is not None:
        # Lazy layers get their sizes, and a module that does not fit fails before training.
        with torch.no_grad():
            made.eval()(torch.zeros(2, bands, *size))
        made.train()
    return made
