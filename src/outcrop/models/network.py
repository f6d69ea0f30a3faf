"""`Network`: what can be trained on patches, described as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from torch import nn

from outcrop.errors import OutcropError
from outcrop.models.architectures import ResidualNet
from outcrop.models.multiscale import MultiScaleNet, MultiScaleNetwork
from outcrop.models.residual import ResidualNetwork
from outcrop.models.user import Factory, UserNet, UserNetwork
from outcrop.typed import typed

Network = ResidualNet | MultiScaleNet | UserNet
"""A description: its `build` makes the network with new weights."""

NetworkModule = ResidualNetwork | MultiScaleNetwork | UserNetwork
"""A network: `forward` gives logits, `both` features too, `channels` of them; `in_order` copies it
for bands in another order."""

MULTI_SCALE = "multi-scale"


def network_named(name: str) -> Network:
    """The network that a user names: of the family, multi-scale, or package.module:function.

    Raises:
        OutcropError: no such name.

    >>> network_named("resnet20").title, network_named("multi-scale").title
    ('ResNet-20', 'multi-scale network')
    """
    if name == MULTI_SCALE:
        return MultiScaleNet()
    return UserNet(name) if ":" in name else ResidualNet.named(name)


def network_of(given: Network | Factory | nn.Module) -> Network:
    """A description, or the one of a function or module of the user's."""
    if isinstance(given, ResidualNet | MultiScaleNet | UserNet):
        return given
    return UserNet.of(given)


def network_json(network: Network) -> dict[str, Any]:
    """Plain data for `network_of_json`."""
    if isinstance(network, ResidualNet):
        return asdict(network)
    if isinstance(network, MultiScaleNet):
        return {MULTI_SCALE: asdict(network)}
    return {"factory": network.factory}


def network_of_json(
    content: Mapping[str, Any], make: Callable[[int, int], nn.Module] | None = None
) -> Network:
    """The network that `network_json` gave.

    Args:
        make: the function that a network of the user's was made by; the file alone never says what
            is run.

    Raises:
        OutcropError: it is a network of the user's, and `make` is missing.
        TypeError, ValueError: it is something else.
    """
    if "factory" in content:
        name = typed(str, content["factory"], "factory")
        if make is None:
            raise OutcropError(
                name,
                "made the network of this model, and its code is run when the model is read; pass "
                f"it again: --network {name}",
            )
        return UserNet(name, make)
    if MULTI_SCALE in content:
        return typed(MultiScaleNet, content[MULTI_SCALE], "network")
    return typed(ResidualNet, content, "network")
