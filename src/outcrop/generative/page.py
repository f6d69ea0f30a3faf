"""A page of its own for a run of networks that learn pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from outcrop.errors import OutcropError
from outcrop.files import check_new, new_file
from outcrop.generative import charts, findings
from outcrop.generative.grids import grid, shown, shown_bands
from outcrop.generative.metrics import ASLEEP
from outcrop.generative.model import VaeGanModel
from outcrop.generative.recipe import VaeGanRecipe, vaegan_recipe_of
from outcrop.generative.repeat import command
from outcrop.generative.run import VaeGanRun, read_vaegan_run
from outcrop.generative.stages import Stage, stages
from outcrop.generative.training.look import evenly
from outcrop.patches.collection import open_patches
from outcrop.patches.patchset import PatchSet
from outcrop.reporting.html import listed, percent, render_page
from outcrop.reporting.rasters import jpeg, png
from outcrop.splits import SIDES
from outcrop.training.recipe import Augmentation

_SMALL, _LARGE = 32, 128


@dataclass(frozen=True)
class Grid:
    """Pictures beside each other.

    Attributes:
        title: what they are.
        picture: a data URI.
        words: how to look at them.
    """

    title: str
    picture: str
    words: str


@dataclass(frozen=True)
class NetworkPart:
    """One of the networks.

    Attributes:
        name: encoder, decoder or discriminator.
        given: the shape of what goes in.
        stages: its layers.
        learns: whether this run trained it.
    """

    name: str
    given: tuple[int, ...]
    stages: tuple[Stage, ...]
    learns: bool

    @property
    def parameters(self) -> int:
        """Numbers that are learnt."""
        return sum(stage.parameters for stage in self.stages)


def write_page(
    folder: Path,
    patches: str | Path | None = None,
    output: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write one HTML page about a run of a VAE-GAN, VAE or GAN.

    Args:
        folder: made by `outcrop generative train`.
        patches: what it was trained on, for pictures that were held out, and what the networks
            make of them.
        output: the page; `report.html` in the folder if not given.
        overwrite: whether the page may exist.

    Returns:
        The page.

    Raises:
        OutcropError: the run is damaged or unfinished; other patches, or none were held out; the
            page exists; the disk is full.
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
        OutcropError: other patches than those of the run, or none were held out.
    """
    recipe = vaegan_recipe_of(run.config["recipe"])
    return render_page(
        "pictures.html.j2",
        Path(__file__).parent,
        run=run,
        network=run.model.network,
        last=run.metrics[-1],
        title=run.folder.resolve().name,
        tiles=findings.tiles(run),
        sentences=findings.sentences(run),
        alarms=findings.alarms(run.metrics),
        features_of=findings.features_of(run),
        sides={name: int((run.split.sides == side).sum()) for side, name in enumerate(SIDES)},
        grids=[_samples(run, recipe.seed), *([] if patches is None else [_held_out(run, patches)])],
        bands_shown=_bands_shown(run.model.bands),
        losses=charts.loss_charts(run),
        measures=charts.measure_charts(run),
        code=charts.code_charts(run),
        parts=network_parts(run.model),
        recipe=dict(_recipe_rows(run, recipe)),
        ranges=_ranges(run.model),
        asleep=ASLEEP,
        command=command(run),
        speed=float(np.median([epoch.images_per_second for epoch in run.metrics])),
    )


def network_parts(model: VaeGanModel) -> tuple[NetworkPart, ...]:
    """The networks of a model, layer by layer, in the order in which a picture meets them."""
    picture, code = (len(model.bands), model.size, model.size), (model.network.latent,)
    networks = model.networks
    return tuple(
        NetworkPart(
            name,
            given,
            stages(network, torch.zeros(2, *given, device=model.device)),
            name != "discriminator" or model.network.plays,
        )
        for name, network, given in (
            ("encoder", networks.encoder, picture),
            ("decoder", networks.decoder, code),
            ("discriminator", networks.discriminator, picture),
        )
        if network is not None
    )


def _samples(run: VaeGanRun, seed: int) -> Grid:
    images = run.model.sample(_number(run.model), seed)
    return Grid(
        "Samples",
        _drawn(_colours(run.model, images)),
        "what the decoder draws of codes from the prior",
    )


