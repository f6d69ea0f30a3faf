"""The commands `outcrop generative`: training, samples and measures, and comparison of codes."""

from __future__ import annotations

from pathlib import Path

from outcrop.cli.commands.options import ComparisonOptions, keep_memory
from outcrop.cli.group import Group
from outcrop.cli.presets import PresetName
from outcrop.generative.plan import EncoderPlan, VaeGanPlan


def train(
    patches: str,
    *,
    output: Path,
    split: Path | None = None,
    model: VaeGanPlan = VaeGanPlan(),
    similarity: Path | None = None,
    judge: Path | None = None,
    sources: list[str] | None = None,
    resume: bool = False,
    json: bool = False,
) -> None:
    """Train a VAE, a GAN or a VAE-GAN on the images of a patch set.

    Args:
        patches: input patch set, a folder or archive with one folder per class, an npz file, or
            "cifar10".
        output: output run folder.
        split: split made by `outcrop split`. Default: the split that the collection was published
            with.
        model: vaegan (default), vae, gan, or vae-dis, a VAE with a reconstruction loss on features
            of the discriminator of another run.
        similarity: for --model vae-dis: run folder of a gan or vaegan on the same patches.
        judge: run folder of a classifier whose features measure reconstructions and samples in
            every epoch.
        sources: for --neighbourhood and --slices: present location of the files that the patches
            were cut from, in the same order, if they have moved.
        resume: continue an interrupted run.
        json: print the result as JSON.

    Examples:
        outcrop generative train fields.zarr --split split.json -o runs/vaegan
        outcrop generative train cifar10 --model vae --epochs 20 -o runs/vae
    """
    from outcrop.cli.console import show
    from outcrop.generative.run import read_vaegan_run
    from outcrop.generative.tables import vaegan_table
    from outcrop.generative.training import train_vaegan
    from outcrop.patches.collection import open_patches
    from outcrop.splits import delivered_split, read_split
    from outcrop.training.parallel.process_group import launch
    from outcrop.training.run import read_run

    machine = model.recipe.machine
    keep_memory(machine)
    opened = open_patches(patches, learnable=False)
    sides = delivered_split(opened) if split is None else read_split(split, opened)
    launch(machine)
    trained = train_vaegan(
        opened,
        sides,
        output,
        model.network,
        model.recipe,
        resume,
        lines=True,
        sources=sources,
        similarity=None if similarity is None else read_vaegan_run(similarity, "cpu"),
        judge=None if judge is None else read_run(judge, machine.device),
    )
    content = {"run": trained.folder, "last_epoch": trained.metrics[-1]}
    show(content, json, lambda: vaegan_table(trained))


def draw(
    run: Path,
    patches: str | None = None,
    *,
    output: Path,
    number: int = 64,
    seed: int = 0,
    judge: Path | None = None,
    per_class: int = 0,
    between: list[int] | None = None,
    attribute: str | None = None,
    device: str = "auto",
    json: bool = False,
) -> None:
    """Generate samples, reconstructions, interpolations and class changes, and measure them.

    Without patches: samples, and an interpolation between two of them. With patches: everything
    else, on the validation side of the run.

    Args:
        run: run folder made by `outcrop generative train`.
        patches: patch set that the run was trained on.
        output: output folder for images, arrays and measures.
        number: number of samples.
        seed: random seed of samples and of the choice of patches.
        judge: run folder of a classifier whose features measure the similarity of images. Default:
            pixels.
        per_class: number of samples per class to write to classes.npz.
        between: indices of two patches to interpolate between, for example 3,17, instead of random
            ones.
        attribute: the class to add to an image of every other class. Default: each class to another
            one.
        device: auto, cpu, cuda or mps.
        json: print the result as JSON.

    Examples:
        outcrop generative draw runs/vaegan -o samples
        outcrop generative draw runs/vaegan fields.zarr --per-class 100 -o drawn
    """
    from outcrop.cli.console import show
    from outcrop.generative.drawing import generate
    from outcrop.generative.run import read_vaegan_run
    from outcrop.generative.tables import generated_table
    from outcrop.patches.collection import open_patches
    from outcrop.training.run import read_run

    drawn = generate(
        read_vaegan_run(run, device),
        output,
        None if patches is None else open_patches(patches, learnable=False),
        number,
        seed,
        None if judge is None else read_run(judge, device),
        per_class,
        between,
        attribute,
    )
    content = {"measures": drawn.measures, "notes": drawn.notes, "files": drawn.files}
    show(content, json, lambda: generated_table(drawn))


def compare(
    patches: str,
    *,
    output: Path,
    preset: PresetName | None = None,
    how: ComparisonOptions = ComparisonOptions(),
    model: EncoderPlan = EncoderPlan(),
    resume: bool = False,
    json: bool = False,
) -> None:
    """Compare models, with classical classifiers also on the codes of a VAE or VAE-GAN.

    As `outcrop compare`; a VAE or VAE-GAN is also trained on the training side of each split.

    Args:
        patches: input patch set of square patches of 32, 64 or 128 pixels.
        output: output folder.
        preset: as in `outcrop train`.
        how: options of the comparison.
        model: vaegan (default) or vae. Its seed, hardware, flips and rotations are those of the
            network.
        resume: continue an interrupted comparison, add seeds, or add an encoder to one of `outcrop
            compare`.
        json: print the result as JSON.

    Examples:
        outcrop generative compare patches32.zarr --split split32.json -o codes
        outcrop generative compare patches32.zarr --model vae --model-epochs 30 -o codes
    """
    from outcrop.cli.console import show
    from outcrop.cli.tables import comparison_table
    from outcrop.patches.collection import open_patches

    encoder = model.beside(how.recipe)
    compared = how.compare(open_patches(patches), output, resume, encoder)
    show(compared, json, lambda: comparison_table(compared))


COMMANDS = {
    "generative": Group(
        "Generative networks for patches: VAE, GAN, VAE-GAN.",
        {"train": train, "draw": draw, "compare": compare},
    )
}
RENAMED = {
    "generate": "generative draw",
    "train --model": "generative train",
    "compare --model": "generative compare",
}
