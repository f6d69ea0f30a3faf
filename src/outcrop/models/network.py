"""`NetworkModule`: the networks that can be trained on patches."""

from __future__ import annotations

from outcrop.models.multiscale import MultiScaleNetwork
from outcrop.models.residual import ResidualNetwork
from outcrop.models.user import UserNetwork

NetworkModule = ResidualNetwork | MultiScaleNetwork | UserNetwork
"""`forward` gives logits, `logits_and_features` also the features, `channels` of them; `in_order`
gives a copy for another order of bands."""
