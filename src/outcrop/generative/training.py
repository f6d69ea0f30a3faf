"""`train_vaegan`: from patches, a split and a plan to a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from outcrop.errors import OutcropError
from outcrop.files import check_new, sweep
from outcrop.generative.learner import VaeGanLearner
from outcrop.generative.loop import Evaluator, VaeGanLoop, evenly_spaced
from outcrop.generative.run import VaeGanModel, VaeGanRun, read_vaegan_run
from outcrop.generative.settings import VaeGan, VaeGanRecipe
from outcrop.models.cost import short
from outcrop.patches.collection import AnyPatches, open_patches
from outcrop.patches.patchset import PatchSet
from outcrop.patches.reopen import AnySource
from outcrop.progress import tell, warn
from outcrop.sources.bands import bands_text, listed, match
from outcrop.splits.split import AnySplit, read_split
from outcrop.training.checkpoint import checksum
from outcrop.training.classifier import Classifier
from outcrop.training.cutter import open_cutter
from outcrop.training.device import exact_convolutions, pick_precision
from outcrop.training.folder import PICTURE_MODEL, check_same, describe, is_finished, start
from outcrop.training.messages import full_memory_as, smaller_parts
from outcrop.training.normalise import Normalisation
from outcrop.training.parallel.process_group import open_process_group
from outcrop.training.pictures import load_pictures
from outcrop.training.run import Trained, network_of

_TAILS = (0.001, 0.999)
_PIXELS = 1 << 24


def train_vaegan(
    patches: AnyPatches,
    split: AnySplit,
    folder: str | Path,
    network: VaeGan = VaeGan(),
    recipe: VaeGanRecipe = VaeGanRecipe(),
    resume: bool = False,
    lines: bool = False,
    sources: Sequence[AnySource] | None = None,
    similarity: VaeGanRun | str | Path | None = None,
    judge: Trained | None = None,
) -> VaeGanRun:
    """Train generative networks on the training side of `split`.

    Labels are not used. After every epoch the reconstructions of validation images are measured,
    and with a judge also samples. The validation side influences neither training nor the choice of
    the model, and the test side is not read. The model is that after the last epoch.

    As with `outcrop.training.engine.train`, an interrupted and resumed run ends with the same
    weights as an uninterrupted one. Several processes (`--devices`, torchrun) give the same result,
    up to rounding, as one process with as many parts (`accumulate`). On a GPU the networks are
    compiled.

    Args:
        patches: squares of 32, 64 or 128 pixels, with any number of bands.
        split: split of these patches. The validation side may be empty.
        folder: output run folder: configuration, split, the two newest checkpoints, metrics,
            TensorBoard events with grids of images, and the model.
        network: the networks.
        recipe: their training.
        resume: continue the run in `folder`, if there is one, from its newest checkpoint. A
            finished run is returned unchanged.
        lines: print a line for each epoch on standard error, and alarms.
        sources: see `outcrop.training.engine.train`.
        similarity: for `VaeGan("vae-dis")`, a run of a GAN or VAE-GAN on the same patches, whose
            discriminator gives the features of the reconstruction loss.
        judge: a classifier of the same kind of patches, whose features measure reconstructions and
            samples in every epoch. It does not influence the training.

    Raises:
        OutcropError: patches of another size, or all of a single value; the folder exists and
            `resume` is false, or holds another run; the split does not fit the patches; no such
            device; the loss is not finite; memory or disk is full; judge or similarity are missing
            where they are needed, or do not fit.
        KeyboardInterrupt, Stopped: Ctrl-C or SIGTERM; the run can be resumed.
    """
    patches, split = open_patches(patches), read_split(split)
    similarity = None if similarity is None else read_vaegan_run(similarity)
    split.check(patches, validated=False, classes=1)
    network.check_size(patches.size)
    folder, size = Path(folder), patches.size[0]
    classifier = None if judge is None else judge_for(network_of(judge), patches)
    weights = _similarity(network, similarity, patches)
    # The learner takes gradients loss by loss and sums them itself, without a wrapper.
    with open_process_group(recipe.machine, lambda: "ddp") as group, ExitStack() as stack:
        device = group.device
        recipe = replace(recipe, machine=replace(recipe.machine, devices=group.world))
        remedies = partial(_remedies, recipe, device)
        stack.enter_context(full_memory_as(recipe.batch, device, remedies))
        settings = {"network": asdict(network), "recipe": asdict(recipe)}
        config = describe(patches, split, PICTURE_MODEL, **settings)
        config |= _checksums(classifier, weights)
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
                check_new(folder, instead="resume")
        with group.all_or_none():
            scale = learn_scale(patches, split.train, recipe.seed)
            cutter = stack.enter_context(open_cutter(patches, split, recipe.augmentation, sources))
            training = load_pictures(patches, split.train, device, cutter)
        stack.enter_context(exact_convolutions())
        learner = VaeGanLearner(network, recipe, len(patches.bands), size, group, weights)
        held_out = patches.take(evenly_spaced(split.validation))
        seen = patches.take(evenly_spaced(split.train))
        evaluator = Evaluator(held_out, seen, classifier, recipe.seed)
        dtype = patches.images.dtype.name
        model = VaeGanModel(network, learner.saved, patches.bands, scale, size, dtype)
        loop = VaeGanLoop(learner, model, evaluator, training, lines)
        with group.all_or_none():
            learner.check_parts(len(training))
            if not resume and group.first:
                start(folder, config, split)
        _announce(learner)
        loop.fit(folder)
        with group.all_or_none():
            if group.first:
                model.save(folder)
        return read_vaegan_run(folder, str(device))


def _checksums(judge: Classifier | None, similarity: Mapping[str, Tensor] | None) -> dict[str, Any]:
    """Checksums of the fixed networks of a run. With other ones it is another run."""
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
    """The weights of the fixed discriminator of a VAE with a learned metric; None for others."""
    if network.parts != "vae-dis":
        if run is not None:
            raise OutcropError("`similarity`", f"is not used by a {network.title}; leave it out")
        return None
    if run is None:
        raise OutcropError(
            "`similarity`", "is missing; a VAE with a learned metric needs a run with `parts='gan'`"
        )
    run.check_patches(patches)
    theirs = run.model.networks.discriminator
    same = ("filters", "spectral")
    if theirs is None or any(getattr(run.model.network, k) != getattr(network, k) for k in same):
        raise OutcropError(
            run.folder,
            "has no discriminator, or one of another architecture; take a run with the same "
            "`filters` and `spectral`",
        )
    return theirs.state_dict()


def judge_for(judge: Classifier, patches: PatchSet) -> Classifier:
    """A classifier with its bands in the order of the patches.

    Raises:
        OutcropError: it was trained on other bands or another size.
    """
    same = len(judge.bands) == len(patches.bands)
    found = match(patches.bands, judge.bands) if same else None
    if found is None or judge.size != patches.size:
        raise OutcropError(
            "`judge`",
            f"was trained on {bands_text(judge.bands)} of {judge.size[0]} × {judge.size[1]} "
            f"pixels, the patches have {bands_text(patches.bands)} of {patches.size[0]} × "
            f"{patches.size[1]}; take a classifier of such patches",
        )
    if found.assumed and judge.bands != patches.bands:
        warn(
            f"nothing in the names identifies the bands; {listed(patches.bands)} are taken "
            f"in this order for {listed(judge.bands)} of the judge"
        )
    return judge.in_order(found.order)


def _announce(learner: VaeGanLearner) -> None:
    """Print the networks and the device on standard error."""
    machine, device = learner.recipe.machine, learner.group.device
    parameters = sum(p.numel() for p in learner.networks.parameters())
    where = f"{device}, {pick_precision(machine.precision, device)}"
    if machine.devices > 1:
        where += f", {machine.devices} processes"
    tell(f"training a {learner.network.title}: {short(parameters)} parameters; on {where}")


def _remedies(recipe: VaeGanRecipe, device: torch.device) -> str:
    """Options that save memory and are not used yet."""
    options = smaller_parts(recipe.batch, recipe.machine)
    if device.type != "mps" and pick_precision(recipe.machine.precision, device) == "32-true":
        options.append("`precision='bf16-mixed'`")
    return ", or ".join([*options, "fewer `filters`"])


def learn_scale(patches: PatchSet, index: np.ndarray, seed: int = 0) -> Normalisation:
    """The normalisation of each band that maps nearly all pixels to -1 to 1.

    The ends are the quantiles 0.001 and 0.999 of the valid pixels. Images are clipped there,
    because the hyperbolic tangent of the decoder has no values beyond. For large sets a random
    sample is used.

    Args:
        index: the patches to use, those of the training side.
        seed: random seed of the sample.

    Raises:
        OutcropError: a band has no valid pixel; every image has a single value.
    """
    most = max(1, _PIXELS // int(np.prod(patches.images.shape[1:])))
    images = patches.take(random_sample(index, most, seed))
    centres, halves = [], []
    for band, pixels in zip(patches.bands, np.moveaxis(images, 1, 0), strict=True):
        valid = pixels[np.isfinite(pixels)]
        if not valid.size:
            raise OutcropError(
                f"band '{band}'", "has no valid pixel on the training side; leave the band out"
            )
        low, high = np.quantile(valid, _TAILS).tolist()
        centres.append((low + high) / 2)
        halves.append((high - low) / 2 or 1.0)
    each = images.reshape(len(images) * images.shape[1], -1).astype(np.float32)
    valid = np.isfinite(each)
    lowest = each.min(axis=1, initial=np.inf, where=valid)
    if not (each.max(axis=1, initial=-np.inf, where=valid) > lowest).any():
        raise OutcropError(
            "patches", "each has a single value; there is nothing to learn from them"
        )
    return Normalisation(tuple(centres), tuple(halves))


def random_sample(index: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most `most` random items of `index`, in their order."""
    if len(index) <= most:
        return index
    return np.sort(np.random.default_rng(seed).choice(index, most, replace=False))
