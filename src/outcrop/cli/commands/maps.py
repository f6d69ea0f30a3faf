"""Commands that make maps, and say how good they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from outcrop.cli.commands.options import name_network, opened_sources, refuse_beside, refuse_segy
from outcrop.errors import OutcropError
from outcrop.sources.scene import Resampling
from outcrop.sources.volumes.segy_reading import SegyReading


def map(
    run: Path,
    sources: list[str],
    *,
    output: Path,
    ensemble: list[str] | None = None,
    confidence: Path | None = None,
    entropy: Path | None = None,
    second: Path | None = None,
    trust: Path | None = None,
    polygons: Path | None = None,
    method: Literal["auto", "dense", "patches"] = "auto",
    turns: bool = False,
    sieve: int = 0,
    step: int = 1,
    window: int = 1,
    axis: int | None = None,
    extent: list[float] | None = None,
    bands: list[str] | None = None,
    resolution: str | None = None,
    resampling: Resampling | None = None,
    nodata: float | None = None,
    mask: list[str] | None = None,
    mask_values: list[int] | None = None,
    mask_bits: list[int] | None = None,
    band_names: list[str] | None = None,
    crs: str | None = None,
    segy: SegyReading = SegyReading(),
    network: str | None = None,
    device: str = "auto",
    scheduler: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Classify every pixel of a scene or mosaic, or every sample of a volume.

    Args:
        run: made by `outcrop train`.
        sources: scenes: rasters by any name that GDAL takes, or Sentinel-2 and Landsat products.
            Single-band files of the same ground are one scene, and so are files with a plus sign
            between: A.tif + B.tif. Several of one grid are a mosaic, the first on top. Or one
            volume: .npy, Zarr, NetCDF, SEG-Y, slices.
        output: the class map, a Cloud-Optimized GeoTIFF on the scene's grid, with a style for QGIS
            (NAME.qml) and a table of its classes (NAME.tif.aux.xml) beside it; of a volume a cube,
            .zarr, .npy or, with the headers of a SEG-Y input, .sgy.
        ensemble: further runs on the same patches; the probabilities of all are averaged.
        confidence: a further map: the probability of the class in per cent.
        entropy: a further map: Shannon's entropy in per cent of that of equally likely classes.
        second: a further map: the second-best class.
        trust: a further map: how far a pixel lies from the training data, in per cent of what the
            run's area of trust allows; above 100 the class is a guess.
        polygons: the class map of a scene as polygons too, a new .gpkg.
        method: dense: all pixels of a tile in one pass. patches: patch by patch, a hundred times
            slower, as networks with padding were trained. auto: what the network was trained for.
        turns: average over pictures turned and mirrored, those of a volume upside up.
        sieve: of scenes: patches of a class of fewer pixels take that of their largest neighbour.
        step: patch by patch, classify one pixel of each cell of step × step pixels.
        window: of scenes: pixels along each side, at least, that are read and kept together, in
            whole tiles of up to 512.
        axis: of a volume, the axis that the slices are across, from 0; that of the patches that the
            run was trained on, if not given.
        extent: of scenes, map only this part: smallest x and y, largest x and y in the scene's CRS.
        bands: of scenes, the bands to use, by number from 1 or by name; those of the run, if their
            names are found.
        resolution: of files with pixels of several sizes, whose grid the scene has: finest,
            coarsest, one of the files, or a size in metres; as the run's scenes, if not given.
        resampling: how bands are brought to that grid: auto, nearest, bilinear, cubic or average;
            as the run's scenes, if not given.
        nodata: a stored value that means no data and that the file does not declare; that of the
            run's scenes, if not given.
        mask: rasters of pixel quality that make pixels no data in all bands, one for all scenes or
            one each; "none" leaves out the quality mask that a product brings along.
        mask_values: values of the mask that are no data.
        mask_bits: numbers of bits of the mask, from 0, of which any set one means no data.
        band_names: names of the bands, where the file has none or others, in its order.
        crs: coordinate reference system of scenes that carry none.
        segy: how SEG-Y files are read.
        network: package.module:function that made the network of the run, if it is one of yours.
        device: auto, cpu, cuda or mps.
        scheduler: address of a Dask cluster to work on, or local[N] for N processes here.
        resume: go on with a map that was interrupted.
        overwrite: whether the files may exist.
    """
    from outcrop.cli.tables import say
    from outcrop.mapping.polygons import check_polygons, write_polygons
    from outcrop.mapping.rasters import share_outside
    from outcrop.mapping.scene import map_scene, reading_of
    from outcrop.mapping.volume import map_volume
    from outcrop.sources.kinds import are_volumes
    from outcrop.sources.mosaic import lay_together
    from outcrop.sources.opening import open_scenes
    from outcrop.training.run import model_of, read_model, read_run
    from outcrop.training.trust import has_trust

    refuse_segy(segy, sources)
    name_network(network)
    whole = trust is not None or has_trust(run)
    first = read_run(run, device) if whole else read_model(run, device)
    models = [first, *(read_model(one, device) for one in ensemble or ())]
    options: dict[str, Any] = {
        "confidence": confidence, "entropy": entropy, "second": second, "trust": trust,
        "method": method, "turns": turns, "step": step, "scheduler": scheduler, "resume": resume,
        "overwrite": overwrite,
    }  # fmt: skip
    given: dict[str, Any] = {
        "resolution": resolution, "resampling": resampling, "nodata": nodata, "mask": mask,
        "mask_values": mask_values, "mask_bits": mask_bits, "band_names": band_names,
    }  # fmt: skip
    if are_volumes(sources):
        refuse_beside(
            "a volume",
            polygons=polygons,
            sieve=sieve != 0,
            bands=bands,
            crs=crs,
            extent=extent,
            **given,
        )
        if len(sources) > 1:
            raise OutcropError(sources[1], "is a second volume; map one at a time")
        (volume,) = opened_sources(sources, segy)
        map_volume(models, volume, axis, output, **options)
    else:
        refuse_beside("scenes", axis=axis)
        if polygons is not None:
            layers = (output, confidence, entropy, second, trust)
            check_polygons(polygons, [one for one in layers if one is not None], overwrite)
        said: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        reading = replace(reading_of(model_of(first)), **said)
        scene = lay_together(open_scenes(sources, bands, crs, reading))
        map_scene(models, scene, output, sieve=sieve, window=window, extent=extent, **options)
        if polygons is not None:
            write_polygons(output, polygons)
    for path in (output, confidence, entropy, second, trust, polygons):
        if path is not None:
            say(str(path))
    if trust is not None and not are_volumes(sources):
        say(f"outside the area of trust: {share_outside(trust):.1%} of the map")


