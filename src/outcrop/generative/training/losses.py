"""The losses of Larsen et al. 2016 (arXiv:1512.09300), section 3, each of every picture."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F


def prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence of a picture's code from the prior, by dimension (eq. 4).

    Kingma and Welling 2014 (arXiv:1312.6114), appendix B, for normal distributions.

    Args:
        mean, log_variance: `N × latent`.

    Returns:
        float32, `N × latent`, in nats; the divergence is the sum over the latter.

    >>> import torch
    >>> prior(torch.zeros(1, 2), torch.zeros(1, 2))
    tensor([[0., 0.]])
    """
    mean, log_variance = mean.float(), log_variance.float()
    return (mean.square() + log_variance.exp() - 1 - log_variance) / 2


def likeness(features: Tensor, reconstructed: Tensor) -> Tensor:
    """Minus the log-likelihood of features under a Gaussian around those of a reconstruction.

    Equation 7 with the identity as covariance, but for the constant; of the discriminator's l-th
    layer, or of pixels, with which it is the loss of a plain VAE (eq. 3).

    Args:
        features, reconstructed: `N × ...`.

    Returns:
        float32, `N`: half the squared distance.
    """
    return (features.float() - reconstructed.float()).square().flatten(1).sum(dim=1) / 2


def judged_as(real: bool, logits: Tensor) -> Tensor:
    """Cross-entropy of the discriminator's verdicts, if the pictures are all real, or none is.

    The terms of eq. 8, with the sign of a loss: -log Dis(x), or -log(1 - Dis(x)).
    """
    logits = logits.float()
    return F.softplus(-logits if real else logits)


def fooled(logits: Tensor, kind: Literal["minimax", "non-saturating"]) -> Tensor:
    """The decoder's loss for the verdicts on its pictures.

    "minimax": log(1 - Dis(x)), minus the loss of the discriminator, as in algorithm 1.
    "non-saturating": -log Dis(x).
    """
    return judged_as(True, logits) if kind == "non-saturating" else -judged_as(False, logits)
