"""The model that is kept: fitted to all labelled ground, with the score of cross-validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from outcrop.errors import OutcropError
from outcrop.models.architectures import Network
from outcrop.models.baselines import BASELINES
from outcrop.patches.patchset import PatchSet
from outcrop.splits import Folds
from outcrop.splits.split import TRAIN, Split
from outcrop.training.engine import train
from outcrop.training.fit import fit_classical
from outcrop.training.recipe import Recipe, Tuning
from outcrop.training.run import Predictions, Run
from outcrop.workflow.candidates import read_probabilities
from outcrop.workflow.comparison import Comparison, Row

NETWORK = "patch"


def fit_to_all(
    patches: PatchSet,
    folds: Folds,
    row: Row,
    compared: str | Path,
    folder: str | Path,
    network: Network | None = None,
    recipe: Recipe = Recipe(),
    resume: bool = False,
    tuning: Tuning = Tuning(),
) -> Run:
    """Fit a model of a comparison anew, to all patches.

    What cross-validation held out tells how sure it may be; its score is that of cross-validation.

    Args:
        row: the model, of which the first seed is taken.
        compared: the folder of the comparison.
        network, recipe, tuning: those of the comparison, for a network, which is tuned anew.
    """
    sides = np.full(len(patches), TRAIN, np.int8)
    how = {"splitter": "all labelled ground", "cross-validated by": dict(folds.how)}
    split = Split(sides, folds.groups, patches.fingerprint, how, folds.spatial)
    probabilities = read_probabilities(Path(compared), row)
    held_out = Predictions(
        folds.index, patches.labels[folds.index], probabilities, cross_validated=True
    )
    seed = row.seeds[0] if row.seeds else recipe.seed
    if row.features == NETWORK:
        return train(
            patches,
            split,
            folder,
            network,
            recipe,
            resume,
            held_out=held_out,
            folds=folds,
            tuning=tuning,
        )
    for one in BASELINES:
        if (one.name, one.features) == (row.model, row.features):
            return fit_classical(patches, split, folder, one, seed, resume, held_out, folds)
    raise OutcropError(row.title, "cannot be fitted anew; choose another with --map-with")


def chosen(comparison: Comparison, wanted: str | None) -> Row:
    """The model that is recommended, or the one that a user names.

    Args:
        wanted: a title such as "SVM, centre pixel", or "network"; case, commas and dashes do not
            count.

    Raises:
        OutcropError: there is no such model.
    """
    if wanted is None:
        return comparison.recommended
    rows = [
        row
        for row in comparison.rows
        if row.features in (NETWORK, "centre pixel", "patch statistics")
    ]
    for row in rows:
        if _plain(wanted) in (_plain(row.title), _plain(_name(row))):
            return row
    names = ", ".join(f"'{_name(row)}'" for row in rows)
    raise OutcropError("--map-with", f"there is no '{wanted}'; take one of {names}")


def _name(row: Row) -> str:
    return "network" if row.features == NETWORK else row.title


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace(",", " ").replace("-", " ").split())
