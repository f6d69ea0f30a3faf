"""Commands that cut, split and audit patch sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from outcrop.cli.commands.options import (
    keep_memory,
    opened_labels,
    opened_sources,
    refuse_beside,
    refuse_reading,
    refuse_segy,
    refuse_without,
)
from outcrop.cli.console import show
from outcrop.errors import OutcropError
from outcrop.models.architectures import ResidualNet
from outcrop.sources.reading import Reading, SegyReading
from outcrop.training.recipe import Recipe


def patches(
    sources: list[str],
    *,
    output: Path,
    labels: list[str] | None = None,
    positions: Path | None = None,
    column: str | None = None,
    size: int | None = None,
    bands: list[str] | None = None,
    reading: Reading = Reading(),
    axis: int | None = None,
    stride: int = 1,
    slice_stride: int = 1,
    edge: Literal["reflect", "drop"] | None = None,
    per_class: int | None = None,
    keep: list[str] | None = None,
    classes: list[str] | None = None,
    colours: list[str] | None = None,
    crs: str | None = None,
    labels_crs: str | None = None,
    layer: str | None = None,
    encoding: str | None = None,
    segy: SegyReading = SegyReading(),
    seed: int = 0,
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Cut labelled patches, each with its position, from scenes or volumes.

    Args:
        sources: input rasters by any name that GDAL accepts, or Sentinel-2 and Landsat products as
            folders or archives. Single-band files of the same ground form one scene, and so do
            files joined by a plus sign: A.tif + B.tif. Or volumes: .npy, Zarr, NetCDF, SEG-Y,
            folders of slices, multi-page TIFF files.
        output: output patch set, a new Zarr folder.
        labels: polygons, points or label rasters in any GDAL format, GeoParquet, or a table with
            columns lon and lat, x and y, or wkt; one file for all scenes or one file per scene. For
            each volume: a label volume of the same shape, in which 0 means unlabelled.
        positions: use a table (CSV, Parquet) of patch positions instead of labels. Columns: row and
            column of the upper-left pixel, counted from 0; the class; for volumes axis and index of
            the slice, or axis and inline, crossline and time or depth of the labelled pixel;
            source, if there are several. Rows with found = false are skipped; flip is ignored.
        column: name of the class column of vector labels or of the table ("label" by default for a
            table).
        size: height and width of a patch in pixels. Odd sizes have the labelled pixel in the
            middle. Default: 33, or a tenth of the shorter side of a small scene, at least 9.
        bands: bands to use, by number (from 1) or by name.
        reading: how rasters are read.
        axis: axis that the slices of a volume are perpendicular to, from 0.
        stride: use only the labelled pixels on every n-th row and column.
        slice_stride: use only every n-th slice of a labelled volume.
        edge: what to do with patches that extend beyond the edge of a scene: reflect the scene, or
            drop the patch. Default: reflect. In volumes, and with --positions, patches always lie
            inside.
        per_class: maximum number of patches per class, drawn at random.
        keep: additional columns of the labels or of the table to keep, for example to split by. A
            missing value of a label becomes "(missing)".
        classes: class names for the values of label rasters, label volumes or the class column of
            --positions, in ascending order of the values, or (except for volumes) as VALUE=NAME.
        colours: colours of classes in maps and reports, as NAME=COLOUR with COLOUR as #rrggbb or an
            English name. Default: those in the style or colour table of the labels; other classes
            get colours that can be distinguished, also with a colour vision deficiency.
        crs: coordinate reference system of scenes that have none.
        labels_crs: coordinate reference system of labels that have none.
        layer: layer of a vector file that has several.
        encoding: text encoding of vector labels that declare none or a wrong one, for example
            cp1252.
        segy: how SEG-Y files are read. Format and endianness apply to the sources, not to the
            labels.
        seed: random seed for drawing patches with --per-class.
        overwrite: replace an existing patch set.
        json: print the result as JSON.

    Examples:
        outcrop patches scene.tif --labels fields.gpkg --column crop --size 33 -o fields.zarr
        outcrop patches survey.sgy --labels facies.sgy --axis 0 --size 64 -o facies.zarr
    """
    from outcrop.cli.tables import class_table
    from outcrop.patches.at_positions import cut_at_positions
    from outcrop.patches.cut import SIZE, cut
    from outcrop.patches.cut_volume import cut_volume
    from outcrop.sources.kinds import are_volumes

    refuse_segy(segy, [*sources, *(labels or ())])
    common: dict[str, Any] = {"classes": classes, "colours": colours, "per_class": per_class}
    common |= {"seed": seed, "output": output, "overwrite": overwrite}
    of_scenes: dict[str, Any] = {"bands": bands, "reading": reading, "crs": crs, "keep": keep or ()}
    if positions is not None:
        refuse_beside(
            "--positions",
            labels=labels,
            layer=layer,
            encoding=encoding,
            edge=edge,
            stride=stride > 1,
            slice_stride=slice_stride > 1,
        )
        found = cut_at_positions(
            opened_sources(sources, segy),
            positions,
            column or "label",
            size or SIZE,
            axis=axis,
            **of_scenes,
            **common,
        )
    elif labels is None:
        raise OutcropError("--labels", "is missing; pass labels, or --positions with a table")
    elif are_volumes(sources):
        if axis is None:
            raise OutcropError(
                "--axis", "is missing; pass the axis that the slices are perpendicular to"
            )
        refuse_reading(reading, "volumes")
        refuse_beside(
            "a volume of labels",
            column=column,
            keep=keep,
            bands=bands,
            layer=layer,
            encoding=encoding,
            edge=edge == "reflect",
        )
        found = cut_volume(
            opened_sources(sources, segy),
            opened_labels(labels, segy),
            axis,
            size or SIZE,
            stride=stride,
            slice_stride=slice_stride,
            **common,
        )
    else:
        refuse_beside("labels of scenes", axis=axis, slice_stride=slice_stride > 1)
        found = cut(
            sources,
            labels,
            column,
            size,
            stride=stride,
            edge=edge or "reflect",
            labels_crs=labels_crs,
            layer=layer,
            encoding=encoding,
            **of_scenes,
            **common,
        )
    content = {
        "patch_set": output,
        "shape": found.shape,
        "bands": found.bands,
        "classes": dict(zip(found.classes, found.counts, strict=True)),
        "dropped": found.dropped,
    }
    show(content, json, lambda: class_table(found, output))


