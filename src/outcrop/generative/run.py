"""`VaeGanRun`: the folder that one training of a VAE-GAN leaves, and what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from outcrop.errors import OutcropError
from outcrop.generative.metrics import VaeGanMetrics, read_vaegan_metrics
from outcrop.generative.model import VaeGanModel, read_vaegan
from outcrop.patches.patchset import PatchSet
from outcrop.splits.split import Split, read_split
from outcrop.training.folder import PICTURE_MODEL, is_finished, read_config


@dataclass(frozen=True, eq=False)
class VaeGanRun:
    """A finished training of networks that learn pictures.

    Attributes:
        folder: where it lies.
        model: the networks after the last epoch.
        metrics: one entry for each epoch.
        config: what it was made with.
    """

    folder: Path
    model: VaeGanModel
    metrics: tuple[VaeGanMetrics, ...]
    config: dict[str, Any]

    @cached_property
    def split(self) -> Split:
        """The sides of the patches."""
        return read_split(self.folder / "split.json")

    @property
    def judged(self) -> bool:
        """Whether a classifier has measured its pictures."""
        judge_alone = [] if self.model.network.has_discriminator else ["feature_error"]
        return any(
            getattr(epoch, name) is not None
            for epoch in self.metrics
            for name in ("frechet", "precision", *judge_alone)
        )

    def check_patches(self, patches: PatchSet) -> None:
        """Refuse patches that the run was not made of.

        Raises:
            OutcropError: it is another set.
        """
        if patches.fingerprint != self.config["patches"]["fingerprint"]:
            raise OutcropError(
                "patches", f"are not those that {self.folder} was trained on; take the same set"
            )


def read_vaegan_run(folder: str | Path, device: str = "auto") -> VaeGanRun:
    """Open the folder of a finished training.

    Raises:
        OutcropError: missing, foreign, damaged or unfinished; a run of a classifier.
    """
    folder = Path(folder)
    config = read_config(folder, PICTURE_MODEL)
    if not is_finished(folder):
        raise OutcropError(
            folder, "is not finished; go on with `outcrop generative train --resume`"
        )
    metrics = read_vaegan_metrics(folder / "metrics.jsonl")
    return VaeGanRun(folder, read_vaegan(folder, device), metrics, config)
