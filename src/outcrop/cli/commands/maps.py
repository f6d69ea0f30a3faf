"""Commands that make class maps and assess them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from outcrop.cli.commands.options import name_network, opened_sources, refuse_beside, refuse_segy
from outcrop.cli.console import say, say_files, show
from outcrop.errors import OutcropError
from outcrop.sources.reading import Resampling, SegyReading


def map(
    run: Path,
    sources: list[str],
    *,
    output: Path,
    ensemble: list[str] | None = None,
    confidence: Path | None = None,
    entropy: Path | None = None,
    second: Path | None = None,
    dissimilarity: Path | None = None,
    polygons: Path | None = None,
    method: Literal["auto", "dense", "patches"] = "auto",
    tta: bool = False,
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
    json: bool = False,
) -> None:
    """Classify every pixel of a scene or mosaic, or every sample of a volume.

    Args:
        run: run folder of the model, made by `outcrop train`.
        sources: scenes: rasters by any name that GDAL accepts, or Sentinel-2 and Landsat products.
            Single-band files of the same ground form one scene, and so do files joined by a plus
            sign: A.tif + B.tif. Several scenes on one grid form a mosaic, the first on top. Or one
            volume: .npy, Zarr, NetCDF, SEG-Y, slices.
        output: output class map. Scenes: a Cloud-Optimized GeoTIFF on the grid of the scene, with a
            QGIS style (NAME.qml) and a class table (NAME.tif.aux.xml) beside it. Volumes: .zarr,
            .npy or, for SEG-Y input, .sgy with the same headers.
        ensemble: run folders of further models trained on the same patches; the probabilities of
            all models are averaged.
        confidence: output map of the probability of the predicted class, in per cent.
        entropy: output map of the Shannon entropy, in per cent of its maximum.
        second: output map of the second most probable class.
        dissimilarity: output map of the dissimilarity index, in per cent of the threshold of the
            area of applicability; above 100 a pixel lies outside.
        polygons: output polygons of the class map of a scene, a new .gpkg file.
        method: dense: all pixels of a tile in one pass. patches: patch by patch, about a hundred
            times slower, for networks that were trained with padding. auto: what the network was
            trained for.
        tta: test-time augmentation: average the probabilities over flips and rotations by 90° (in
            volumes flips only).
        sieve: replace connected areas of fewer pixels by the class of their largest neighbour
            (scenes).
        step: classify one pixel of each cell of step × step pixels, patch by patch.
        window: minimum width in pixels of the windows that are read at once (scenes).
        axis: axis that the slices of a volume are perpendicular to, from 0. Default: that of the
            training patches.
        extent: map only this part of a scene: minimum x and y, maximum x and y, in the CRS of the
            scene.
        bands: bands to use, by number (from 1) or by name. Default: the bands of the run, by name.
        resolution: grid of scenes whose files have pixels of several sizes: finest, coarsest, the
            name of a file, or a pixel size in metres. Default: as in training.
        resampling: method that brings bands to that grid: auto, nearest, bilinear, cubic or
            average. Default: as in training.
        nodata: stored value that means no data and that the file does not declare. Default: as in
            training.
        mask: quality rasters whose flagged pixels are no data in all bands, one for all scenes or
            one per scene; "none" ignores the quality mask of a product.
        mask_values: values of the mask that mean no data. Default with --mask: as in training.
        mask_bits: bit numbers of the mask, from 0; a pixel with one of these bits set is no data.
            Default with --mask: as in training.
        band_names: band names, in file order, for files that have none or others.
        crs: coordinate reference system of scenes that have none.
        segy: how SEG-Y files are read.
        network: package.module:function that made the network of the run, for networks of your own.
        device: auto, cpu, cuda or mps.
        scheduler: address of a Dask cluster, or local[N] for N processes on this machine.
        resume: continue an interrupted map.
        overwrite: replace existing files.
        json: print the result as JSON.

    Examples:
        outcrop map runs/best scene.tif -o classes.tif --confidence confidence.tif
        outcrop map runs/facies survey.sgy -o facies.sgy
    """
    from outcrop.mapping.openmap import share_outside
    from outcrop.mapping.polygons import check_polygons, write_polygons
    from outcrop.mapping.scene import map_scene, open_like_training
    from outcrop.mapping.volume import map_volume
    from outcrop.sources.kinds import are_volumes
    from outcrop.sources.mosaic import mosaic_scenes
    from outcrop.sources.opening import open_scenes
    from outcrop.training.applicability import has_applicability
    from outcrop.training.run import model_of, read_model, read_run

    refuse_segy(segy, sources)
    name_network(network)
    whole = dissimilarity is not None or has_applicability(run)
    first = read_run(run, device) if whole else read_model(run, device)
    models = [first, *(read_model(one, device) for one in ensemble or ())]
    layers = {"confidence": confidence, "entropy": entropy, "second": second}
    layers |= {"dissimilarity": dissimilarity}
    rasters = [path for path in (output, *layers.values()) if path is not None]
    options: dict[str, Any] = layers | {
        "method": method, "tta": tta, "step": step,
        "scheduler": scheduler, "resume": resume, "overwrite": overwrite,
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
            check_polygons(polygons, rasters, overwrite)
        changed = {name: value for name, value in given.items() if value is not None}
        scenes = open_like_training(
            model_of(first), lambda reading: open_scenes(sources, bands, crs, reading), changed
        )
        scene = mosaic_scenes(scenes)
        map_scene(models, scene, output, sieve=sieve, window=window, extent=extent, **options)
        if polygons is not None:
            write_polygons(output, polygons)
    files = rasters if polygons is None else [*rasters, polygons]
    outside = None
    if dissimilarity is not None and not are_volumes(sources):
        outside = share_outside(dissimilarity)

    def print_files() -> None:
        say_files(*files)
        if outside is not None:
            say(f"outside the area of applicability: {100 * outside:.1f} % of the map")

    show({"files": files, "outside_area_of_applicability": outside}, json, print_files)


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
    json: bool = False,
) -> None:
    """Draw reference points from a class map, for an accuracy assessment.

    Args:
        map: class map made by `outcrop map`.
        output: output points, a new .gpkg or .geojson file, with an empty column "class" to fill
            in. Hide the columns stratum, stratum_pixels and probability from the interpreter, and
            keep them in the file.
        design: stratified by the classes of the map, or simple random sampling.
        n: number of points. Default: the number that --standard-error requires.
        expected: expected user's accuracies, one number for all classes, or per class:
            water=0.95,forest=0.8.
        standard_error: target standard error of the overall accuracy. Default: 0.01.
        allocation: how the points of a stratified sample are allocated: compromise: --floor points
            for each rare class, the others in proportion to area; proportional: to area; equal: the
            same number per class. Default: compromise.
        floor: minimum number of points per class with --allocation compromise. Default: 50.
        minimum_distance: minimum distance between two points, in metres.
        seed: random seed for drawing the points.
        overwrite: replace an existing file.
        json: print the result as JSON.

    Examples:
        outcrop sample classes.tif --standard-error 0.02 -o points.gpkg
        outcrop sample classes.tif --n 400 --allocation equal -o points.gpkg
    """
    from outcrop.accuracy.sample import sample as sample_map
    from outcrop.cli.tables import sample_table

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
    show(plan, json, lambda: sample_table(plan, output))


def _by_class(option: str, words: Sequence[str] | None) -> float | dict[str, float] | None:
    """One number for all classes, or one per class, such as `water=0.95`."""
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
    raise OutcropError(option, f"must be a number, or NAME=NUMBER pairs with commas, not '{given}'")


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
    json: bool = False,
) -> None:
    """Estimate the accuracy of a class map and the area of each class, with 95 % intervals.

    Args:
        map: class map made by `outcrop map`.
        reference: reference data that the model was not trained on: points of `outcrop sample`,
            other points, polygons, or a raster of true classes.
        output: output assessment, a new JSON file.
        csv: output table with one row per class, a new CSV file.
        column: column of the points or polygons that holds the class. Default: class.
        design: sampling design of points that do not declare their strata: stratified by the
            classes of the map (default), or simple random.
        block: side in metres of the blocks that are resampled for the intervals, instead of single
            polygons. Default for a raster: a tenth of the map.
        patches: patch set that the model was trained on, to count the reference data inside it.
        classes: class names for the values of a raster, in ascending order, or as VALUE=NAME.
        labels_crs: coordinate reference system of a reference that has none.
        layer: layer of a vector file that has several.
        encoding: text encoding of points or polygons that declare none or a wrong one, for example
            cp1252.
        seed: random seed of the bootstrap.
        overwrite: replace existing files.
        json: print the result as JSON.

    Examples:
        outcrop assess classes.tif points.gpkg -o assessment.json --csv areas.csv
        outcrop assess classes.tif truth.tif
    """
    from outcrop.accuracy.assess import assess as assess_map
    from outcrop.accuracy.assessment import write_assessment, write_assessment_table
    from outcrop.cli.tables import assessment_table
    from outcrop.files import check_new
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
    show(found, json, lambda: assessment_table(found))
    if not json:
        say_files(output, csv)