def split(
    patches: str,
    *,
    output: Path,
    by: Literal["blocks", "matching", "zones", "slabs", "scenes", "column", "random"] = "blocks",
    block: float | None = None,
    buffer: float | None = None,
    zones: list[str] | None = None,
    boxes: list[float] | None = None,
    slices: list[str] | None = None,
    axis: int | None = None,
    thickness: int | None = None,
    column: str | None = None,
    hold_out: list[str] | None = None,
    folds: int = 5,
    fold: int | None = None,
    all_folds: bool = False,
    test: bool = False,
    seed: int = 0,
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Split a patch set into training and validation patches by location.

    Args:
        patches: input patch set.
        output: output split, a new JSON file.
        by: blocks: spatial blocks; matching: folds as far from each other as the map is from the
            patches; zones: given areas; slabs: alternating slabs of a volume; scenes: whole scenes
            or volumes; column: values of a column of the labels; random: random split.
        block: side of a spatial block in metres, or in voxels of a volume. Default: a tenth of the
            extent of the labelled ground, less where most of it is empty, at least four patches
            (two in a volume). If blocks are too small for a map of new ground, scores are too high.
            If they are too large for a map between evenly spread patches, made by a model that
            interpolates, scores are too low (`outcrop audit` says which case applies; for the
            second, use --by matching).
        buffer: minimum distance between training and validation patches, in metres or voxels.
            Default: one patch, half a patch in a volume, 0 with --by matching. Too small or too
            large, it has the same effects as --block.
        zones: polygon files; patches of a scene inside these polygons validate.
        boxes: boxes in which patches validate. Scenes: minimum x and y, maximum x and y, in metres.
            Volumes: minimum along axes 0, 1 and 2, then maximum, in voxels.
        slices: slice ranges of a volume in which patches validate, as axis:first:last, counted from
            0, without the last.
        axis: axis that the slabs of --by slabs are perpendicular to, from 0.
        thickness: number of slices in a slab.
        column: column kept with --keep, for --by column.
        hold_out: names of the scenes, volumes or column values that validate. Default: they are
            distributed over folds.
        folds: number of folds, one of which validates.
        fold: number of the validation fold, from 0. Default: the fold that leaves most classes on
            both sides; with --by matching, among these, the one at the prediction distances of the
            map.
        all_folds: write all folds, for spatial cross-validation with `outcrop compare`.
        test: set the next fold aside as a test set.
        seed: random seed for assigning blocks to folds.
        overwrite: replace an existing split.
        json: print the result as JSON.

    Examples:
        outcrop split fields.zarr --block 2000 -o split.json
        outcrop split fields.zarr --by matching --all-folds -o folds.json
    """
    from outcrop.cli.tables import fold_table, split_table
    from outcrop.files import check_new
    from outcrop.patches.collection import open_patches
    from outcrop.splits import make_splitter

    check_new(output, overwrite)
    refuse_beside(
        f"--by {by}",
        block=by != "blocks" and block,
        buffer=by == "random" and buffer,
        zones=by != "zones" and zones,
        boxes=by != "zones" and boxes,
        slices=by != "zones" and slices,
        axis=by != "slabs" and axis,
        thickness=by != "slabs" and thickness,
        column=by != "column" and column,
        hold_out=by not in ("scenes", "column") and hold_out,
    )
    if all_folds:
        refuse_beside("--all-folds", fold=fold, test=test, hold_out=hold_out)
    opened = open_patches(patches)
    splitter = make_splitter(
        opened,
        by,
        block=block,
        buffer=buffer,
        zones=zones or (),
        boxes=boxes or (),
        slices=slices or (),
        axis=axis,
        thickness=thickness,
        column=column,
        hold_out=hold_out or (),
        folds=folds,
        seed=seed,
    )
    if all_folds:
        every = splitter.assign_all(opened)
        every.save(output)
        content = {"folds": output, "each": [_sides(opened, one, output) for one in every.splits]}
        show(content, json, lambda: fold_table(opened, every, output))
        return
    made = splitter.assign(opened, fold, test)
    made.save(output)
    show(_sides(opened, made, output), json, lambda: split_table(opened, made, output))


def _sides(patches: Any, split: Any, path: Path) -> dict[str, Any]:
    """A split as JSON: patches by side and class."""
    from outcrop.splits import SIDES

    counts = split.counts(patches.labels, len(patches.classes))
    sides = {
        side: dict(zip(patches.classes, row, strict=True))
        for side, row in zip(SIDES, counts, strict=True)
    }
    return {"split": path, "sides": sides, "how": split.how, "notes": split.warnings(patches)}


def audit(
    patches: str,
    *,
    split: Path | None = None,
    output: Path | None = None,
    to_map: list[str] | None = None,
    full: bool = False,
    depth: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    json: bool = False,
) -> int:
    """Check whether a patch set and its split can be trusted.

    The exit code is 1 if a finding is critical.

    Args:
        patches: input patch set, a folder or archive with one folder per class, an npz file, or
            "cifar10".
        split: split made by `outcrop split`. Default: the split that the collection was published
            with, if there is one.
        output: output folder for the findings, images of their evidence and a report.
        to_map: scenes or volumes that will be mapped. Default: those that the patches were cut
            from.
        full: also measure the leak gap of a network, which is trained three times.
        depth: depth of that network. Default: 14.
        epochs: number of training epochs of that network. Default: 15.
        seed: random seed for the samples that some checks draw.
        overwrite: replace existing output.
        json: print the result as JSON.

    Examples:
        outcrop audit fields.zarr --split split.json
        outcrop audit patches.npz --full --json
    """
    from outcrop.auditing.audit import audit as audit_patches
    from outcrop.auditing.folder import check_folder, write_audit
    from outcrop.cli.tables import finding_table
    from outcrop.patches.collection import open_patches
    from outcrop.reporting import write_report
    from outcrop.splits import read_split

    if output is not None:
        check_folder(output, overwrite)
    if not full:
        refuse_without("--full", depth=depth, epochs=epochs)
    opened = open_patches(patches)
    made = None if split is None else read_split(split)
    trained: dict[str, Any] = {}
    if full:
        trained["network"] = ResidualNet(depth=14 if depth is None else depth)
        trained["recipe"] = Recipe(epochs=15 if epochs is None else epochs, seed=seed)
        keep_memory(trained["recipe"].machine)
    found = audit_patches(opened, made, to_map=to_map or (), seed=seed, **trained)
    if output is not None:
        write_audit(found, opened, output, overwrite)
        write_report(output)
    show(found, json, lambda: finding_table(found))
    return int(found.failed)
