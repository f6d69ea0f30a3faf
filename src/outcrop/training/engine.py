"""Patches, a split and a network become a run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from outcrop.errors import OutcropError
from outcrop.evaluation.calibration import temperature_that_holds
from outcrop.files import check_new, sweep
from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import PatchSet
from outcrop.patches.reopen import AnySource
from outcrop.splits.split import Split
from outcrop.training.announce import announce, announce_balance, announce_shifts
from outcrop.training.augment import label_of, settled
from outcrop.training.checkpoint import read_checkpoint
from outcrop.training.classifier import Classifier
from outcrop.training.classifier_loop import ClassifierLoop
from outcrop.training.cutter import open_cutter
from outcrop.training.device import capped_memory, exact_convolutions
from outcrop.training.folder import (
    CLASSIFIER,
    check_same,
    describe,
    is_finished,
    read_config,
    start,
    stored_batch,
)
from outcrop.training.memory import fitting_batch, full_memory_explained
from outcrop.training.normalise import learn_normalisation
from outcrop.training.origin import origin_of
from outcrop.training.parallel import Team, make_learner, make_team
from outcrop.training.pictures import load_pictures
from outcrop.training.recipe import Augmentation, Recipe
from outcrop.training.run import Predictions, Run, read_run, weights_of
from outcrop.training.start import first_weights
from outcrop.training.trust import measure_trust, write_trust

_OLD_GAIN_OF_SCENES = 0.2


def train(
    patches: PatchSet,
    split: Split,
    folder: str | Path,
    network: ResidualNet = ResidualNet(),
    recipe: Recipe = Recipe(),
    resume: bool = False,
    lines: bool = False,
    graph: bool = True,
    sources: Sequence[AnySource] | None = None,
    start_from: str | Path | None = None,
) -> Run:
    """Train `network` on the training side of `split` and judge it on the validation side.

    The model is the one after the last epoch. The best epoch is not looked for: choosing it by
    the validation side would make that side's score too good. What the validation side does tell is
    how sure the model may be (`temperature_that_holds`), which changes no class and so no score,
    and how unlike the training side ground may be (`learn_area`). The test side is not touched.

    Every epoch draws its order, augmentation and dropped blocks from `recipe.seed` and its own
    number, so that a run that was stopped or killed and resumed ends with the same weights as one
    that was not (on one machine, with one number of threads).

    With torchrun or `outcrop train --devices`, several processes go through the same call. They do
    what one process does with as much of `accumulate`, up to rounding; resumed with as many, the
    weights are again the same. The first one writes; all return the run, so that all must see
    `folder`. When all were asked to stop, or another process has failed, the others just exit.

    Args:
        patches: the patches; images of more than 2 GiB stay on disk and are read batch by batch.
        split: the sides, made for these patches. The validation side may be empty, for a last
            training on all that is labelled: such a run has no scores.
        folder: where the run is written: configuration, split, the two newest checkpoints,
            metrics, TensorBoard events, predictions of the validation side, the area of trust, and
            the model.
        network: what to train.
        recipe: how.
        resume: go on with the run in `folder`, if there is one, from its newest checkpoint. All
            but the device must be as it was. A finished run is returned as it is.
        lines: print a line for each epoch on standard error.
        graph: draw the network's graph for TensorBoard, which takes seconds for deep networks.
        sources: where the patches' sources are now, if they are to be cut anew and the sources are
            no longer where they were; one for each of `patches.sources`, in that order.
        start_from: the folder of a run, or a safetensors file, whose weights are the first weights
            where they fit (`outcrop.training.start.first_weights`). A run that is gone on with
            knows what it started from.

    Raises:
        OutcropError: the folder exists and `resume` is false, or is not this run; the split does
            not fit the patches; the patches are too small for a network without padding; no such
            device; the patches cannot be cut anew (`open_cutter`); the loss is no longer a number;
            memory or disk is full.
        KeyboardInterrupt, Stopped: Ctrl-C or SIGTERM; the run can be resumed.
    """
    split.check(patches, judged=len(split.validation) > 0)
    network.check_size(patches.size)
    with make_team(network, recipe) as team, ExitStack() as stack:
        with team.together():
            stack.enter_context(capped_memory(team.device, recipe.machine.gpu_bytes))
        if team.world > 1:
            recipe = replace(recipe, machine=replace(recipe.machine, devices=team.world))
        return _train(
            patches,
            split,
            Path(folder),
            network,
            recipe,
            resume,
            lines,
            graph,
            sources,
            start_from,
            team,
        )


def _train(
    patches: PatchSet,
    split: Split,
    folder: Path,
    network: ResidualNet,
    recipe: Recipe,
    resume: bool,
    lines: bool,
    graph: bool,
    sources: Sequence[AnySource] | None,
    start_from: str | Path | None,
    team: Team,
) -> Run:
    device, recipe = team.device, _written_out(recipe, patches)
    started: dict[str, Any] = {} if start_from is None else {"from": str(start_from)}
    first = None
    with team.together():
        going_on = resume and folder.exists()
        if going_on:
            if recipe.fit_batch:
                recipe = replace(recipe, batch=stored_batch(folder))
            defaults = {
                "network": asdict(ResidualNet()),
                "recipe": asdict(_before(recipe, patches)),
            }
            begun_with = read_config(folder, CLASSIFIER).get("start", {})
            if start_from is None or begun_with.get("from") == str(start_from):
                started = begun_with
            config = describe(patches, split, network, recipe) | {"start": started}
            check_same(folder, config, split, defaults)
            if is_finished(folder):
                return read_run(folder, str(device))
            if team.first:
                sweep(folder)
        else:
            check_new(folder, instead="--resume")
        if started and not read_checkpoint(folder).tensors:
            first = first_weights(started["from"], network, patches)
            if started.setdefault("weights", first.checksum) != first.checksum:
                raise OutcropError(
                    first.source,
                    "holds other weights than when the run was started; bring back the old ones, "
                    "or start a new run in another folder",
                )

    with ExitStack() as stack:
        with team.together():
            normalisation = learn_normalisation(patches, split.train)
            cutter = stack.enter_context(open_cutter(patches, split, recipe.augmentation, sources))
            training = load_pictures(patches, split.train, device, cutter)
            validation = load_pictures(patches, split.validation, device)
        stack.enter_context(exact_convolutions())
        if recipe.fit_batch and not going_on:
            with team.together():
                batch = fitting_batch(network, recipe, patches, device, len(training))
            recipe = replace(recipe, batch=min(team.gather(batch)))
        with full_memory_explained(network, recipe, patches.size, device):
            learner = make_learner(
                network, recipe, patches, team, None if first is None else first.tensors
            )
            loop = ClassifierLoop(learner, recipe, patches, normalisation, lines, graph)
            with team.together():
                learner.check_parts(len(training))
                if not going_on and team.first:
                    config = describe(patches, split, network, recipe)
                    start(folder, config | ({"start": started} if started else {}), split)
            announce(network, patches, recipe.machine, device)
            announce_balance(recipe.class_balance, patches.labels[split.train], patches)
            announce_shifts(recipe.augmentation, patches)
            loop.fit(training, validation, folder)
            _, probabilities = loop.evaluate(validation)
    module = learner.kept()

    with team.together():
        if team.first:
            truth = patches.labels[validation.index]
            said = Predictions(validation.index, truth, probabilities.numpy())
            classifier = Classifier(
                network,
                module.to(device),
                patches.classes,
                patches.bands,
                normalisation,
                patches.size,
                recipe.test_flip,
                temperature_that_holds(truth, said.probabilities, split.groups[validation.index]),
                label_of(recipe.augmentation, patches),
                origin_of(patches, split.train),
            )
            weights = weights_of(classifier)
            replace(said, model=weights).save(folder / "predictions.npz")
            area = measure_trust(classifier, training, validation, split.groups, recipe.seed)
            write_trust(folder, replace(area, model=weights))
            classifier.save(folder)
    return read_run(folder, str(device))


def _written_out(recipe: Recipe, patches: PatchSet) -> Recipe:
    """The recipe with the numbers that None stands for, so that a run tells what was done."""
    augmentation = settled(recipe.augmentation, patches)
    return replace(
        recipe,
        learning_rate=recipe.highest_rate,
        weight_decay=recipe.decay,
        augmentation=replace(augmentation, label_of=recipe.augmentation.label_of),
    )


def _before(recipe: Recipe, patches: PatchSet) -> Recipe:
    """What an outcrop of before has done where the configuration of its run has None or nothing.

    Every label was taken for that of the whole image, and bands got random gains.
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
    return _written_out(Recipe(augmentation=augmentation), patches)
