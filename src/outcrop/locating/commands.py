"""The command `outcrop locate`."""

from __future__ import annotations

from pathlib import Path

from outcrop.errors import OutcropError
from outcrop.sources.reading import Reading, SegyReading


def locate(
    patches: str,
    sources: list[str],
    *,
    output: Path,
    axis: int | None = None,
    flips: bool = False,
    bands: list[str] | None = None,
    reading: Reading = Reading(),
    crs: str | None = None,
    segy: SegyReading = SegyReading(),
    sure: float = 0.9999,
    patches_output: Path | None = None,
    as_given: bool = False,
    picture: Path | None = None,
    report: Path | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Search for the origin of patches whose positions were lost, in volumes or scenes.

    Args:
        patches: input patch set, a folder or archive with one folder per class, or an npz file with
            images and optional labels.
        sources: volumes or rasters that the patches may have been cut from. Volumes: .npy, Zarr,
            NetCDF, SEG-Y, slices. Rasters need the bands of the patches; files joined by a plus
            sign are one scene.
        output: output table of positions, a new .csv or .parquet file with one row per patch, in
            input order.
        axis: axis that the slices of a volume are perpendicular to, from 0. Default: all three.
        flips: also search for flipped and rotated patches, which takes eight times as long (four
            times for patches that are not square).
        bands: bands of scenes to use, by number (from 1) or by name.
        reading: how rasters are read.
        crs: coordinate reference system of scenes that have none.
        segy: how SEG-Y files are read.
        sure: minimum confidence of a located patch, from 0 to 1.
        patches_output: output patch set of the located patches with their positions, for spatial
            splits and audits. Its images are cut from the sources: upright, in source values.
        as_given: write the images of --patches-output as they were given, not as in the sources.
        picture: output figure of the positions by class, a new .png, .svg or .pdf file.
        report: output HTML report.
        scheduler: address of a Dask cluster.
        overwrite: replace existing files.
        json: print the result as JSON.

    Examples:
        outcrop locate patches.npz cube.npy --axis 0 -o positions.csv
        outcrop locate folder survey.sgy -o positions.csv --patches-output located.zarr
    """
    # Modules that import torch would take longer than a small search.
    from outcrop.cli.commands.options import opened_sources, refuse_segy
    from outcrop.cli.console import say_files, say_json
    from outcrop.files import check_new
    from outcrop.locating.locate import locate as locate_patches
    from outcrop.locating.summary import locate_table, summary
    from outcrop.locating.table import check_table, with_positions, write_positions
    from outcrop.patches.collection import open_patches
    from outcrop.patches.patchset import check_output

    check_table(output, overwrite)
    if patches_output is not None:
        check_output(patches_output, overwrite)
    elif as_given:
        raise OutcropError("--as-given", "needs --patches-output; give it too")
    if picture is not None:
        from outcrop.locating.projections import check_picture, write_projections

        check_picture(picture, overwrite)
    if report is not None:
        check_new(report, overwrite)
    refuse_segy(segy, sources)
    opened = open_patches(patches, learnable=False)
    located = locate_patches(
        opened,
        opened_sources(sources, segy),
        axis,
        flips,
        bands=bands,
        reading=reading,
        crs=crs,
        sure=sure,
        scheduler=scheduler,
    )
    placed = None if patches_output is None else with_positions(opened, located, as_given)
    write_positions(output, located, opened, overwrite)
    if placed is not None and patches_output is not None:
        placed.save(patches_output, overwrite)
    if picture is not None:
        write_projections(picture, located, opened, overwrite)
    if report is not None:
        from outcrop.locating.page import write_origins

        write_origins(report, located, opened, overwrite)
    files = [path for path in (output, patches_output, picture, report) if path is not None]
    if json:
        numbers = {name: int(getattr(located, name).sum()) for name in ("found", "ambiguous")}
        lines = summary(located, opened.bands)
        say_json({"patches": len(located), **numbers, "notes": lines, "files": files})
        return
    locate_table(opened, located)
    say_files(*files)


COMMANDS = {"locate": locate}
RENAMED: dict[str, str] = {}
