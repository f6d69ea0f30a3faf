"""What to train: networks that learn pictures, and how; as an encoder of a comparison, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from outcrop.errors import OutcropError
from outcrop.generative.network import PARTS, VaeGan
from outcrop.generative.recipe import VaeGanRecipe
from outcrop.training.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np

    from outcrop.patches.patchset import PatchSet
    from outcrop.patches.reopen import AnySource
    from outcrop.splits import Split


@dataclass(frozen=True)
class VaeGanPlan:
    """Networks that learn pictures, and how they are trained.

    In a comparison it is an encoder, `outcrop.workflow.learnt.LearntFeatures`.

    Attributes:
        picture_network: which networks.
        picture_recipe: how.
    """

    picture_network: VaeGan = field(default_factory=VaeGan)
    picture_recipe: VaeGanRecipe = field(default_factory=VaeGanRecipe)

    @classmethod
    def named(cls, name: str) -> VaeGanPlan:
        """The plan of that name.

        Raises:
            OutcropError: no such name.
        """
        if name not in PARTS:
            raise OutcropError("--model", f"there is no '{name}'; take {', '.join(PARTS)}")
        return cls(VaeGan(cast(Any, name)))

    @property
    def title(self) -> str:
        """What a table calls the code of a picture, as features of a comparison."""
        return f"{self.picture_network.title} code"

    def check(self, patches: PatchSet) -> None:
        """Refuse patches of which no code can be learnt beside other models.

        Raises:
            OutcropError: they are no squares of 32, 64 or 128 pixels; the networks have no encoder,
                or need another run; several processes.
        """
        from outcrop.training.parallel import refuse_several

        network = self.picture_network
        if network.parts not in ("vaegan", "vae"):
            lacks = "a similarity run" if network.has_encoder else "an encoder"
            raise OutcropError(
                "--model",
                f"{network.parts} lacks {lacks} that a comparison needs; take vaegan or vae",
            )
        network.check_size(patches.size)
        refuse_several(self.picture_recipe.machine, "a comparison")

    def learn(
        self,
        patches: PatchSet,
        split: Split,
        folder: Path,
        seed: int,
        sources: Sequence[AnySource] | None,
    ) -> None:
        """Train the networks in `folder`, or go on with what is there.

        Raises:
            OutcropError: see `outcrop.generative.training.engine.train_vaegan`.
        """
        from outcrop.generative.training.engine import train_vaegan

        recipe = replace(self.picture_recipe, seed=seed)
        network, resume = self.picture_network, folder.exists()
        train_vaegan(patches, split, folder, network, recipe, resume, sources=sources)

    def read(self, folder: Path) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
        """What gives the mean code of each image, and how many seconds the training took.

        Raises:
            OutcropError: the run is damaged.
        """
        from outcrop.generative.run import read_vaegan_run

        run = read_vaegan_run(folder, "cpu")
        return lambda images: run.model.encode(images)[0], sum(one.seconds for one in run.metrics)


@dataclass(frozen=True)
class EncoderPlan:
    """Networks that learn pictures beside a classifier, whose training has options of its own.

    Attributes:
        picture_network: which networks.
        model_epochs: passes of these networks over the training patches.
    """

    picture_network: VaeGan = field(default_factory=VaeGan)
    model_epochs: int = VaeGanRecipe.epochs

    @classmethod
    def named(cls, name: str) -> EncoderPlan:
        """The plan of that name.

        Raises:
            OutcropError: no such name.
        """
        return cls(VaeGanPlan.named(name).picture_network)

    def beside(self, recipe: Recipe) -> VaeGanPlan:
        """The whole plan: seed, machine, flips and turns are the classifier's, all else is usual.

        >>> EncoderPlan(model_epochs=9).beside(Recipe(batch=32, seed=3)).picture_recipe.seed
        3
        """
        usual, theirs = VaeGanRecipe(), recipe.augmentation
        return VaeGanPlan(
            self.picture_network,
            replace(
                usual,
                epochs=self.model_epochs,
                augmentation=replace(usual.augmentation, flip=theirs.flip, rotate=theirs.rotate),
                seed=recipe.seed,
                machine=replace(recipe.machine, strategy="ddp", recompute=0),
            ),
        )
