"""`train`: from patches, a split and a network to a run."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from torch import nn

from outcrop.errors import OutcropError
from outcrop.files import check_new, sweep
from outcrop.models.architectures import (
    Factory,
    MultiScaleNet,
    Network,
    ResidualNet,
    network_json,
    network_of,
)
from outcrop.models.baselines import Baseline, baseline_of
from outcrop.patches.collection import AnyPatches, open_patches
from outcrop.patches.patchset import PatchSet
from outcrop.patches.reopen import AnySource
from outcrop.progress import silence, tell
from outcrop.splits.folds import AnyFolds, Folds, read_folds
from outcrop.splits.split import BUFFER, TRAIN, AnySplit, Split, read_split
from outcrop.training.augment import label_of, settled
from outcrop.training.checkpoint import read_checkpoint
from outcrop.training.classifier import Classifier
from outcrop.training.classifier_loop import ClassifierLoop, OnEpoch
from outcrop.training.cutter import open_cutter
from outcrop.training.device import exact_convolutions
from outcrop.training.folder import (
    CLASSIFIER,
    check_same,
    describe,
    is_finished,
    read_config,
    start,
)
from outcrop.training.messages import (
    full_memory_as,
    log_class_balance,
    log_shifts,
    log_training,
    remedies,
)
from outcrop.training.normalise import learn_normalisation
from outcrop.training.origin import origin_of
from outcrop.training.parallel import make_learner, make_process_group
from outcrop.training.parallel.process_group import ProcessGroup, refuse_several
from outcrop.training.pictures import load_pictures
from outcrop.training.recipe import Augmentation, Recipe, Settled, Tuning, suited
from outcrop.training.run import Predictions, Run, read_run, write_results
from outcrop.training.start import first_weights
from outcrop.training.tuning import choices, given_json, tune

_OLD_GAIN_OF_SCENES = 0.2
_NARROWEST = 0.01  # lower limit of the deviation of a feature, relative to the largest


def train(
    patches: AnyPatches,
    split: AnySplit,
    folder: str | Path,
    network: Network | Factory | nn.Module | Baseline | ClassifierMixin | None = None,
    recipe: Recipe | None = None,
    resume: bool = False,
    lines: bool = False,
    graph: bool = True,
    sources: Sequence[AnySource] | None = None,
    held_out: Predictions | None = None,
    start_from: str | Path | None = None,
    tuning: Tuning | None = None,
    folds: AnyFolds | None = None,
    sample_weight: np.ndarray | None = None,
    on_epoch: OnEpoch | None = None,
) -> Run:
    """Train `network` on the training side of `split` and evaluate it on the validation side.

    The model is that of the last epoch. Choosing the best epoch by the validation side would make
    the score of this side too high. The validation side sets the temperature
    (`temperature_that_holds`), which changes no predicted class and no score, and the area of
    applicability (`learn_area`). The test side is not used.

    Order, augmentation and dropped blocks of an epoch follow from `recipe.seed` and the number of
    the epoch. A run that was interrupted and resumed ends with the same weights as an uninterrupted
    one, on one machine with one number of threads.

    With torchrun or `outcrop train --devices`, several processes call this function. Up to
    rounding, the result is that of one process with `accumulate` multiplied by their number. The
    first process writes and all return the run, so that all need access to `folder`. After a
    signal, or an error in another process, processes exit without a message.

    Args:
        patches: patch set, or its name; images of more than 2 GiB stay on disk and are read batch
            by batch.
        split: split of these patches, or the name of its file. The validation side may be empty,
            for a final training on all labelled patches; such a run has no scores.
        folder: output folder: configuration, split, the two newest checkpoints, metrics,
            TensorBoard events, predictions of the validation side, area of applicability, model.
        network: description of a network; or a function from the numbers of bands and classes to a
            `torch.nn.Module` that maps `N × bands × height × width` to logits `N × classes`; or
            such a module. None: `default_network(patches)`. A classical model or a classifier of
            scikit-learn is fitted by `outcrop.training.fit.fit_classical`, with the seed of the
            recipe.
        recipe: settings of the training; None: defaults of the network
            (`outcrop.training.recipe.suited`).
        resume: continue the run in `folder`, if there is one, from its newest checkpoint. All
            settings but the device must be the same. A finished run is returned unchanged.
        lines: print a line for each epoch on standard error.
        graph: add the graph of a residual network and confusion matrices to the TensorBoard
            events, which takes seconds.
        sources: present paths of the sources, one for each of `patches.sources` in that order, if
            patches are cut anew and the sources have moved.
        held_out: out-of-fold predictions of a cross-validation, for a network that is trained on
            all patches. They replace the predictions of the validation side and set the
            temperature.
        start_from: folder of a run, or safetensors file, with initial weights, as far as they fit
            (`outcrop.training.start.first_weights`). A resumed run knows its initial weights.
        tuning: limits of a search by folds inside the training side, for settings that `recipe`
            leaves open, and with `network=None` for the network (`outcrop.training.tuning.tune`).
            The run stores the result, so that a resumed run does not search again.
        folds: folds of the cross-validation that gave `held_out`: the area of applicability
            compares the held-out patches of each fold with its training patches.
        sample_weight: float, `N`, non-negative weight of each patch in the training loss, relative
            to the mean weight of the training side. Training patches of weight 0 are left out. Not
            for classical models, tuning and pipelines.
        on_epoch: called after each new epoch with an `EpochResult`, in the first process only. If
            it returns True, the training ends with the weights of that epoch and the run is
            finished. An exception that it raises ends the training as it is; the run can be
            resumed from the last checkpoint.

    Raises:
        OutcropError: the folder exists and `resume` is false, or contains another run; the split
            does not fit the patches; the patches are too small for a network without padding; no
            such device; the patches cannot be cut anew (`open_cutter`); the loss is NaN or
            infinite; memory or disk is full.
        KeyboardInterrupt, Stopped: Ctrl-C or SIGTERM; the run can be resumed.
    """
    patches, split = open_patches(patches), read_split(split)
    folds = None if folds is None else read_folds(folds)
    if sample_weight is not None and tuning is not None and tuning.tries:
        raise OutcropError("sample_weight", "tuning takes none; leave tuning out")
    if isinstance(network, Baseline | ClassifierMixin):
        if sample_weight is not None or on_epoch is not None:
            raise OutcropError(
                "train", "classical models take no sample_weight and on_epoch; leave them out"
            )
        from outcrop.training.fit import fit_classical

        seed, baseline = (recipe or Recipe()).seed, baseline_of(network)
        return fit_classical(patches, split, folder, baseline, seed, resume, held_out, folds)
    split.check(patches, validated=len(split.validation) > 0)
    weights = None
    if sample_weight is not None:
        split, weights = _weighted(patches, split, sample_weight)
    given = None if network is None else network_of(network)
    network = given or default_network(patches)
    network.check_size(patches.size)
    recipe = recipe or Recipe()
    tuned: dict[str, Any] = {}
    if tuning is not None and tuning.tries:
        network, recipe, tuned = _tuned(
            patches, split, Path(folder), given, recipe, tuning, resume, sources, start_from
        )
    recipe = suited(recipe, network)
    with make_process_group(network, recipe) as group:
        recipe = replace(recipe, machine=replace(recipe.machine, devices=group.world))
        return _train(
            patches, split, Path(folder), network, recipe, resume, lines, graph, sources, held_out,
            folds, start_from, tuned, group, weights, on_epoch,
        )  # fmt: skip


def _weighted(
    patches: PatchSet, split: Split, sample_weight: np.ndarray
) -> tuple[Split, np.ndarray]:
    """The split without training patches of weight 0, and weights whose mean on them is 1.

    Raises:
        OutcropError: not one finite, non-negative number for each patch; none above 0.
    """
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (len(patches),):
        raise OutcropError(
            "sample_weight", f"has shape {weights.shape}; give one number for each patch"
        )
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise OutcropError("sample_weight", "has negative or infinite numbers; correct them")
    if not weights[split.train].any():
        raise OutcropError("sample_weight", "is 0 for all training patches; correct it")
    left_out = (split.sides == TRAIN) & (weights == 0)
    split = replace(split, sides=np.where(left_out, BUFFER, split.sides).astype(np.int8))
    return split, weights / weights[split.train].mean()


def _tuned(
    patches: PatchSet,
    split: Split,
    folder: Path,
    network: Network | None,
    recipe: Recipe,
    tuning: Tuning,
    resume: bool,
    sources: Sequence[AnySource] | None,
    start_from: str | Path | None,
) -> tuple[Network, Recipe, dict[str, Any]]:
    """Network and recipe after tuning, and the entry for `config.json`.

    If the run exists, the choice is read from it.

    Raises:
        OutcropError: several processes; as `train`.
    """
    refuse_several(recipe.machine, "tuning", "take 1, or `trials=0` to tune nothing")
    if network is None and (start_from is not None or default_network(patches) != MultiScaleNet()):
        network = default_network(patches)
    if resume and folder.exists():
        before = read_config(folder, CLASSIFIER).get("tuning", {})
        variants, parts = choices(network, recipe, patches, tuning)
        every = [*variants, *parts]
        chosen = next((one for one in every if one.name == before.get("chosen")), every[0])
        # `check_same` reports settings that differ.
        return chosen.network, chosen.recipe, {**before, **asdict(tuning)}
    check_new(folder, instead="resume")
    first = None
    if start_from is not None:
        with silence():  # the training logs it again
            first = first_weights(start_from, network or MultiScaleNet(), patches).tensors
    found = tune(patches, split, network, recipe, tuning, sources, first)
    tell(f"{'/'.join(folder.parts[-2:])}: {found.summary}")
    entry = found.to_json(tuning, given_json(network, recipe))
    return found.variant.network, found.variant.recipe, entry


def default_network(patches: PatchSet) -> Network:
    """The network that is trained if none is given.

    For labelled pixels of scenes: the multi-scale network. For labelled images and for volumes,
    where the multi-scale network was not tested: ResNet-20.
    """
    of_scenes = patches.positions is not None and not patches.from_volume
    return MultiScaleNet() if of_scenes else ResidualNet()


def _train(
    patches: PatchSet,
    split: Split,
    folder: Path,
    network: Network,
    recipe: Settled,
    resume: bool,
    lines: bool,
    graph: bool,
    sources: Sequence[AnySource] | None,
    held_out: Predictions | None,
    folds: Folds | None,
    start_from: str | Path | None,
    tuned: Mapping[str, Any],
    group: ProcessGroup,
    weights: np.ndarray | None,
    on_epoch: OnEpoch | None,
) -> Run:
    device, recipe = group.device, _written_out(recipe, patches)
    started: dict[str, Any] = {} if start_from is None else {"from": str(start_from)}
    weighted: dict[str, Any] = {}
    if weights is not None:
        # Enough to notice other weights when a run is resumed.
        weighted = {"sample_weight": zlib.crc32(weights.astype(np.float32).tobytes())}
    first = None
    with group.all_or_none():
        settings = {"network": network_json(network), "recipe": asdict(recipe)}
        config = describe(patches, split, CLASSIFIER, **settings)
        if weights is not None and recipe.machine.strategy == "pipeline" and group.world > 1:
            raise OutcropError("`strategy`", "pipeline takes no sample_weight; take ddp")
        going_on = resume and folder.exists()
        if going_on:
            defaults = {
                "network": asdict(ResidualNet()) if isinstance(network, ResidualNet) else {},
                "recipe": asdict(_before(recipe, patches)),
            }
            begun_with = read_config(folder, CLASSIFIER).get("start", {})
            if start_from is None or begun_with.get("from") == str(start_from):
                started = begun_with
            made = {"start": started, "tuning": tuned, **weighted}
            check_same(folder, config | made, split, defaults)
            if is_finished(folder):
                return read_run(folder, str(device))
            if group.first:
                sweep(folder)
        else:
            check_new(folder, instead="resume")
        if started and not read_checkpoint(folder).tensors:
            found = first_weights(started["from"], network, patches)
            first = found.tensors
            if started.setdefault("weights", found.checksum) != found.checksum:
                raise OutcropError(
                    found.source,
                    "holds other weights than when the run was started; bring back the old ones, "
                    "or start a new run in another folder",
                )

    with ExitStack() as stack:
        with group.all_or_none():
            normalisation = learn_normalisation(patches, split.train)
            cutter = stack.enter_context(open_cutter(patches, split, recipe.augmentation, sources))
            training = load_pictures(patches, split.train, device, cutter, weights)
            validation = load_pictures(patches, split.validation, device)
        stack.enter_context(exact_convolutions())
        advice = partial(remedies, network, recipe, patches.size, device)
        with full_memory_as(recipe.batch, device, advice):
            learner = make_learner(network, recipe, patches, group, first)
            learner.prepare(training, normalisation)
            loop = ClassifierLoop(
                learner, normalisation, training, validation, lines, graph, on_epoch
            )
            with group.all_or_none():
                learner.check_parts(len(training))
                if not going_on and group.first:
                    made = {"start": started, "tuning": tuned, **weighted}
                    start(folder, config | {k: v for k, v in made.items() if v}, split)
            log_training(network, patches, recipe.machine, device)
            if lines:
                log_class_balance(recipe.class_balance, patches.labels[split.train], patches)
            log_shifts(recipe.augmentation, patches)
            loop.fit(folder)
            _, probabilities = loop.evaluate()
    module = learner.kept()

    with group.all_or_none():
        if group.first:
            classifier = Classifier(
                network,
                module.to(device),
                normalisation,
                recipe.test_flip,
                classes=patches.classes,
                bands=patches.bands,
                size=patches.size,
                label_of=label_of(recipe.augmentation, patches),
                trained_on=origin_of(patches, split.train),
            )
            truth = patches.labels[validation.index]
            predictions = held_out or Predictions(
                validation.index, truth, probabilities.numpy(), classifier.identity
            )
            seen, unseen = classifier.features(training), classifier.features(validation)
            write_results(
                folder, classifier, predictions, split, seen, unseen, folds,
                narrowest=_NARROWEST, seed=recipe.seed,
            )  # fmt: skip
    return read_run(folder, str(device))


def _written_out(recipe: Settled, patches: PatchSet) -> Settled:
    """The recipe without None, as it is stored in the run."""
    augmentation = settled(recipe.augmentation, patches)
    return replace(
        recipe, augmentation=replace(augmentation, label_of=recipe.augmentation.label_of)
    )


def _before(recipe: Settled, patches: PatchSet) -> Settled:
    """The recipe of older versions, for runs whose configuration has None or no value.

    These versions treated every label as that of the whole image and used random gains.
    """
    usual = settled(replace(recipe.augmentation, crop=None, rotate=None, gain=None), patches)
    from_scenes = patches.positions is not None and not patches.from_volume
    augmentation = Augmentation(
        label_of="auto" if patches.positions is None else "image",
        crop=usual.crop,
        rotate=usual.rotate,
        gain=_OLD_GAIN_OF_SCENES if from_scenes else usual.gain,
        jitter=0.0,
    )
    return _written_out(Settled(augmentation=augmentation), patches)