def _held_out(run: VaeGanRun, patches: PatchSet) -> Grid:
    """Held-out pictures from all over the validation side, and what the networks make of them."""
    run.check_patches(patches)
    model, index = run.model, run.split.validation
    if not len(index):
        raise OutcropError(
            "--patches", f"{run.folder} held none of them out to be drawn; leave it out"
        )
    if not model.network.has_encoder:
        pictures = patches.take(evenly(index, _number(model)))
        return Grid(
            "Held-out pictures",
            _drawn(_colours(model, pictures)),
            "real ones, to hold the samples against",
        )
    pictures = patches.take(evenly(index, _number(model) // 2))
    pairs = [_colours(model, images) for images in (pictures, model.reconstruct(pictures))]
    return Grid(
        "Held-out pictures above their reconstructions",
        _drawn(np.concatenate(pairs, axis=1)),
        "below each stands what the decoder draws of the mean of its code",
    )


def _number(model: VaeGanModel) -> int:
    """Of pictures, so that the page stays small."""
    return 32 if model.size >= _LARGE else 64


def _colours(model: VaeGanModel, images: np.ndarray) -> np.ndarray:
    return shown(model.in_range(images), model.bands)


def _drawn(pictures: np.ndarray) -> str:
    """A grid as wide as the page, of pictures `N × height × width × 3`."""
    width = pictures.shape[2]
    columns = min(8 if width >= _LARGE else 16, len(pictures))
    if width <= _SMALL:
        return png(grid(pictures, columns, scale=2))
    return jpeg(grid(pictures, columns))


def _bands_shown(bands: Sequence[str]) -> str:
    """What the colours of the pictures are; "" where they are what one expects.

    >>> _bands_shown(["blue", "green", "red"]), _bands_shown(["VV", "VH"])
    ('', 'Shown is the band VV.')
    """
    names = [bands[k] for k in shown_bands(bands)]
    if [name.lower() for name in names] == ["red", "green", "blue"]:
        return ""
    if len(bands) < 3:
        return f"Shown is the band {names[0]}." if len(bands) > 1 else ""
    return f"Shown as red, green and blue are the bands {listed(names)}."


def _recipe_rows(run: VaeGanRun, recipe: VaeGanRecipe) -> Iterator[tuple[str, str]]:
    network = run.model.network
    batches = f"{recipe.epochs} of {len(run.split.train):,} pictures, in batches of at most "
    yield "epochs", f"{batches}{recipe.batch}"
    name = {"rmsprop": "RMSProp", "adam": "Adam"}[recipe.optimiser]
    yield "optimiser", f"{name}, learning rate {recipe.learning_rate:g}"
    if network.has_encoder:
        compared = "what the discriminator sees" if network.has_discriminator else "pixels"
        gamma = recipe.gamma_for(network, run.model.size)
        weight = f", γ = {gamma:.3g} against the GAN in the decoder" if network.plays else ""
        yield "likeness", f"of {compared}{weight}"
        warm_up = f"its weight rises from 0 to 1 over {recipe.kl_warm_up:g} epochs"
        yield "prior", warm_up if recipe.kl_warm_up else "weight 1 from the first step"
    if network.plays:
        yield "decoder", f"loss of the GAN: {recipe.decoder_loss}"
        rests = f"rests in steps in which it is right of more than {percent(recipe.balance, 0)}"
        normalised = "spectral" if network.spectral else "batch"
        yield (
            "discriminator",
            f"{normalised} normalisation; {rests if recipe.balance else 'learns in every step'}",
        )
    average = f"a moving average is kept, decay {recipe.average:g} per step"
    yield "weights of the decoder", average if recipe.average else "those of the last step"
    yield "augmentation", listed(list(_augmentations(recipe.augmentation))) or "none"
    yield "seed", str(recipe.seed)


def _augmentations(chosen: Augmentation) -> Iterator[str]:
    if chosen.flip:
        yield "mirrored"
    if chosen.rotate is None:
        yield "turned where pictures have no up"
    elif chosen.rotate:
        yield "turned"
    if chosen.crop:
        yield f"shifted by up to {chosen.crop} pixels"
    if chosen.gain:
        yield f"gain of each band up to {percent(chosen.gain, 0)}"
    if chosen.noise:
        yield f"noise of {chosen.noise:g} standard deviations"
    if chosen.cutout:
        yield f"squares of {chosen.cutout} pixels cut out"
    if chosen.cuts_anew:
        yield f"cut anew up to {chosen.neighbourhood} pixels and {chosen.slices} slices away"


def _ranges(model: VaeGanModel) -> list[tuple[str, float, float]]:
    """Of each band, between which values pictures are seen and drawn."""
    ends = zip(model.scale.mean, model.scale.std, strict=True)
    return [
        (name, centre - half, centre + half)
        for name, (centre, half) in zip(model.bands, ends, strict=True)
    ]
