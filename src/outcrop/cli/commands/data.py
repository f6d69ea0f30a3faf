"""Commands that make patches and say whether they can be trusted."""

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
from outcrop.errors import OutcropError
from outcrop.models.architectures import ResidualNet
from outcrop.sources.scene import Reading
from outcrop.sources.volumes.segy_reading import SegyReading
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
    crs: str | None = None,
    labels_crs: str | None = None,
    layer: str | None = None,
    encoding: str | None = None,
    segy: SegyReading = SegyReading(),
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Cut labelled patches, each with its position, out of scenes or volumes.

    Args:
        sources: rasters by any name that GDAL takes, or Sentinel-2 and Landsat products by their
            folder or archive. Single-band files of the same ground are one scene, and so are files
            with a plus sign between: A.tif + B.tif. Or volumes: .npy, Zarr, NetCDF, SEG-Y,
            folders of slices, TIFF files of pages.
        output: the patch set, a new Zarr folder.
        labels: polygons, points or label rasters, in any format of GDAL, as GeoParquet, or as a
            table with columns lon and lat, x and y, or wkt: one file for all scenes or one each.
            For each volume a volume of labels of the same shape, where 0 means unlabelled.
        positions: instead of labels, a table (CSV, Parquet) with row and column of the upper-left
            pixel of every patch, from 0, its class, and in volumes axis and index of the slice, or
            axis, and inline, crossline and time or depth of the labelled pixel, where the volume
            has these; source, if there are several. Rows whose found is false are left out, flip is
            ignored.
        column: the column that names the class, of vector labels or of the table, there "label"
            if not given.
        size: height and width of a patch in pixels; odd sizes have the labelled pixel in the
            middle. 33 if not given, or of small scenes a tenth of the shorter side, at least 9.
        bands: the bands to use, by number from 1 or by name.
        reading: how rasters are read.
        axis: of volumes, the axis that the slices are across, from 0.
        stride: use only labelled pixels on every so many rows and columns.
        slice_stride: of volumes with labels, use only every so-many-th slice.
        edge: mirror the scene for patches over its edge (reflect, if not given), or drop them. In
            volumes, and where positions are given, patches lie wholly inside.
        per_class: at most so many patches of each class, drawn at random.
        keep: further columns of the labels or the table to keep, to split by; where one of the
            labels' has no value stands "(missing)".
        classes: names for the values of label rasters or a volume of labels, in ascending order,
            or for those of rasters each as VALUE=NAME.
        crs: coordinate reference system of scenes that carry none.
        labels_crs: the same for labels.
        layer: of vector labels, the layer to read of a file with several.
        encoding: of the text of vector labels that declare none or a wrong one, e.g. cp1252.
        segy: how SEG-Y files are read; format and endian count for the sources, not the labels.
        seed: for --per-class.
        overwrite: whether the patch set may exist.
    """
    from outcrop.cli.tables import class_table
    from outcrop.patches.at_positions import cut_at_positions
    from outcrop.patches.cut import SIZE, cut
    from outcrop.patches.cut_volume import cut_volume
    from outcrop.sources.kinds import are_volumes

    refuse_segy(segy, [*sources, *(labels or ())])
    common: dict[str, Any] = {"per_class": per_class, "seed": seed}
    common |= {"output": output, "overwrite": overwrite}
    if positions is not None:
        refuse_beside(
            "--positions",
            labels=labels,
            classes=classes,
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
            bands=bands,
            reading=reading,
            crs=crs,
            keep=keep or (),
            **common,
        )
    elif labels is None:
        raise OutcropError("--labels", "is missing; pass labels, or --positions with a table")
    elif are_volumes(sources):
        if axis is None:
            raise OutcropError("--axis", "is missing; pass the axis that the slices are across")
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
            classes=classes,
            **common,
        )
    else:
        refuse_beside("labels of scenes", axis=axis, slice_stride=slice_stride > 1)
        found = cut(
            sources,
            labels,
            column,
            size,
            bands=bands,
            reading=reading,
            stride=stride,
            edge=edge or "reflect",
            keep=keep or (),
            classes=classes,
            crs=crs,
            labels_crs=labels_crs,
            layer=layer,
            encoding=encoding,
            **common,
        )
    class_table(found, output)


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
) -> None:
    """Split a patch set into training and validation, by ground.

    Args:
        patches: a patch set.
        output: the split, a JSON file.
        by: blocks of ground, folds as far from each other as the map is from the patches
            (matching), zones, alternating slabs of a volume, whole scenes or volumes, a column of
            the labels, or at random.
        block: side of a block in metres, or in voxels of a volume. If not given, a tenth of the
            labelled ground's extent, or smaller where most of that is empty, but at least four
            patches (two in a volume). Too small for a map of new ground, and scores are too high;
            too large for a map between evenly spread patches by a model that interpolates, and
            they are too low (`outcrop audit` says which holds; there, take --by matching).
        buffer: metres or voxels between the patches of different sides; one patch, or half a
            patch of a volume, if not given; with --by matching 0. Errs as --block does.
        zones: files of polygons that validate, on scenes.
        boxes: boxes that validate, each as smallest x and y, largest x and y in metres; of a
            volume as smallest along axis 0, 1 and 2, then largest, in voxels.
        slices: ranges of slices of a volume that validate, each as axis:first:last, counted from
            0, the last not included.
        axis: with --by slabs, the axis of the volume that they lie across, from 0.
        thickness: with --by slabs, slices in a slab.
        column: with --by column, a column kept with --keep.
        hold_out: scenes, volumes or values of the column that validate; without it they are folds.
        folds: one of so many parts validates.
        fold: which of them, from 0; without it one that leaves most classes on both sides, and
            with --by matching, of those, one at the distances of the map by itself.
        all_folds: write all of them, for cross-validation with `outcrop compare`: each patch is
            held out once.
        test: set the next fold aside as a test side.
        seed: of what is dealt.
        overwrite: whether the split may exist.
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
        folds_made = splitter.assign_all(opened)
        folds_made.save(output)
        fold_table(opened, folds_made, output)
        return
    made = splitter.assign(opened, fold, test)
    made.save(output)
    split_table(opened, made, output)


