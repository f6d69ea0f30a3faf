"""The classifier that judges generated pictures, and what distances between pictures mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from outcrop.generative.model import VaeGanModel
from outcrop.generative.training.engine import judge_for
from outcrop.patches.patchset import PatchSet
from outcrop.progress import track
from outcrop.splits.split import read_split
from outcrop.training.classifier import Classifier
from outcrop.training.folder import CLASSIFIER, read_config
from outcrop.training.run import Run, network_of

_PIECE = 2048


@dataclass(frozen=True, eq=False)
class Judge:
    """A classifier that had no part in the training of what it judges.

    Attributes:
        classifier: whose probabilities and features are taken.
        name: how its features are called wherever a number stands that is made of them.
        caution: what speaks against its verdicts on held-out pictures; "" if nothing does.
    """

    classifier: Classifier
    name: str
    caution: str

    def codes(self, classes: tuple[str, ...]) -> np.ndarray | None:
        """Where it has each of the classes; None if it does not know them all."""
        known = self.classifier.classes
        if not set(classes) <= set(known):
            return None
        return np.array([known.index(name) for name in classes])


def judge_of(model: Classifier | Run, patches: PatchSet, held_out: np.ndarray) -> Judge:
    """The judge of pictures such as the patches.

    Args:
        held_out: which patches it will be shown.

    Raises:
        OutcropError: it was trained on patches of other bands or of another size.
    """
    classifier = network_of(model)
    classifier = judge_for(classifier, patches)
    where = f" ({model.folder})" if isinstance(model, Run) else ""
    name = f"features of {classifier.network.title} trained by outcrop{where}"
    return Judge(classifier, name, _caution(model, patches, held_out))


def _caution(model: Classifier | Run, patches: PatchSet, held_out: np.ndarray) -> str:
    unknown = "whether the judge has been trained on held-out pictures is not known"
    if not isinstance(model, Run):
        return unknown
    made_of = read_config(model.folder, CLASSIFIER)["patches"]["fingerprint"]
    if made_of != patches.fingerprint:
        return f"{unknown}: {model.folder} was made of another patch set"
    seen = np.isin(held_out, read_split(model.folder / "split.json").train).sum()
    if not seen:
        return ""
    return (
        f"the judge was trained on {seen:,} of {len(held_out):,} held-out pictures, which flatters "
        "what it says of them; train it on the split of the VAE-GAN"
    )


@dataclass(frozen=True, eq=False)
class Space:
    """Where pictures are points, and alike if they are near.

    Attributes:
        name: for people.
        see: pictures, `N × bands × height × width`, to float32, `N × F`.
    """

    name: str
    see: Callable[[np.ndarray], np.ndarray]

    def see_all(self, patches: PatchSet, index: np.ndarray) -> np.ndarray:
        """The patches at `index`, which are read piece by piece; none give `0 × 0`."""
        starts = track(range(0, len(index), _PIECE), "looking at pictures")
        parts = [self.see(patches.take(index[start : start + _PIECE])) for start in starts]
        return np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32)


def space_of(model: VaeGanModel, judge: Judge | None) -> Space:
    """The judge's features; without one, pixels in the range that the networks see."""
    if judge is not None:
        classifier = judge.classifier
        return Space(judge.name, lambda x: classifier.probabilities_and_features(x)[1])
    return Space("pixels, each band in -1 to 1", lambda x: model.in_range(x).reshape(len(x), -1))
