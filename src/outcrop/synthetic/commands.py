"""The commands that make synthetic ground, or do the whole job on it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from outcrop.cli.group import Group


def demo(
    what: Literal["coast", "cube"] = "coast",
    *,
    output: Path | None = None,
    seed: int = 0,
    resume: bool = False,
) -> None:
    """Make a synthetic coast or cube, run the whole job on it, and write a report.

    Args:
        what: coast: scenes, labelled polygons, a comparison of models, maps. cube: patches of a
            seismic cube whose origin was lost: audit, locate, spatial split, training, evaluation
            on new cubes.
        output: output folder. Default: demo, or demo-cube.
        seed: random seed of the synthetic data and of everything that is drawn.
        resume: continue an interrupted demo.

    Examples:
        outcrop demo
        outcrop demo cube -o story
    """
    from contextlib import nullcontext

    from outcrop.cli.commands.options import keep_memory
    from outcrop.cli.commands.whole import experiment
    from outcrop.cli.tables import say
    from outcrop.files import kept_if_whole
    from outcrop.synthetic.demo import demo_experiment, demo_story
    from outcrop.synthetic.page import write_story
    from outcrop.synthetic.story import tell_story
    from outcrop.synthetic.tables import outcome_table

    if what == "cube":
        story = demo_story(seed)
        keep_memory(story.recipe.machine)
        told = tell_story(story, output or Path("demo-cube"), resume)
        outcome_table(told.outcomes)
        say(f"report  {write_story(told)}")
        return
    output = output or Path("demo")
    with nullcontext() if resume and output.exists() else kept_if_whole(output):
        # The seed is in the name, so that no demo goes on with the coast of another.
        plan = demo_experiment(output / f"coast-{seed}", seed)
    experiment(plan.scenes, output=output / "results", plan=plan, resume=resume)


def coast(*, output: Path, images: int = 3, size: int = 400, seed: int = 0) -> None:
    """Make a synthetic coast: scenes, true classes and labelled polygons.

    Args:
        output: output folder.
        images: number of scenes.
        size: height and width of a scene in pixels of 10 m.
        seed: random seed.

    Examples:
        outcrop synthetic coast -o coast
        outcrop synthetic coast --images 7 --seed 1 -o coast
    """
    from outcrop.cli.tables import say
    from outcrop.synthetic.coast import make_coast

    made = make_coast(output, images, size, seed)
    for path in (*made.scenes, *made.truths, made.labels):
        say(str(path))


def cube(
    *, output: Path, shape: list[int] | None = None, seed: int = 0, noise_db: float = 15.0
) -> None:
    """Make a synthetic seismic cube with true classes: parallel, chaotic, faulted, salt.

    Args:
        output: output folder.
        shape: numbers of inlines, crosslines and samples. Default: 450,600,900.
        seed: random seed.
        noise_db: signal-to-noise ratio in dB.

    Examples:
        outcrop synthetic cube -o cube
        outcrop synthetic cube --shape 100,120,200 -o small
    """
    from outcrop.cli.tables import say
    from outcrop.synthetic.cube import SHAPE, make_cube

    made = make_cube(output, SHAPE if shape is None else shape, seed, noise_db)
    for path in (made.volume, made.classes, made.names):
        say(str(path))


COMMANDS = {
    "demo": demo,
    "synthetic": Group("Make synthetic ground of known truth.", {"coast": coast, "cube": cube}),
}
RENAMED = {"coast": "synthetic coast", "cube": "synthetic cube"}