def audit(
    patches: str,
    *,
    split: Path | None = None,
    json: str | None = None,
    output: Path | None = None,
    to_map: list[str] | None = None,
    full: bool = False,
    depth: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> int:
    """Say whether a patch set and its split can be trusted; exit code 1 if something is wrong.

    Args:
        patches: a patch set, a folder or archive with a folder per class, an npz, or "cifar10".
        split: made by `outcrop split`; without it, the sides that a collection came with, if any.
        json: write the findings to this file, or print them and nothing else with "-".
        output: a new folder to keep the findings, pictures of their evidence and a report in.
        to_map: scenes or volumes to be mapped; what the patches were cut from, if not given.
        full: measure the leak gap of a network too, which is trained three times.
        depth: of that network; 14 if not given.
        epochs: of its trainings; 15 if not given.
        seed: of the samples that some checks draw.
        overwrite: whether the file and the folder may exist.
    """
    from outcrop.auditing.audit import audit as audit_patches
    from outcrop.auditing.folder import check_folder, write_audit
    from outcrop.cli.tables import finding_table, say_json
    from outcrop.files import check_new, write_json
    from outcrop.patches.collection import open_patches
    from outcrop.reporting import write_report
    from outcrop.splits import read_split

    printed = json == "-"
    if output is not None:
        check_folder(output, overwrite)
    if json is not None and not printed:
        check_new(Path(json), overwrite)
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
    if json is not None and not printed:
        write_json(json, found.to_json())
    if printed:
        say_json(found.to_json())
    else:
        finding_table(found)
    return int(found.failed)
