"""`fit_to_all`: the final model of a comparison, fitted to all labelled patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin

from outcrop.errors import OutcropError
from outcrop.models.architectures import Network, network_of_json
from outcrop.models.baselines import BASELINES, Baseline, baseline_of
from outcrop.patches.collection import AnyPatches, open_patches
from outcrop.patches.reopen import AnySource
from outcrop.splits.split import TRAIN, Split
from outcrop.training.engine import train
from outcrop.training.fit import fit_classical
from outcrop.training.folder import CLASSIFIER, read_config
from outcrop.training.recipe import Recipe, Tuning, recipe_of
from outcrop.training.run import Predictions, Run
from outcrop.workflow.candidates import read_probabilities
from outcrop.workflow.compare import compared_folds
from outcrop.workflow.comparison import Comparison, Row, read_comparison

NETWORK = "patch"


def fit_to_all(
    patches: AnyPatches,
    compared: str | Path,
    folder: str | Path,
    model: str | Baseline | ClassifierMixin | None = None,
    resume: bool = False,
    sources: Sequence[AnySource] | None = None,
) -> Run:
    """Fit a model of a comparison to all labelled patches, to make maps with it.

    A network is trained, and tuned again, with the settings of the comparison. The model is
    calibrated with the held-out patches of the comparison, and its score is that of the comparison.

    Args:
        patches: the patch set that was compared, or its name.
        compared: folder of a finished comparison (`outcrop.compare`).
        folder: folder of the new run.
        model: the model: a title of the comparison such as "SVM, centre pixel", or "network"; case,
            commas and dashes are ignored. Or a classical model or scikit-learn classifier that was
            compared. None: the recommended model.
        resume: continue a fit that was interrupted.
        sources: see `outcrop.train`.

    Returns:
        The run: a folder with the model, for `outcrop.map_scene` and `outcrop.map_volume`.

    Raises:
        OutcropError: the comparison is missing, damaged or of other patches; it has no such model;
            the model uses features of an encoder, and cannot be fitted again; `folder` exists and
            `resume` is false, or has another run.
    """
    patches = open_patches(patches)
    compared, comparison = Path(compared), read_comparison(compared)
    if model is None or isinstance(model, str):
        wanted, classical = model, BASELINES
    else:
        given = baseline_of(model)
        wanted, classical = f"{given.name}, {given.features}", (given,)
    row = chosen(comparison, wanted, "`model`")
    runs = row.runs or ("network",)
    folds = compared_folds(compared, runs[0])
    folds.check(patches, compared)
    how = {"splitter": "all labelled ground", "cross-validated by": dict(folds.how)}
    sides = np.full(len(patches), TRAIN, np.int8)
    split = Split(sides, folds.groups, patches.fingerprint, how, folds.spatial)
    held_out = Predictions(
        folds.index,
        patches.labels[folds.index],
        read_probabilities(compared, row),
        cross_validated=True,
    )
    if row.features == NETWORK:
        network, recipe, tuning = _settings(read_config(compared / runs[0], CLASSIFIER))
        return train(
            patches,
            split,
            folder,
            network,
            recipe,
            resume,
            sources=sources,
            held_out=held_out,
            folds=folds,
            tuning=tuning,
        )
    seed = row.seeds[0] if row.seeds else 0
    for one in classical:
        if (one.name, one.features) == (row.model, row.features):
            return fit_classical(patches, split, folder, one, seed, resume, held_out, folds)
    raise OutcropError(
        row.title, "cannot be fitted from its title; pass the classifier, or select another model"
    )


def _settings(config: Mapping[str, Any]) -> tuple[Network | None, Recipe, Tuning | None]:
    """Network, recipe and tuning that a run was given; no network if tuning selected it."""
    tuned = config.get("tuning", {})
    given = tuned.get("given", config)
    network = None if given["network"] is None else network_of_json(given["network"])
    recipe = recipe_of({**given["recipe"], "machine": config["recipe"]["machine"]})
    return network, recipe, Tuning(tuned["trials"], tuned["tuning_folds"]) if tuned else None


def chosen(comparison: Comparison, wanted: str | None, where: str) -> Row:
    """The recommended model, or the one that the user selects.

    Args:
        wanted: a title such as "SVM, centre pixel", or "network"; case, commas and dashes are
            ignored. None for the recommended model.
        where: the argument, for the error.

    Raises:
        OutcropError: there is no such model.
    """
    if wanted is None:
        return comparison.recommended
    rows = [row for row in comparison.rows if row.features in _FITTED]
    for row in rows:
        if _plain(wanted) in (_plain(row.title), _plain(_name(row))):
            return row
    names = ", ".join(f"'{_name(row)}'" for row in rows)
    raise OutcropError(where, f"there is no '{wanted}'; use one of {names}")


_FITTED = (NETWORK, "centre pixel", "patch statistics")
"""Features of models that can be fitted again; those of an encoder cannot."""


def _name(row: Row) -> str:
    return "network" if row.features == NETWORK else row.title


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace(",", " ").replace("-", " ").split())
