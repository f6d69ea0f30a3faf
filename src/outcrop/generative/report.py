"""The HTML report of a generative run, and the commands that repeat such runs.

`outcrop.reporting.page` finds `KIND`, `write_page` and `encoder_options` here.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from outcrop.errors import OutcropError
from outcrop.files import check_new, new_file, read_json
from outcrop.generative import charts, findings
from outcrop.generative.grids import grid
from outcrop.generative.loop import evenly_spaced
from outcrop.generative.metrics import ACTIVE_NATS
from outcrop.generative.networks import Layer, layers_of
from outcrop.generative.plan import EncoderPlan, VaeGanPlan
from outcrop.generative.run import VaeGanModel, VaeGanRun, read_vaegan_run
from outcrop.generative.settings import VaeGan, VaeGanRecipe, vaegan_recipe_of
from outcrop.patches.collection import open_patches
from outcrop.patches.patchset import PatchSet
from outcrop.reporting.html import listed, percent, render_page
from outcrop.reporting.rasters import jpeg, png
from outcrop.reporting.repeat import options_of
from outcrop.sources.stretch import ways_to_show
from outcrop.splits import SIDES
from outcrop.training.folder import PICTURE_MODEL
from outcrop.training.recipe import Augmentation, Recipe

KIND = PICTURE_MODEL
"""The kind of runs that `write_page` and `encoder_options` are for."""
_SMALL, _LARGE = 32, 128


@dataclass(frozen=True)
class Grid:
    """A grid of images, as a data URI, with its explanation."""

    title: str
    uri: str
    words: str


@dataclass(frozen=True)
class NetworkPart:
    """An encoder, decoder or discriminator.

    Attributes:
        given: shape of its input.
        trained: whether this run trained it.
    """

    name: str
    given: tuple[int, ...]
    layers: tuple[Layer, ...]
    trained: bool

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(layer.parameters for layer in self.layers)


def write_page(
    folder: Path,
    patches: str | Path | None = None,
    output: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write one HTML page about a run of a VAE-GAN, VAE or GAN, and return its path.

    Args:
        folder: run folder made by `outcrop generative train`.
        patches: the patches that it was trained on, to show held-out images.
        output: output file. Default: `report.html` in the folder.

    Raises:
        OutcropError: the run is damaged or not finished; other patches, or none was held out; the
            file exists; the disk is full.
    """
    output = folder / "report.html" if output is None else output
    run = read_vaegan_run(folder, "cpu")
    check_new(output, overwrite)
    page = render(run, None if patches is None else open_patches(patches, learnable=False))
    with new_file(output) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return output


def render(run: VaeGanRun, patches: PatchSet | None = None) -> str:
    """The page as HTML.

    Raises:
        OutcropError: other patches than those of the run, or none was held out.
    """
    recipe = vaegan_recipe_of(run.config["recipe"])
    return render_page(
        "generative.html.j2",
        Path(__file__).parent,
        run=run,
        network=run.model.network,
        last=run.metrics[-1],
        title=run.folder.resolve().name,
        tiles=findings.tiles(run),
        sentences=findings.sentences(run),
        alarms=findings.alarms(run.metrics),
        source_of_features=findings.source_of_features(run),
        sides={name: int((run.split.sides == side).sum()) for side, name in enumerate(SIDES)},
        grids=[_samples(run, recipe.seed), *([] if patches is None else [_held_out(run, patches)])],
        bands_shown=_bands_shown(run.model.bands),
        losses=charts.loss_charts(run),
        measures=charts.measure_charts(run),
        code=charts.code_charts(run),
        parts=network_parts(run.model),
        recipe=dict(_recipe_rows(run, recipe)),
        ranges=[
            (name, centre - half, centre + half)
            for name, centre, half in zip(
                run.model.bands, run.model.scale.mean, run.model.scale.std, strict=True
            )
        ],
        active_nats=ACTIVE_NATS,
        command=command(run),
        speed=float(np.median([epoch.images_per_second for epoch in run.metrics])),
    )


def network_parts(model: VaeGanModel) -> tuple[NetworkPart, ...]:
    """The networks of a model with their layers, in the order of the computation."""
    image, code = (len(model.bands), model.size, model.size), (model.network.latent,)
    networks = model.networks
    return tuple(
        NetworkPart(
            name,
            given,
            layers_of(network, torch.zeros(2, *given, device=model.device)),
            name != "discriminator" or model.network.adversarial,
        )
        for name, network, given in (
            ("encoder", networks.encoder, image),
            ("decoder", networks.decoder, code),
            ("discriminator", networks.discriminator, image),
        )
        if network is not None
    )


def _samples(run: VaeGanRun, seed: int) -> Grid:
    images = run.model.sample(_number(run.model), seed)
    uri = _drawn(run.model.pictures(images))
    return Grid("Samples", uri, "images of random codes from the prior")


