"""Commands that do the whole job, or show what came of it."""

from __future__ import annotations

from pathlib import Path

from outcrop.experiment.plan import Experiment


def experiment(
    scenes: list[str],
    *,
    output: Path,
    plan: Experiment,
    workers: int | None = None,
    scheduler: str | None = None,
    resume: bool = False,
) -> None:
    """Do the whole job: cut, cross-validate all models, train on all labelled ground, map, report.

    Args:
        scenes: rasters by any name that GDAL takes, or Sentinel-2 and Landsat products by their
            folder or archive. Single-band files of the same ground are one scene, and so are files
            with a plus sign between: A.tif + B.tif.
        output: a new folder for everything.
        plan: what to do.
        workers: how many processes train at once; as many as there are cores if not given, and one
            on a GPU. The results are the same.
        scheduler: address of a Dask cluster to train on, or local[N] for N processes here.
        resume: go on with an experiment that was interrupted.
    """
    from outcrop.cli.commands.options import keep_memory
    from outcrop.cli.tables import comparison_table, say
    from outcrop.experiment.experiment import run_experiment
    from outcrop.reporting import write_report

    keep_memory(plan.recipe.machine)
    results = run_experiment(plan, output, resume, workers, scheduler)
    comparison_table(results.comparison)
    for path in results.maps.values():
        say(f"map     {path}")
    say(f"report  {write_report(output, overwrite=True)}")


def report(
    folder_or_map: Path,
    *,
    output: Path | None = None,
    scene: list[str] | None = None,
    confidence: Path | None = None,
    entropy: Path | None = None,
    trust: Path | None = None,
    truth: str | None = None,
    classes: list[str] | None = None,
    assessment: Path | None = None,
    patches: str | None = None,
    network: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write one HTML page about an experiment, a comparison, a run, an audit or a class map.

    Args:
        folder_or_map: made by `outcrop experiment`, `compare`, `train` or `audit`; or a class map
            of a scene, which the options from --scene to --assessment are about.
        output: the page; `report.html` in the folder, or MAP.html beside the map, if not given.
        scene: what was mapped: a raster file, or several that are its bands.
        confidence: of the map.
        entropy: of the map.
        trust: the area of trust of the map.
        truth: a raster of true classes, which the map is held against; one that carries no
            coordinate reference system is in the map's.
        classes: names for the values of --truth, in ascending order, or each as VALUE=NAME.
        assessment: made by `outcrop assess`.
        patches: of a run of `outcrop generative train`, the set it was trained on, so that held-out
            pictures are drawn above their reconstructions.
        network: package.module:function that made the network, if it is one of yours.
        overwrite: whether the page may exist.
    """
    from outcrop.cli.commands.options import name_network
    from outcrop.cli.tables import say
    from outcrop.reporting import write_report

    name_network(network)
    page = write_report(
        folder_or_map,
        output,
        overwrite,
        scene=scene,
        confidence=confidence,
        entropy=entropy,
        trust=trust,
        truth=truth,
        classes=classes,
        assessment=assessment,
        patches=patches,
    )
    say(str(page))
