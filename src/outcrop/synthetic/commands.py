"""The commands `outcrop synthetic` and `outcrop demo`, with the settings of both demos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from outcrop.cli.group import Group

if TYPE_CHECKING:
    from outcrop.synthetic.story import Story
    from outcrop.synthetic.trainings import Outcome
    from outcrop.workflow.plan import Experiment


def demo(
    what: Literal["coast", "cube"] = "coast",
    *,
    output: Path | None = None,
    seed: int = 0,
    resume: bool = False,
    json: bool = False,
) -> None:
    """Run the whole workflow on a synthetic coast or cube, and write a report.

    Args:
        what: coast: scenes, labelled polygons, a comparison of models, maps. cube: patches of a
            seismic cube whose origin was lost: audit, locate, spatial split, training, evaluation
            on new cubes.
        output: output folder. Default: demo, or demo-cube.
        seed: random seed of the synthetic data and of all later steps.
        resume: continue an interrupted demo.
        json: print the result as JSON.

    Examples:
        outcrop demo
        outcrop demo cube -o story
    """
    from contextlib import nullcontext

    from outcrop.cli.commands.options import keep_memory
    from outcrop.cli.commands.whole import experiment
    from outcrop.cli.console import show
    from outcrop.files import kept_if_whole
    from outcrop.synthetic.page import write_story
    from outcrop.synthetic.story import run_story

    if what == "cube":
        story = demo_story(seed)
        keep_memory(story.recipe.machine)
        result = run_story(story, output or Path("demo-cube"), resume)
        page = write_story(result)
        content = {"outcomes": result.outcomes, "report": page}
        show(content, json, lambda: story_table(result.outcomes, page))
        return
    output = output or Path("demo")
    with nullcontext() if resume and output.exists() else kept_if_whole(output):
        # The seed is in the name, so that a demo never resumes with another coast.
        plan = demo_experiment(output / f"coast-{seed}", seed)
    experiment(plan.scenes, output=output / "results", plan=plan, resume=resume, json=json)


def coast(
    *, output: Path, images: int = 3, size: int = 400, seed: int = 0, json: bool = False
) -> None:
    """Make a synthetic coast: scenes, true classes and labelled polygons.

    Args:
        output: output folder.
        images: number of scenes.
        size: height and width of a scene in pixels of 10 m.
        seed: random seed.
        json: print the files as JSON.

    Examples:
        outcrop synthetic coast -o coast
        outcrop synthetic coast --images 7 --seed 1 -o coast
    """
    from outcrop.cli.console import say_files, show
    from outcrop.synthetic.coast import make_coast

    made = make_coast(output, images, size, seed)
    show(made, json, lambda: say_files(*made.scenes, *made.truths, made.labels))


def cube(
    *,
    output: Path,
    shape: list[int] | None = None,
    seed: int = 0,
    noise_db: float = 15.0,
    json: bool = False,
) -> None:
    """Make a synthetic seismic cube with true classes: parallel, chaotic, faulted, salt.

    Args:
        output: output folder.
        shape: numbers of inlines, crosslines and samples. Default: 450,600,900.
        seed: random seed.
        noise_db: signal-to-noise ratio in dB.
        json: print the files as JSON.

    Examples:
        outcrop synthetic cube -o cube
        outcrop synthetic cube --shape 100,120,200 -o small
    """
    from outcrop.cli.console import say_files, show
    from outcrop.synthetic.cube import SHAPE, make_cube

    made = make_cube(output, SHAPE if shape is None else shape, seed, noise_db)
    show(made, json, lambda: say_files(made.volume, made.classes, made.names))


def demo_experiment(folder: Path, seed: int) -> Experiment:
    """An experiment of a few minutes on a coast of seven images in `folder`.

    The coast of an interrupted demo is used again.
    """
    from outcrop.models.architectures import ResidualNet
    from outcrop.synthetic.coast import coast_in, make_coast
    from outcrop.training.recipe import Augmentation, Machine, Recipe, Tuning
    from outcrop.workflow.plan import Experiment

    made = coast_in(folder, 7) if folder.exists() else make_coast(folder, 7, 400, seed)
    return Experiment(
        scenes=[str(path) for path in made.scenes],
        labels=[str(made.labels)],
        column="class",
        truth=[str(path) for path in made.truths],
        size=17,
        stride=5,
        block=1_500.0,  # metres; the coast is autocorrelated over 500 to 1500 m
        folds=3,
        maps=1,
        # Small, because there are seven trainings: each fold, its random split, and the map.
        network=ResidualNet(depth=8),
        tuning=Tuning(trials=0),
        # float32 gives the same results on every machine; less precision saves little time here.
        # The random gain covers the differences in radiometry between images.
        recipe=Recipe(
            epochs=20,
            augmentation=Augmentation(gain=0.2),
            seed=seed,
            machine=Machine(precision="32-true"),
        ),
    )


def demo_story(seed: int) -> Story:
    """A story with 3000 patches of a cube, which takes a few minutes on two cores."""
    from outcrop.models.architectures import ResidualNet
    from outcrop.synthetic.story import Story
    from outcrop.training.recipe import Machine, Recipe

    return Story(
        shape=(300, 240, 300),
        size=48,
        per_class=750,
        share=0.75,
        network=ResidualNet(depth=14, width=8),
        recipe=Recipe(epochs=20, seed=seed, machine=Machine(precision="32-true")),
    )


def story_table(outcomes: Sequence[Outcome], report: Path) -> None:
    """Print the scores of each training on validation patches and new cubes, and the report."""
    from outcrop.cli.console import console, say, table_of
    from outcrop.cli.tables import in_points

    table = table_of("split", "variant", "validation", "new cubes", "difference", "seconds")
    table.columns[1].justify = "left"
    for one in outcomes:
        scores = str(one.validation.balanced), str(one.new_cubes.balanced)
        table.add_row(one.split, one.variant, *scores, in_points(one.excess), f"{one.seconds:.1f}")
    console.print(table)
    say("validation, new cubes: balanced accuracy in %, with 95 % intervals; difference in points")
    say(f"report  {report}")


COMMANDS = {
    "demo": demo,
    "synthetic": Group("Make synthetic data with known truth.", {"coast": coast, "cube": cube}),
}
RENAMED = {"coast": "synthetic coast", "cube": "synthetic cube"}
