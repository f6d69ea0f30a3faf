"""Patches, a split and networks become a run that has learnt the pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from outcrop.errors import OutcropError
from outcrop.files import check_new, sweep
from outcrop.generative.model import VaeGanModel
from outcrop.generative.network import VaeGan
from outcrop.generative.recipe import VaeGanRecipe
from outcrop.generative.run import VaeGanRun, read_vaegan_run
from outcrop.generative.training.learner import VaeGanLearner
from outcrop.generative.training.look import Looker, evenly
from outcrop.generative.training.loop import VaeGanLoop
from outcrop.generative.training.scale import learn_scale
from outcrop.models.cost import short
from outcrop.patches.patchset import PatchSet
from outcrop.patches.reopen import AnySource
from outcrop.progress import tell
from outcrop.sources.bands import bands_text, listed, match
from outcrop.splits.split import Split
from outcrop.training.checkpoint import checksum
from outcrop.training.classifier import Classifier
from outcrop.training.cutter import open_cutter
from outcrop.training.device import capped_memory, exact_convolutions, pick_precision
from outcrop.training.folder import PICTURE_MODEL, check_same, describe, is_finished, start
from outcrop.training.memory import full_memory_as, smaller_parts
from outcrop.training.parallel import ProcessGroup
from outcrop.training.parallel.process_group import open_process_group
from outcrop.training.pictures import load_pictures
from outcrop.training.run import Run, network_of

if TYPE_CHECKING:
    from lightning_fabric.strategies.strategy import Strategy


def train_vaegan(
    patches: PatchSet,
    split: Split,
    folder: str | Path,
    network: VaeGan = VaeGan(),
    recipe: VaeGanRecipe = VaeGanRecipe(),
    resume: bool = False,
    lines: bool = False,
    sources: Sequence[AnySource] | None = None,
    similarity: VaeGanRun | None = None,
    judge: Classifier | Run | None = None,
) -> VaeGanRun:
    """Learn the pictures of the training side of `split`, and look at the validation side.

    Labels are not looked at. Of the validation side reconstructions are measured after every
    epoch, and with a judge samples too; nothing is learnt from it or chosen by it, and the test
    side is not touched. The model is the one after the last epoch.

    As with `outcrop.training.engine.train`, a run that was stopped or killed and resumed ends with
    the same weights as one that was not; several processes (`--devices`, torchrun) do what one does
    with as much of `accumulate`, up to rounding; on a GPU the networks are compiled.

    Args:
        patches: squares of 32, 64 or 128 pixels, of any number of bands.
        split: the sides, made for these patches. The validation side may be empty.
        folder: where the run is written: configuration, split, the two newest checkpoints, metrics,
            TensorBoard events with grids of pictures, and the model.
        network: what to train.
        recipe: how.
        resume: go on with the run in `folder`, if there is one, from its newest checkpoint. A
            finished run is returned as it is.
        lines: print a line for each epoch on standard error, and alarms.
        sources: see `outcrop.training.engine.train`.
        similarity: for `VaeGan("vae-dis")`, a run of a GAN or VAE-GAN on the same patches, whose
            discriminator says what is alike.
        judge: a classifier of the same kind of patches. Its features measure reconstructions and
            samples in every epoch; nothing is learnt from it.

    Raises:
        OutcropError: patches of another size, or all of a single value; the folder exists and
            `resume` is false, or is not this run; the split does not fit the patches; no such
            device; the loss is no longer a number; memory or disk is full; judge or similarity are
            missing where they are needed, or do not fit.
        KeyboardInterrupt, Stopped: Ctrl-C or SIGTERM; the run can be resumed.
    """
    split.check(patches, judged=False, classes=1)
    network.check_size(patches.size)
    classifier = None if judge is None else network_of(judge)
    if classifier is not None:
        classifier = judge_for(classifier, patches)
    weights = _similarity(network, similarity, patches)
    with open_process_group(recipe.machine, _no_wrapping) as group, ExitStack() as stack:
        with group.all_or_none():
            stack.enter_context(capped_memory(group.device, recipe.machine.gpu_bytes))
        if group.world > 1:
            recipe = replace(recipe, machine=replace(recipe.machine, devices=group.world))
        ways = partial(_remedies, recipe, group.device)
        with full_memory_as(recipe.batch, group.device, ways):
            return _train(
                patches,
                split,
                Path(folder),
                network,
                recipe,
                resume,
                lines,
                sources,
                weights,
                classifier,
                group,
            )


def _train(
    patches: PatchSet,
    split: Split,
    folder: Path,
    network: VaeGan,
    recipe: VaeGanRecipe,
    resume: bool,
    lines: bool,
    sources: Sequence[AnySource] | None,
    similarity: Mapping[str, Tensor] | None,
    judge: Classifier | None,
    group: ProcessGroup,
) -> VaeGanRun:
    device = group.device
    config = describe(patches, split, asdict(network), recipe, PICTURE_MODEL)
    config |= _helped(judge, similarity)
    with group.all_or_none():
        if resume and folder.exists():
            defaults = {"network": asdict(VaeGan()), "recipe": asdict(VaeGanRecipe())}
            check_same(folder, config, split, defaults)
            if is_finished(folder):
                return read_vaegan_run(folder, str(device))
            if group.first:
                sweep(folder)
        else:
            resume = False
            check_new(folder, instead="--resume")
    with ExitStack() as stack:
        with group.all_or_none():
            scale = learn_scale(patches, split.train, recipe.seed)
            cutter = stack.enter_context(open_cutter(patches, split, recipe.augmentation, sources))
            training = load_pictures(patches, split.train, device, cutter)
            validation = load_pictures(patches, split.validation, device)
        stack.enter_context(exact_convolutions())
        learner = VaeGanLearner(
            network, recipe, len(patches.bands), patches.size[0], group, similarity
        )
        looker = Looker(
            patches.take(evenly(split.validation)),
            patches.take(evenly(split.train)),
            judge,
            recipe.seed,
        )
        model = VaeGanModel(
            network,
            learner.kept,
            patches.bands,
            scale,
            patches.size[0],
            patches.images.dtype.name,
        )
        loop = VaeGanLoop(learner, model, looker, lines)
        with group.all_or_none():
            learner.check_parts(len(training))
            if not resume and group.first:
                start(folder, config, split)
        _announce(network, recipe, learner, device)
        loop.fit(training, validation, folder)
    with group.all_or_none():
        if group.first:
            model.save(folder)
    return read_vaegan_run(folder, str(device))


def _helped(judge: Classifier | None, similarity: Mapping[str, Tensor] | None) -> dict[str, Any]:
    """Whose weights see the pictures, but do not learn: with others it is another run."""
    others = {
        "judge": None if judge is None else judge.module.state_dict(),
        "similarity": similarity,
    }
    return {
        name: {"weights": f"{checksum(weights):08x}"}
        for name, weights in others.items()
        if weights is not None
    }


def _similarity(
    network: VaeGan, run: VaeGanRun | None, patches: PatchSet
) -> Mapping[str, Tensor] | None:
    """The weights of the discriminator that says what is alike, for a network that learns none."""
    if network.parts != "vae-dis":
        if run is not None:
            raise OutcropError(
                "--similarity", f"has no meaning for a {network.title}; leave it out"
            )
        return None
    if run is None:
        raise OutcropError(
            "--similarity",
            "is missing: a VAE with a learned metric needs a run of `outcrop generative train "
            "--model gan`",
        )
    run.check_patches(patches)
    theirs = run.model.networks.discriminator
    same = ("filters", "spectral")
    if theirs is None or any(getattr(run.model.network, k) != getattr(network, k) for k in same):
        raise OutcropError(
            run.folder,
            "its discriminator is missing or another than this network's; take a run with the same "
            "--filters and --spectral",
        )
    return theirs.state_dict()


def judge_for(judge: Classifier, patches: PatchSet) -> Classifier:
    """A classifier that takes the bands of patches in their order.

    Raises:
        OutcropError: it was trained on other bands, or on another size.
    """
    same = len(judge.bands) == len(patches.bands)
    found = match(patches.bands, judge.bands) if same else None
    if found is None or judge.size != patches.size:
        raise OutcropError(
            "--judge",
            f"was trained on {bands_text(judge.bands)} of {judge.size[0]} × {judge.size[1]} "
            f"pixels, the patches have {bands_text(patches.bands)} of {patches.size[0]} × "
            f"{patches.size[1]}; "
            "take a classifier of such patches",
        )
    if found.assumed and judge.bands != patches.bands:
        tell(
            f"note: nothing in the names identifies the bands; {listed(patches.bands)} are taken "
            f"in this order for {listed(judge.bands)} of the judge"
        )
    return judge.in_order(found.order)


def _announce(
    network: VaeGan, recipe: VaeGanRecipe, learner: VaeGanLearner, device: torch.device
) -> None:
    """Say on standard error what is trained and where it runs."""
    parameters = sum(p.numel() for p in learner.networks.parameters())
    where = f"{device}, {pick_precision(recipe.machine.precision, device)}"
    if recipe.machine.devices > 1:
        where += f", {recipe.machine.devices} processes"
    tell(f"training a {network.title}: {short(parameters)} parameters; on {where}")


def _remedies(recipe: VaeGanRecipe, device: torch.device) -> str:
    """The options that save memory and are not used yet."""
    ways = smaller_parts(recipe.batch, recipe.machine)
    if device.type != "mps" and pick_precision(recipe.machine.precision, device) == "32-true":
        ways.append("--precision bf16-mixed")
    return ", or ".join([*ways, "fewer --filters"])


def _no_wrapping() -> Strategy:
    """The learner itself adds up gradients: they are taken loss by loss, not in one pass."""
    from lightning_fabric.strategies import DDPStrategy

    return DDPStrategy()
