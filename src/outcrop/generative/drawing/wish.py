"""What is asked of a VAE-GAN, and whether it can give it."""

from __future__ import annotations

from dataclasses import dataclass

from outcrop.errors import OutcropError
from outcrop.generative.run import VaeGanRun
from outcrop.patches.patchset import PatchSet


@dataclass(frozen=True)
class Wish:
    """What to draw.

    Attributes:
        number: samples.
        seed: of codes, and of the pictures that are chosen.
        per_class: pictures of each class.
        between: two patches, or None for two held-out ones that are drawn.
        attribute: the one class to add to pictures, or None for each.

    Raises:
        OutcropError: a number out of its range.
    """

    number: int = 64
    seed: int = 0
    per_class: int = 0
    between: tuple[int, ...] | None = None
    attribute: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("number", 1), ("seed", 0), ("per_class", 0)):
            if getattr(self, name) < least:
                option = f"--{name.replace('_', '-')}"
                raise OutcropError(option, f"is {getattr(self, name)}; take {least} or more")
        if self.between is not None and len({*self.between}) != 2:
            raise OutcropError("--between", "wants two different patches; take two such as 3,17")

    def check(self, run: VaeGanRun, patches: PatchSet | None, judged: bool) -> None:
        """Refuse what cannot be had.

        Args:
            judged: whether there is a judge.

        Raises:
            OutcropError: it takes patches, or those of the run, or an encoder; no such patch or
                class; no training patches of the class, or of no other.
        """
        options = {
            "--per-class": self.per_class > 0,
            "--between": self.between is not None,
            "--attribute": self.attribute is not None,
        }
        coded = [option for option, given in options.items() if given]
        if patches is None:
            if judged or coded:
                raise OutcropError(
                    (["--judge"] * judged + coded)[0],
                    f"needs patches; give those that {run.folder} was trained on",
                )
            return
        run.check_patches(patches)
        if coded and not run.model.network.has_encoder:
            raise OutcropError(
                coded[0],
                f"needs an encoder, which a {run.model.network.title} has not; take a run of "
                "`outcrop generative train`",
            )
        for place in self.between or ():
            if not 0 <= place < len(patches):
                last = len(patches) - 1
                raise OutcropError("--between", f"there is no patch {place}; take 0 to {last}")
        if self.attribute is not None:
            self._check_attribute(run, patches)

    def _check_attribute(self, run: VaeGanRun, patches: PatchSet) -> None:
        there = {patches.classes[k] for k in patches.labels[run.split.train]}
        if self.attribute not in there or len(there) < 2:
            raise OutcropError(
                "--attribute",
                f"'{self.attribute}' is not one of several classes of the training side; there is "
                f"{', '.join(name for name in patches.classes if name in there)}",
            )