def sample(
    map: Path,
    *,
    output: Path,
    design: Literal["stratified", "simple"] = "stratified",
    n: int | None = None,
    expected: list[str] | None = None,
    standard_error: float | None = None,
    allocation: Literal["compromise", "proportional", "equal"] | None = None,
    floor: int | None = None,
    minimum_distance: float = 0.0,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Draw reference points from a class map, to go and look what is there.

    Args:
        map: a class map, made by `outcrop map`.
        output: the points, a new .gpkg or .geojson, with an empty column "class" to be filled. Hide
            the columns stratum, stratum_pixels and probability from whoever fills it, and keep them
            in the file.
        design: stratified by the map's classes, or simple: all pixels alike.
        n: points in all; as many as --standard-error asks for, if not given.
        expected: the user's accuracies hoped for, one number, or by class: water=0.95,forest=0.8.
        standard_error: without --n, that of the overall accuracy; 0.01 if not given.
        allocation: of a stratified sample: --floor points for each rare class and the others by
            area (compromise, if not given), by area alone, or the same number for each class.
        floor: with the compromise, the least points of a class; 50 if not given.
        minimum_distance: metres between any two points.
        seed: the same seed draws the same points.
        overwrite: whether the file may exist.
    """
    from outcrop.cli.tables import sample_table
    from outcrop.mapping.sample import sample as sample_map

    if n is not None:
        refuse_beside("--n", standard_error=standard_error)
    if design == "simple":
        refuse_beside("--design simple", allocation=allocation, floor=floor)
    if allocation in ("proportional", "equal"):
        refuse_beside(f"--allocation {allocation}", floor=floor)
    plan = sample_map(
        map,
        output,
        design,
        n,
        _by_class("--expected", expected),
        0.01 if standard_error is None else standard_error,
        allocation or "compromise",
        50 if floor is None else floor,
        minimum_distance,
        seed,
        overwrite,
    )
    sample_table(plan, output)


def _by_class(option: str, words: Sequence[str] | None) -> float | dict[str, float] | None:
    """One number for all, or numbers by name, as `water=0.95`."""
    if not words:
        return None
    try:
        if len(words) == 1 and "=" not in words[0]:
            return float(words[0])
        pairs = [word.rpartition("=") for word in words]
        if all(name for name, _, _ in pairs):
            return {name.strip(): float(number) for name, _, number in pairs}
    except ValueError:
        pass
    given = ",".join(words)
    raise OutcropError(option, f"takes a number, or NAME=NUMBER with commas between, not '{given}'")


def assess(
    map: Path,
    reference: str,
    *,
    output: Path | None = None,
    csv: Path | None = None,
    column: str | None = None,
    design: Literal["stratified", "simple"] | None = None,
    block: float | None = None,
    patches: str | None = None,
    classes: list[str] | None = None,
    labels_crs: str | None = None,
    layer: str | None = None,
    encoding: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Say how good a class map is: accuracy and area of each class, with 95 % intervals.

    Args:
        map: a class map, made by `outcrop map`.
        reference: what is known of the ground, and was not trained on: points of `outcrop sample`,
            other points, polygons, or a raster of true classes.
        output: the assessment, a new JSON file.
        csv: the same as a table, a new CSV file with a row for each class.
        column: of points or polygons, that names the class; class, if not given.
        design: how points were chosen that tell no strata: at random in each class of the map
            (stratified, if not given), or at random in the whole of it (simple).
        block: side in metres of blocks of ground that are resampled, instead of single polygons; of
            a raster a tenth of the map, if not given.
        patches: the patch set that the model was trained on, to count what lies within it.
        classes: names for the values of a raster, in ascending order, or each as VALUE=NAME.
        labels_crs: coordinate reference system of a reference that carries none.
        layer: of points or polygons, the layer to read of a file with several.
        encoding: of the text of points or polygons that declare none or a wrong one, e.g. cp1252.
        seed: of the bootstrap.
        overwrite: whether the files may exist.
    """
    from outcrop.cli.tables import assessment_table, say
    from outcrop.evaluation.assessment import write_assessment, write_assessment_table
    from outcrop.files import check_new
    from outcrop.mapping.assess import assess as assess_map
    from outcrop.patches.collection import open_patches

    for path in (output, csv):
        if path is not None:
            check_new(path, overwrite)
    found = assess_map(
        map,
        reference,
        column,
        design,
        block,
        None if patches is None else open_patches(patches),
        labels_crs,
        seed=seed,
        classes=classes,
        layer=layer,
        encoding=encoding,
    )
    if output is not None:
        write_assessment(output, found)
    if csv is not None:
        write_assessment_table(csv, found)
    assessment_table(found)
    for path in (output, csv):
        if path is not None:
            say(str(path))
