"""What to train: a generative model alone, or as an encoder in a comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from outcrop.errors import OutcropError
from outcrop.generative.settings import PARTS, VaeGan, VaeGanRecipe
from outcrop.training.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np

    from outcrop.patches.patchset import PatchSet
    from outcrop.patches.reopen import AnySource
    from outcrop.splits import Split


@dataclass(frozen=True)
class VaeGanPlan:
    """Generative networks and their training.

    In a comparison it is an encoder, `outcrop.workflow.learnt.LearntFeatures`.

    Attributes:
        network: the networks.
        recipe: their training.
    """

    network: VaeGan = field(default_factory=VaeGan)
    recipe: VaeGanRecipe = field(default_factory=VaeGanRecipe)

    @classmethod
    def named(cls, name: str) -> VaeGanPlan:
        """The plan with a name from `PARTS`.

        Raises:
            OutcropError: the name is unknown.
        """
        if name not in PARTS:
            raise OutcropError("`model`", f"there is no '{name}'; take {', '.join(PARTS)}")
        return cls(VaeGan(cast(Any, name)))

    @property
    def title(self) -> str:
        """The name of the codes in tables of a comparison."""
        return f"{self.network.title} code"

    def check(self, patches: PatchSet) -> None:
        """Check that codes of these patches can be learnt in a comparison.

        Raises:
            OutcropError: the patches are not squares of 32, 64 or 128 pixels; the networks have no
                encoder, or need another run; several processes.
        """
        from outcrop.training.parallel.process_group import refuse_several

        network = self.network
        if network.parts not in ("vaegan", "vae"):
            lacks = "a similarity run" if network.has_encoder else "an encoder"
            raise OutcropError(
                "`model`",
                f"{network.parts} lacks {lacks}, which a comparison needs; take vaegan or vae",
            )
        network.check_size(patches.size)
        refuse_several(self.recipe.machine, "a comparison")

    def learn(
        self,
        patches: PatchSet,
        split: Split,
        folder: Path,
        seed: int,
        sources: Sequence[AnySource] | None,
    ) -> None:
        """As `LearntFeatures.learn`; errors as for `train_vaegan`."""
        from outcrop.generative.training import train_vaegan

        recipe, resume = replace(self.recipe, seed=seed), folder.exists()
        train_vaegan(patches, split, folder, self.network, recipe, resume, sources=sources)

    def read(self, folder: Path) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
        """As `LearntFeatures.read`: the features of an image are its mean code."""
        from outcrop.generative.run import read_vaegan_run

        run = read_vaegan_run(folder, "cpu")
        return lambda images: run.model.encode(images)[0], sum(one.seconds for one in run.metrics)


@dataclass(frozen=True)
class EncoderPlan:
    """Generative networks beside a classifier that has training options of its own.

    Attributes:
        network: the networks.
        model_epochs: passes of these networks over the training patches.
    """

    network: VaeGan = field(default_factory=VaeGan)
    model_epochs: int = VaeGanRecipe.epochs

    @classmethod
    def named(cls, name: str) -> EncoderPlan:
        """The plan with a name from `PARTS`.

        Raises:
            OutcropError: the name is unknown.
        """
        return cls(VaeGanPlan.named(name).network)

    def beside(self, recipe: Recipe) -> VaeGanPlan:
        """The plan with seed, machine, flips and rotations of a classifier's recipe.

        >>> EncoderPlan(model_epochs=9).beside(Recipe(batch=32, seed=3)).recipe.seed
        3
        """
        default, theirs = VaeGanRecipe(), recipe.augmentation
        return VaeGanPlan(
            self.network,
            replace(
                default,
                epochs=self.model_epochs,
                augmentation=replace(default.augmentation, flip=theirs.flip, rotate=theirs.rotate),
                seed=recipe.seed,
                machine=replace(recipe.machine, strategy="ddp", recompute=0),
            ),
        )
