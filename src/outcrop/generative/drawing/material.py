"""What parts and measures are made of: sides, codes, classes, and what a judge sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outcrop.generative.drawing.codes import class_means, codes_of
from outcrop.generative.drawing.judging import Judge, Space, judge_of, space_of
from outcrop.generative.drawing.wish import Wish
from outcrop.generative.model import VaeGanModel
from outcrop.generative.run import VaeGanRun
from outcrop.patches.patchset import PatchSet
from outcrop.splits.split import Split
from outcrop.training.classifier import Classifier
from outcrop.training.run import Run

FEWEST = 8
_MOST_JUDGED, _MOST_IN_PIXELS = 10_000, 2_000
_VALUES = 1 << 28
_WANTED_PER_FEATURE = 3


@dataclass(frozen=True, eq=False)
class Material:
    """A model, the patches it was trained on, and what follows from the two.

    Attributes:
        model: the networks.
        patches: the set.
        split: the sides of the run.
        held_out: patches of the validation side, all or, of very many, some.
        searched: patches of the training side, all or, without a judge and of very many, some.
        seen, held_out_seen: float32, `searched × F` and `held_out × F`: as `space` sees them.
        codes: float32, from the prior, at least two and as many as there are held-out patches.
        means: float32, `classes × latent`, the mean code of each class on the training side, NaN
            where there is none; None without an encoder.
        judge: None if there is none.
        space: in which distances are taken.
    """

    model: VaeGanModel
    patches: PatchSet
    split: Split
    held_out: np.ndarray
    searched: np.ndarray
    seen: np.ndarray
    held_out_seen: np.ndarray
    codes: np.ndarray
    means: np.ndarray | None
    judge: Judge | None
    space: Space

    @property
    def known(self) -> np.ndarray:
        """Which classes have a mean code, bool, `classes`."""
        if self.means is None:
            return np.zeros(len(self.patches.classes), dtype=bool)
        return np.isfinite(self.means).all(axis=1)

    @property
    def can_reconstruct(self) -> bool:
        """Whether there is an encoder, and something held out to encode."""
        return self.means is not None and len(self.held_out) > 0

    @property
    def can_measure(self) -> bool:
        """Whether enough is held out."""
        return len(self.held_out) >= FEWEST

    @property
    def judge_knows_classes(self) -> bool:
        """Whether there is a judge that can tell all classes of the patches."""
        return self.judge is not None and self.judge.codes(self.patches.classes) is not None


def gather(
    run: VaeGanRun, patches: PatchSet, wish: Wish, judge: Classifier | Run | None
) -> Material:
    """Encode and look at what is needed.

    Raises:
        OutcropError: the judge was trained on patches of another kind.
    """
    model, split = run.model, run.split
    per_picture = int(np.prod(patches.images.shape[1:]))
    most = _MOST_IN_PIXELS if judge is None else _MOST_JUDGED
    held_out = _some(split.validation, min(most, _VALUES // per_picture), wish.seed)
    its = None if judge is None else judge_of(judge, patches, held_out)
    space = space_of(model, its)
    searched = split.train
    if its is None:
        searched = _some(searched, 2 * _VALUES // per_picture, wish.seed)
    means = None
    if model.network.has_encoder:
        codes = codes_of(model, patches, split.train)
        means = class_means(codes.mean, patches.labels[split.train], len(patches.classes))
    return Material(
        model=model,
        patches=patches,
        split=split,
        held_out=held_out,
        searched=searched,
        seen=space.see_all(patches, searched),
        held_out_seen=space.see_all(patches, held_out),
        codes=model.draw(max(wish.number, len(held_out), 2), wish.seed),
        means=means,
        judge=its,
        space=space,
    )


def notes_on(material: Material, wish: Wish) -> tuple[str, ...]:
    """What is left out and why, and what speaks against the measures."""
    m, found = material, []
    if m.means is None:
        found.append(
            f"a {m.model.network.title} has no encoder: no reconstructions, nothing between "
            "pictures, no classes added to them"
        )
    elif m.known.sum() < 2:
        found.append("a single class on the training side: no classes added to pictures")
    if not len(m.held_out):
        found.append(
            "the run has no validation side: no reconstructions, no classes added, no measures"
        )
    elif not m.can_measure:
        found.append(f"no measures of {len(m.held_out)} held-out patches; they want {FEWEST}")
    if wish.between is not None and not np.isin(wish.between, m.split.validation).all():
        found.append("the patches of --between are not both held out")
    for side, all_, some in (
        ("held-out", m.split.validation, m.held_out),
        ("training", m.split.train, m.searched),
    ):
        if len(some) < len(all_):
            found.append(f"of {len(all_):,} {side} patches {len(some):,} were taken, by the seed")
    return (*found, *(_cautions(m) if m.can_measure else ()))


def _cautions(m: Material) -> list[str]:
    found = []
    if m.split.spatial:
        found.append(
            "held-out patches are from other ground, farther from training patches: samples nearer "
            "than they are need not be copies"
        )
    if m.judge is None:
        return found
    if m.judge.caution:
        found.append(m.judge.caution)
    features = m.seen.shape[1]
    if len(m.held_out) < _WANTED_PER_FEATURE * features:
        found.append(
            f"{len(m.held_out)} held-out patches are few for the Fréchet distance of {features} "
            "features at infinity"
        )
    if m.means is not None and not m.judge_knows_classes:
        found.append("the judge does not know all classes: it cannot say if they were added")
    return found


def _some(index: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most so many of `index`, in their order."""
    if len(index) <= most:
        return index
    return np.sort(np.random.default_rng(seed).choice(index, most, replace=False))
