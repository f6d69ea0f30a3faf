"""`NetworkModule`: the networks that can be trained on patches."""

from __future__ import annotations

from outcrop.models.multiscale import MultiScaleNetwork
from outcrop.models.residual import ResidualNetwork
from outcrop.models.user import UserNetwork

NetworkModule = ResidualNetwork | MultiScaleNetwork | UserNetwork
"""`forward` gives logits, `both` features too, `channels` of them; `in_order` copies it for bands
in another order."""
