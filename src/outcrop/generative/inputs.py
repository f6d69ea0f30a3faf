"""The inputs of drawing and measures: request, judge, feature space, and the data of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from outcrop.errors import OutcropError
from outcrop.generative.codes import class_means, codes_of
from outcrop.generative.run import VaeGanModel, VaeGanRun
from outcrop.generative.training import judge_for, random_sample
from outcrop.patches.patchset import PatchSet
from outcrop.progress import track
from outcrop.splits.split import Split, read_split
from outcrop.training.classifier import Classifier
from outcrop.training.folder import CLASSIFIER, read_config
from outcrop.training.model import Model
from outcrop.training.run import Run, Trained, network_of, opened

FEWEST = 8
"""Minimum number of held-out images for measures."""
_PIECE = 2048
_MOST_JUDGED, _MOST_IN_PIXELS = 10_000, 2_000
_VALUES = 1 << 28
_WANTED_PER_FEATURE = 3


@dataclass(frozen=True)
class Request:
    """The options of `outcrop.generative.drawing.generate`.

    Raises:
        OutcropError: a number is out of range.
    """

    number: int = 64
    seed: int = 0
    per_class: int = 0
    between: tuple[int, ...] | None = None
    attribute: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("number", 1), ("seed", 0), ("per_class", 0)):
            if getattr(self, name) < least:
                raise OutcropError(f"`{name}`", f"is {getattr(self, name)}; take {least} or more")
        if self.between is not None and len({*self.between}) != 2:
            raise OutcropError("`between`", "needs two different patches, for example 3,17")

    def check(self, run: VaeGanRun, patches: PatchSet | None, judged: bool) -> None:
        """Check that run and patches can fulfil the request.

        Args:
            judged: whether there is a judge.

        Raises:
            OutcropError: an option needs patches, the patches of the run, or an encoder; no such
                patch or class; the training side lacks the class, or all other classes.
        """
        options = {
            "`per_class`": self.per_class > 0,
            "`between`": self.between is not None,
            "`attribute`": self.attribute is not None,
        }
        coded = [option for option, given in options.items() if given]
        if patches is None:
            if judged or coded:
                raise OutcropError(
                    (["`judge`"] * judged + coded)[0],
                    f"needs patches; give those that {run.folder} was trained on",
                )
            return
        run.check_patches(patches)
        if coded and not run.model.network.has_encoder:
            raise OutcropError(
                coded[0],
                f"needs an encoder, which a {run.model.network.title} lacks; take a run of "
                "`outcrop.train_vaegan`",
            )
        for place in self.between or ():
            if not 0 <= place < len(patches):
                last = len(patches) - 1
                raise OutcropError("`between`", f"there is no patch {place}; take 0 to {last}")
        there = {patches.classes[k] for k in patches.labels[run.split.train]}
        if self.attribute is not None and (self.attribute not in there or len(there) < 2):
            raise OutcropError(
                "`attribute`",
                f"'{self.attribute}' is not one of several classes of the training side; there is "
                f"{', '.join(name for name in patches.classes if name in there)}",
            )


@dataclass(frozen=True, eq=False)
class Judge:
    """A classifier that had no part in the training of the generative networks.

    Attributes:
        name: description of its features, beside each number that is computed from them.
        caution: reason to doubt its results on held-out images; "" if there is none.
    """

    classifier: Classifier
    name: str
    caution: str

    def codes(self, classes: tuple[str, ...]) -> np.ndarray | None:
        """The indices of classes among those of the judge; None if it lacks one."""
        known = self.classifier.classes
        if not set(classes) <= set(known):
            return None
        return np.array([known.index(name) for name in classes])


def judge_of(model: Trained, patches: PatchSet, held_out: np.ndarray) -> Judge:
    """The judge of images such as the patches.

    Args:
        held_out: indices of the patches that it will classify.

    Raises:
        OutcropError: it was trained on other bands or another size.
    """
    model = opened(model)
    classifier = judge_for(network_of(model), patches)
    where = f" ({model.folder})" if isinstance(model, Run) else ""
    name = f"features of {classifier.network.title} trained by outcrop{where}"
    return Judge(classifier, name, _caution(model, patches, held_out))


def _caution(model: Model | Run, patches: PatchSet, held_out: np.ndarray) -> str:
    unknown = "it is unknown whether the judge was trained on held-out images"
    if not isinstance(model, Run):
        return unknown
    trained_on = read_config(model.folder, CLASSIFIER)["patches"]["fingerprint"]
    if trained_on != patches.fingerprint:
        return f"{unknown}: {model.folder} was trained on another patch set"
    seen = np.isin(held_out, read_split(model.folder / "split.json").train).sum()
    if not seen:
        return ""
    return (
        f"the judge was trained on {seen:,} of {len(held_out):,} held-out images, which makes its "
        "measures of them too good; train it on the split of the VAE-GAN"
    )


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """The space in which distances between images are measured.

    Attributes:
        name: its description.
        features: function from images, `N × bands × height × width`, to float32, `N × F`.
    """

    name: str
    features: Callable[[np.ndarray], np.ndarray]

    def features_of(self, patches: PatchSet, index: np.ndarray) -> np.ndarray:
        """The features of the patches at `index`, read in pieces; `0 × 0` without patches."""
        starts = track(range(0, len(index), _PIECE), "computing features")
        parts = [self.features(patches.take(index[start : start + _PIECE])) for start in starts]
        return np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32)


def space_of(model: VaeGanModel, judge: Judge | None) -> FeatureSpace:
    """The features of the judge; without one, pixels in the range of the networks."""
    if judge is not None:
        classifier = judge.classifier
        return FeatureSpace(judge.name, lambda x: classifier.probabilities_and_features(x)[1])
    return FeatureSpace(
        "pixels, each band in -1 to 1", lambda x: model.normalised(x).reshape(len(x), -1)
    )


@dataclass(frozen=True, eq=False)
class Inputs:
    """A model, its patches, and what is computed from both.

    Attributes:
        model: the model.
        patches: the patch set.
        split: the split of the run.
        held_out: indices of validation patches: all, or a random sample of very many.
        searched: indices of training patches: all, or without a judge a random sample of very many.
        train_features, held_out_features: float32, `searched × F` and `held_out × F`, in `space`.
        codes: float32, random codes from the prior, at least two and as many as held-out patches.
        means: float32, `classes × latent`, the mean code of each class on the training side, NaN
            for a class without patches; None without an encoder.
        judge: the judge; None without one.
        space: the space of distances.
    """

    model: VaeGanModel
    patches: PatchSet
    split: Split
    held_out: np.ndarray
    searched: np.ndarray
    train_features: np.ndarray
    held_out_features: np.ndarray
    codes: np.ndarray
    means: np.ndarray | None
    judge: Judge | None
    space: FeatureSpace

    @property
    def known(self) -> np.ndarray:
        """Mask of the classes with a mean code, bool, `classes`."""
        if self.means is None:
            return np.zeros(len(self.patches.classes), dtype=bool)
        return np.isfinite(self.means).all(axis=1)

    @property
    def can_reconstruct(self) -> bool:
        """Whether there is an encoder, and a held-out image to encode."""
        return self.means is not None and len(self.held_out) > 0

    @property
    def can_measure(self) -> bool:
        """Whether there are enough held-out images."""
        return len(self.held_out) >= FEWEST

    @property
    def judge_knows_classes(self) -> bool:
        """Whether there is a judge with all classes of the patches."""
        return self.judge is not None and self.judge.codes(self.patches.classes) is not None


def inputs_of(run: VaeGanRun, patches: PatchSet, request: Request, judge: Trained | None) -> Inputs:
    """Compute codes and features.

    Raises:
        OutcropError: the judge was trained on patches of another kind.
    """
    model, split = run.model, run.split
    per_image = int(np.prod(patches.images.shape[1:]))
    most = _MOST_IN_PIXELS if judge is None else _MOST_JUDGED
    held_out = random_sample(split.validation, min(most, _VALUES // per_image), request.seed)
    its = None if judge is None else judge_of(judge, patches, held_out)
    space = space_of(model, its)
    searched = split.train
    if its is None:
        searched = random_sample(searched, 2 * _VALUES // per_image, request.seed)
    means = None
    if model.network.has_encoder:
        codes, _ = codes_of(model, patches, split.train)
        means = class_means(codes, patches.labels[split.train], len(patches.classes))
    return Inputs(
        model=model,
        patches=patches,
        split=split,
        held_out=held_out,
        searched=searched,
        train_features=space.features_of(patches, searched),
        held_out_features=space.features_of(patches, held_out),
        codes=model.sample_codes(max(request.number, len(held_out), 2), request.seed),
        means=means,
        judge=its,
        space=space,
    )


def notes_on(given: Inputs, request: Request) -> tuple[str, ...]:
    """What is left out and why, and the limits of the measures."""
    found = []
    if given.means is None:
        found.append(
            f"a {given.model.network.title} has no encoder: no reconstructions, no interpolation "
            "between patches, no classes added to images"
        )
    elif given.known.sum() < 2:
        found.append("a single class on the training side: no classes added to images")
    if not len(given.held_out):
        found.append(
            "the run has no validation side: no reconstructions, no classes added, no measures"
        )
    elif not given.can_measure:
        found.append(f"no measures of {len(given.held_out)} held-out patches; they need {FEWEST}")
    if request.between is not None and not np.isin(request.between, given.split.validation).all():
        found.append("the two patches that are interpolated are not both held out")
    for side, all_, some in (
        ("held-out", given.split.validation, given.held_out),
        ("training", given.split.train, given.searched),
    ):
        if len(some) < len(all_):
            found.append(
                f"a random sample of {len(some):,} of {len(all_):,} {side} patches is used"
            )
    return (*found, *(_cautions(given) if given.can_measure else ()))


def _cautions(given: Inputs) -> list[str]:
    found = []
    if given.split.spatial:
        found.append(
            "held-out patches are from other ground, farther from training patches: samples closer "
            "than they are need not be copies"
        )
    if given.judge is None:
        return found
    if given.judge.caution:
        found.append(given.judge.caution)
    features = given.train_features.shape[1]
    if len(given.held_out) < _WANTED_PER_FEATURE * features:
        found.append(
            f"{len(given.held_out)} held-out patches are few for an extrapolation of the Fréchet "
            f"distance of {features} features"
        )
    if given.means is not None and not given.judge_knows_classes:
        found.append("the judge lacks some classes: it cannot show whether they were added")
    return found
