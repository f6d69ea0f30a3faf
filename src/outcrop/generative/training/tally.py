"""What the steps of an epoch have given: losses, and how often the discriminator was right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from outcrop.generative.network import VaeGan

_OF_GAN = ("discriminator", "decoder", "right_of_real", "right_of_sampled")


@dataclass(frozen=True)
class Seen:
    """What one part of a batch has given; means over its pictures, on the device.

    Attributes:
        number: of pictures.
        divergence: of the code from the prior by dimension, `latent`, in nats.
        likeness, discriminator, decoder: losses; the decoder's is that of the GAN alone.
        right_of_real, right_of_reconstructed, right_of_sampled: shares of the pictures of which the
            discriminator is right.
    """

    number: int
    divergence: Tensor | None = None
    likeness: Tensor | None = None
    discriminator: Tensor | None = None
    decoder: Tensor | None = None
    right_of_real: Tensor | None = None
    right_of_reconstructed: Tensor | None = None
    right_of_sampled: Tensor | None = None

    def with_code(self, divergence: Tensor, likeness: Tensor) -> Seen:
        """With what an encoder gives."""
        return replace(self, divergence=divergence, likeness=likeness)

    def with_verdicts(
        self, discriminator: Tensor, decoder: Tensor, real: Tensor, others: Sequence[Tensor]
    ) -> Seen:
        """With what a discriminator gives: losses, and logits of the real and the made pictures.

        Args:
            others: of samples, or of reconstructions and samples.
        """
        right = [(logits <= 0).float().mean() for logits in others]
        return replace(
            self,
            discriminator=discriminator,
            decoder=decoder,
            right_of_real=(real > 0).float().mean(),
            right_of_reconstructed=right[0] if len(right) > 1 else None,
            right_of_sampled=right[-1],
        )

    @property
    def right(self) -> Tensor | float:
        """Of how many pictures the discriminator is right: the mean over real and made ones."""
        made = [self.right_of_reconstructed, self.right_of_sampled]
        shares = [share for share in made if share is not None]
        if self.right_of_real is None or not shares:
            return 0.0
        return (self.right_of_real + sum(shares) / len(shares)) / 2


@dataclass
class VaeGanTally:
    """What the parts of an epoch so far have given, in one process."""

    rows: list[Tensor] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def add(self, seen: Seen) -> None:
        """Remember one part; nothing is fetched from the device."""
        row = [getattr(seen, item.name) for item in fields(seen) if item.name != "number"]
        self.rows.append(torch.cat([value.float().view(-1) for value in row if value is not None]))
        self.numbers.append(seen.number)

    def tensors(self) -> dict[str, Tensor]:
        """All of it, on the CPU, to go on from; nothing where there is nothing yet."""
        if not self.rows:
            return {}
        return {"rows": torch.stack(self.rows).cpu(), "numbers": torch.tensor(self.numbers)}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], device: torch.device) -> VaeGanTally:
        """What `tensors` gave."""
        if not tensors:
            return cls()
        return cls(list(tensors["rows"].to(device).unbind()), tensors["numbers"].tolist())


@dataclass(frozen=True)
class Means:
    """What `Seen` says, over all pictures of an epoch; None where a network is missing."""

    likeness: float | None = None
    discriminator: float | None = None
    decoder: float | None = None
    right_of_real: float | None = None
    right_of_reconstructed: float | None = None
    right_of_sampled: float | None = None
    divergence: tuple[float, ...] = ()


def means(tensors: Mapping[str, Tensor], network: VaeGan) -> Means:
    """Of all parts in a tally, or in several that were merged."""
    weights = tensors["numbers"].double()
    found = ((tensors["rows"].double() * weights[:, None]).sum(dim=0) / weights.sum()).tolist()
    coded = network.latent if network.has_encoder else 0
    there = [item.name for item in fields(Seen) if item.name in _names(network)]
    numbers = dict(zip(there, found[coded:], strict=True))
    return Means(divergence=tuple(found[:coded]), **numbers)


def _names(network: VaeGan) -> set[str]:
    """What there is of a part, but for the divergence."""
    names = {"likeness"} if network.has_encoder else set()
    if network.plays:
        names |= {*_OF_GAN}
        names |= {"right_of_reconstructed"} if network.has_encoder else set()
    return names
