"""What a network says of the patches that it was not trained on, of all folds together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from outcrop.metrics.applicability import Applicability, judge_applicability
from outcrop.metrics.calibration import Calibration, calibrate
from outcrop.metrics.scores import Scores, score
from outcrop.training.applicability import has_applicability
from outcrop.training.run import Predictions, Run


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What one model says of patches that it was not fitted to.

    They are the validation sides of its runs, one run for each fold; or of a run that was fitted to
    all patches, what cross-validation held out.

    Attributes:
        runs: one for each fold.
        judged: indices, rising, of the patches that scores are of; None for all.
    """

    runs: tuple[Run, ...]
    judged: np.ndarray | None = None

    @cached_property
    def said(self) -> Predictions:
        """By rising index, as the networks give them, not calibrated."""
        return self._pooled([run.predictions for run in self.runs])

    @cached_property
    def calibrated(self) -> Predictions:
        """By rising index, each at the temperature of its run."""
        return self._pooled([run.calibrated for run in self.runs])

    @cached_property
    def groups(self) -> np.ndarray:
        """The piece of ground of each patch of `said`."""
        return self._picked(np.concatenate([run.groups for run in self.runs]))

    @cached_property
    def scores(self) -> Scores:
        """With intervals from all pieces of ground.

        Raises:
            OutcropError: nothing is held out.
        """
        if len(self.runs) == 1 and self.judged is None:
            return self.runs[0].scores
        classes = self.runs[0].model.classes
        said = self.said.probabilities.argmax(axis=1)
        return score(self.said.truth, said, classes, self.groups)

    @cached_property
    def calibration(self) -> Calibration:
        """How sure the networks are of what is held out, and how right."""
        return calibrate(self.said.truth, self.said.probabilities, self.groups)

    @property
    def is_calibrated(self) -> bool:
        """Whether maps are at the temperature; runs of before there was one are not."""
        run = self.runs[0]
        if len(self.runs) > 1 or run.predictions.cross_validated:
            return True
        return bool(np.isclose(run.model.temperature, self.calibration.temperature))

    @property
    def threshold(self) -> float:
        """Where the area of applicability ends, as dissimilarity; NaN if each fold has its own."""
        alone = len(self.runs) == 1 and has_applicability(self.runs[0].folder)
        return self.runs[0].applicability.threshold if alone else np.nan

    @cached_property
    def applicability(self) -> Applicability | None:
        """How right the networks are inside and outside of their areas of applicability.

        None where there is none, for runs of before, and for a model fitted to all patches.

        Raises:
            OutcropError: an area of applicability is damaged.
        """
        if not all(has_applicability(run.folder) for run in self.runs):
            return None
        if any(run.predictions.cross_validated for run in self.runs):
            return None  # its area is that of all patches
        outside = self._picked(
            np.concatenate(
                [
                    run.applicability.held_out.numpy() > run.applicability.threshold
                    for run in self.runs
                ]
            )
        )
        right = self.said.probabilities.argmax(axis=1) == self.said.truth
        return judge_applicability(outside, right, self.groups)

    def _pooled(self, parts: list[Predictions]) -> Predictions:
        index, truth, probabilities = (
            self._picked(np.concatenate([getattr(one, name) for one in parts]))
            for name in ("index", "truth", "probabilities")
        )
        return Predictions(index, truth, probabilities)

    def _picked(self, values: np.ndarray) -> np.ndarray:
        """Of values run by run those of the patches that are judged, by rising index."""
        return values[self._order]

    @cached_property
    def _order(self) -> np.ndarray:
        index = np.concatenate([run.predictions.index for run in self.runs])
        order = np.argsort(index, kind="stable")
        return order if self.judged is None else order[np.isin(index[order], self.judged)]
