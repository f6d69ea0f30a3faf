"""Commands that run a whole experiment, or write its report."""

from __future__ import annotations

from pathlib import Path

from outcrop.cli.commands.options import keep_memory, name_network
from outcrop.cli.console import say, show
from outcrop.cli.presets import PresetName
from outcrop.workflow.plan import Experiment


def experiment(
    scenes: list[str],
    *,
    output: Path,
    preset: PresetName | None = None,
    plan: Experiment,
    workers: int | None = None,
    scheduler: str | None = None,
    resume: bool = False,
    json: bool = False,
) -> None:
    """Run the whole job: cut patches, cross-validate all models, train the best one, map, report.

    Args:
        scenes: input rasters by any name that GDAL accepts, or Sentinel-2 and Landsat products as
            folders or archives. Single-band files of the same ground form one scene, and so do
            files joined by a plus sign: A.tif + B.tif.
        output: output folder for all results.
        preset: as in `outcrop train`.
        plan: what to do.
        workers: number of processes that train at the same time. Default: the number of cores, or
            one on a GPU. The results do not depend on it.
        scheduler: address of a Dask cluster, or local[N] for N processes on this machine.
        resume: continue an interrupted experiment.
        json: print the result as JSON.

    Examples:
        outcrop experiment scene.tif --labels fields.gpkg --column crop -o results
        outcrop experiment S2A_MSIL2A.zip --labels fields.gpkg --column crop --block 2000 -o results
    """
    from outcrop.cli.tables import comparison_table
    from outcrop.reporting import write_report
    from outcrop.workflow.experiment import run_experiment

    keep_memory(plan.recipe.machine)
    results = run_experiment(plan, output, resume, workers, scheduler)
    page = write_report(output, overwrite=True)
    maps = list(results.maps.values())

    def print_table() -> None:
        comparison_table(results.comparison)
        for path in maps:
            say(f"map     {path}")
        say(f"report  {page}")

    content = {
        "comparison": results.comparison,
        "recommendation": results.comparison.recommendation,
        "maps": maps,
        "report": page,
    }
    show(content, json, print_table)


def report(
    folder_or_map: Path,
    *,
    output: Path | None = None,
    scene: list[str] | None = None,
    confidence: Path | None = None,
    entropy: Path | None = None,
    dissimilarity: Path | None = None,
    truth: str | None = None,
    classes: list[str] | None = None,
    assessment: Path | None = None,
    patches: str | None = None,
    network: str | None = None,
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Write an HTML report about an experiment, comparison, run, audit or class map.

    Args:
        folder_or_map: output folder of `outcrop experiment`, `compare`, `train` or `audit`, or a
            class map of a scene; the options --scene to --assessment are for class maps.
        output: output page. Default: report.html in the folder, or MAP.html beside the map.
        scene: the mapped scene: one raster file, or several files that are its bands.
        confidence: confidence map.
        entropy: entropy map.
        dissimilarity: map of the area of applicability.
        truth: raster of true classes to compare the map with. Without a coordinate reference
            system, that of the map is assumed.
        classes: class names for the values of --truth, in ascending order, or as VALUE=NAME.
        assessment: assessment made by `outcrop assess`.
        patches: patch set of a run of `outcrop generative train`, to draw held-out images above
            their reconstructions.
        network: package.module:function that made the network of the run, for networks of your own.
        overwrite: replace an existing page.
        json: print the result as JSON.

    Examples:
        outcrop report results
        outcrop report classes.tif --scene scene.tif --assessment assessment.json
    """
    from outcrop.reporting import write_report

    name_network(network)
    page = write_report(
        folder_or_map,
        output,
        overwrite,
        scene=scene,
        confidence=confidence,
        entropy=entropy,
        dissimilarity=dissimilarity,
        truth=truth,
        classes=classes,
        assessment=assessment,
        patches=patches,
    )
    show({"report": page}, json, lambda: say(str(page)))
