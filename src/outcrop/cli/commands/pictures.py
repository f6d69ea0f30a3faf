"""The command that lets a VAE-GAN draw."""

from __future__ import annotations

from pathlib import Path


def generate(
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
        run: of a VAE-GAN, made by `outcrop train --model vaegan`.
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
    from outcrop.cli.picture_tables import generated_table
    from outcrop.experiment.generating.generate import generate as draw
    from outcrop.patches.collection import open_patches
    from outcrop.training.run import read_run
    from outcrop.training.vaegan.run import read_vaegan_run

    drawn = draw(
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
