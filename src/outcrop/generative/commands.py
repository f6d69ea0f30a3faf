"""The commands that train networks which learn pictures, let them draw, and compare their codes."""

from __future__ import annotations

from pathlib import Path

from outcrop.cli.group import Group
from outcrop.generative.plan import EncoderPlan, VaeGanPlan
from outcrop.models.architectures import Network
from outcrop.training.recipe import Recipe, Tuning


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
) -> None:
    """Train networks that learn the pictures themselves: a VAE, a GAN or a VAE-GAN.

    Args:
        patches: a patch set, a folder or archive with a folder per class, an npz, or "cifar10".
        output: the run, a new folder.
        split: made by `outcrop split`; without it, the sides that a collection came with.
        model: "vaegan", which is taken if not given, "vae", "gan", or "vae-dis", a VAE that
            compares what the discriminator of another run sees.
        similarity: for --model vae-dis, a run of --model gan or vaegan on the same patches.
        judge: a run of a classifier, in whose features reconstructions and samples are measured in
            every epoch.
        sources: for --neighbourhood and --slices, where the files are now that the patches were cut
            from, in the same order, if they are no longer where they were.
        resume: go on with a run that was interrupted.
    """
    from outcrop.cli.commands.options import keep_memory
    from outcrop.generative.run import read_vaegan_run
    from outcrop.generative.tables import vaegan_table
    from outcrop.generative.training.engine import train_vaegan
    from outcrop.patches.collection import open_patches
    from outcrop.splits import delivered_split, read_split
    from outcrop.training.parallel import launch
    from outcrop.training.run import read_run

    machine = model.picture_recipe.machine
    keep_memory(machine)
    opened = open_patches(patches, learnable=False)
    made = delivered_split(opened) if split is None else read_split(split, opened)
    launch(machine)
    learnt = train_vaegan(
        opened,
        made,
        output,
        model.picture_network,
        model.picture_recipe,
        resume,
        lines=True,
        sources=sources,
        similarity=None if similarity is None else read_vaegan_run(similarity, "cpu"),
        judge=None if judge is None else read_run(judge, machine.device),
    )
    vaegan_table(learnt)


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
) -> None:
    """Let a VAE-GAN draw: samples, reconstructions, what lies between, classes added; and measure.

    Without patches, samples and what lies between two of them. With patches, all else by the sides
    of the run: held out is its validation side.

    Args:
        run: of a VAE-GAN, made by `outcrop generative train`.
        patches: those that the run was trained on.
        output: a new folder for pictures, arrays and measures.
        number: of samples.
        seed: of the samples, and of the pictures that are chosen.
        judge: a run of a classifier of such patches, whose features tell how alike pictures are;
            without one, pixels do.
        per_class: write so many new pictures of each class to classes.npz.
        between: indices of two patches, such as 3,17, instead of held-out ones that are drawn.
        attribute: the one class to add to a picture of every other one, instead of each class to
            some other one.
        device: auto, cpu, cuda or mps.
    """
    from outcrop.generative.drawing.generate import generate
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
    generated_table(drawn)


def compare(
    patches: str,
    *,
    output: Path,
    split: Path | None = None,
    folds: int | None = None,
    block: float | None = None,
    buffer: float | None = None,
    network: Network | None = None,
    recipe: Recipe = Recipe(),
    tuning: Tuning = Tuning(),
    seeds: list[int] | None = None,
    model: EncoderPlan = EncoderPlan(),
    sources: list[str] | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    gap_seeds: int | None = None,
    resume: bool = False,
) -> None:
    """Hold models against each other, among them classical ones that see the codes of pictures.

    As `outcrop compare`, but networks that learn pictures are trained too, on the training side of
    each split, and the classical classifiers take part once more with their code of a patch.

    Args:
        patches: a patch set.
        output: a new folder.
        split: made by `outcrop split`: one fold, or all of them if made with --all-folds.
        folds: without --split, of how many parts of the ground each is held out once; 5 if not
            given. 1 holds out one part of five and no other.
        block: without --split, side of the blocks of ground, as in `outcrop split`.
        buffer: without --split, metres or voxels between training and validation patches, as in
            `outcrop split`.
        network: as for `outcrop train`.
        recipe: how to train it.
        tuning: what is spent on choosing what was not said of the network, anew in each training.
        seeds: train every model once for each, such as 0,1,2, so that the luck of a seed counts.
        model: "vaegan", which is taken if not given, or "vae"; seed, machine, flips and turns are
            those of the network.
        sources: for --neighbourhood and --slices, where the files are now that the patches were cut
            from, in the same order, if they are no longer where they were.
        workers: how many processes train at once; as many as there are cores if not given, and one
            on a GPU. The results are the same.
        scheduler: address of a Dask cluster to train on, or local[N] for N processes here.
        gap_seeds: with how many of the seeds, from the first, all is done again under a split at
            random, which gives the leak gap and takes as long; 0 leaves it out, and all if not
            given.
        resume: go on with a comparison that was interrupted, add seeds to one, or add an encoder to
            one of `outcrop compare`.
    """
    from outcrop.cli.commands.options import chosen_folds, keep_memory
    from outcrop.cli.tables import comparison_table
    from outcrop.experiment.compare import compare as compare_models
    from outcrop.patches.collection import open_patches

    keep_memory(recipe.machine)
    opened = open_patches(patches)
    seed = seeds[0] if seeds else recipe.seed
    comparison_table(
        compare_models(
            opened,
            chosen_folds(opened, split, folds, block, buffer, seed),
            output,
            network,
            recipe,
            resume,
            sources,
            seeds,
            model.beside(recipe),
            workers,
            scheduler,
            gap_seeds=gap_seeds,
            tuning=tuning,
        )
    )


COMMANDS = {
    "generative": Group(
        "Networks that learn the pictures themselves: VAE, GAN, VAE-GAN.",
        {"train": train, "draw": draw, "compare": compare},
    )
}
RENAMED = {
    "generate": "generative draw",
    "train --model": "generative train",
    "compare --model": "generative compare",
}