def _held_out(run: VaeGanRun, patches: PatchSet) -> Grid:
    """Evenly spaced held-out images, and their reconstructions."""
    run.check_patches(patches)
    model, index = run.model, run.split.validation
    if not len(index):
        raise OutcropError(
            "--patches", f"{run.folder} has no held-out patches to show; leave it out"
        )
    if not model.network.has_encoder:
        uri = _drawn(model.pictures(patches.take(evenly_spaced(index, _number(model)))))
        return Grid("Held-out images", uri, "real images, for comparison with the samples")
    images = patches.take(evenly_spaced(index, _number(model) // 2))
    pairs = [model.pictures(some) for some in (images, model.reconstruct(images))]
    return Grid(
        "Held-out images above their reconstructions",
        _drawn(np.concatenate(pairs, axis=1)),
        "a reconstruction is the decoded mean of the code",
    )


def _number(model: VaeGanModel) -> int:
    """The number of images in a grid, which keeps the page small."""
    return 32 if model.size >= _LARGE else 64


def _drawn(pictures: np.ndarray) -> str:
    """A grid as wide as the page, of pictures, `N × height × width × 3`, as a data URI."""
    width = pictures.shape[2]
    columns = min(8 if width >= _LARGE else 16, len(pictures))
    if width <= _SMALL:
        return png(grid(pictures, columns, scale=2))
    return jpeg(grid(pictures, columns))


def _bands_shown(bands: Sequence[str]) -> str:
    """The bands that are shown as colours; "" if they are named after these colours.

    >>> _bands_shown(["blue", "green", "red"]), _bands_shown(["VV", "VH"])
    ('', 'The band VV is shown.')
    """
    names = [bands[k] for k in ways_to_show(bands)[0][0]]
    if [name.lower() for name in names] == ["red", "green", "blue"]:
        return ""
    if len(bands) < 3:
        return f"The band {names[0]} is shown." if len(bands) > 1 else ""
    return f"The bands {listed(names)} are shown as red, green and blue."


def _recipe_rows(run: VaeGanRun, recipe: VaeGanRecipe) -> Iterator[tuple[str, str]]:
    network = run.model.network
    batches = f"{recipe.epochs} of {len(run.split.train):,} images, in batches of at most "
    yield "epochs", f"{batches}{recipe.batch}"
    name = {"rmsprop": "RMSProp", "adam": "Adam"}[recipe.optimiser]
    yield "optimiser", f"{name}, learning rate {recipe.learning_rate:g}"
    if network.has_encoder:
        compared = "features of the discriminator" if network.has_discriminator else "pixels"
        gamma = recipe.gamma_for(network, run.model.size)
        weight = f", γ = {gamma:.3g} against the GAN loss" if network.adversarial else ""
        yield "reconstruction loss", f"on {compared}{weight}"
        warm_up = f"its weight rises from 0 to 1 over {recipe.kl_warm_up:g} epochs"
        yield "prior", warm_up if recipe.kl_warm_up else "weight 1 from the first step"
    if network.adversarial:
        yield "decoder", f"GAN loss: {recipe.decoder_loss}"
        balance = f"no update in steps with an accuracy above {percent(recipe.balance, 0)}"
        normalised = "spectral" if network.spectral else "batch"
        yield (
            "discriminator",
            f"{normalised} normalisation; {balance if recipe.balance else 'update in every step'}",
        )
    average = f"moving average, decay {recipe.average:g} per step"
    yield "weights of the decoder", average if recipe.average else "those of the last step"
    yield "augmentation", listed(list(_augmentations(recipe.augmentation))) or "none"
    yield "seed", str(recipe.seed)


def _augmentations(chosen: Augmentation) -> Iterator[str]:
    if chosen.flip:
        yield "horizontal flips"
    if chosen.rotate is None:
        yield "rotations by 90° if images have no fixed orientation"
    elif chosen.rotate:
        yield "rotations by 90°"
    if chosen.crop:
        yield f"shifts by up to {chosen.crop} pixels"
    if chosen.gain:
        yield f"gain of each band up to {percent(chosen.gain, 0)}"
    if chosen.noise:
        yield f"noise of {chosen.noise:g} standard deviations"
    if chosen.cutout:
        yield f"squares of {chosen.cutout} pixels set to 0"
    if chosen.cuts_anew:
        yield f"cut again up to {chosen.neighbourhood} pixels and {chosen.slices} slices away"


def command(run: VaeGanRun) -> str:
    """The shell command that repeats a run.

    PATCHES, NEW, GAN and CLASSIFIER are placeholders; the last two are other runs.
    """
    network, recipe = run.model.network, vaegan_recipe_of(run.config["recipe"])
    others = ["--similarity GAN"] if network.parts == "vae-dis" else []
    others += ["--judge CLASSIFIER"] if run.judged else []
    return " ".join(
        [
            f"outcrop generative train PATCHES --split {shlex.quote(str(run.folder))}/split.json",
            f"--model {network.parts}",
            *options_of(network, VaeGan(network.parts)),
            *options_of(recipe, VaeGanRecipe()),
            *others,
            "--output NEW",
        ]
    )


def encoder_options(folder: Path, recipe: Recipe) -> tuple[list[str], str]:
    """Options of `outcrop generative compare` for an encoder, and a remark if they cannot suffice.

    Args:
        folder: run folder of the encoder.
        recipe: recipe of the classifier.
    """
    config = read_json(folder / "config.json", "run", "compare")
    network = VaeGan(**config["network"])
    how = vaegan_recipe_of(config["recipe"])
    if how.augmentation.rotate is None:
        # The default depends on the patches; the classifier's recipe has the resolved value.
        rotate = recipe.augmentation.rotate
        how = replace(how, augmentation=replace(how.augmentation, rotate=rotate))
    plan = EncoderPlan(network, how.epochs)
    same = plan.beside(recipe) == VaeGanPlan(network, how)
    remark = "" if same else "  # but the encoder has another recipe, encoder/config.json"
    changes = options_of(plan, EncoderPlan.named(network.parts))
    return [f"--model {network.parts}", *changes], remark
