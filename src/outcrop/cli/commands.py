"""The commands. Each is a typed function: parse, call, print."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from outcrop.errors import OutcropError
from outcrop.experiment.plan import Experiment
from outcrop.models.architectures import ResidualNet
from outcrop.training.recipe import Machine, Recipe


def demo(
    what: Literal["coast", "cube"] = "coast",
    *,
    output: Path | None = None,
    seed: int = 0,
    resume: bool = False,
) -> None:
    """Make a synthetic coast or cube, run the whole job on it, and report.

    Args:
        what: coast: scenes, labelled ground, a comparison of models, maps. cube: patches of a
            seismic cube whose origin was lost: audit, locate, split by ground, train, and judge on
            new cubes.
        output: a new folder for everything; demo, or demo-cube, if not given.
        seed: of the coast or the cube, and of everything drawn.
        resume: go on with a demo that was interrupted.
    """
    from contextlib import nullcontext

    from outcrop.cli.demo import demo_experiment, demo_story
    from outcrop.cli.tables import outcome_table, say
    from outcrop.experiment.story import tell_story
    from outcrop.files import kept_if_whole
    from outcrop.reporting.story import write_story

    if what == "cube":
        told = tell_story(demo_story(seed), output or Path("demo-cube"), resume)
        outcome_table(told.outcomes)
        say(f"report  {write_story(told)}")
        return
    output = output or Path("demo")
    with nullcontext() if resume and output.exists() else kept_if_whole(output):
        # The seed is in the name, so that no demo goes on with the coast of another.
        plan = demo_experiment(output / f"coast-{seed}", seed)
    experiment(plan.scenes, output=output / "results", plan=plan, resume=resume)


def coast(*, output: Path, images: int = 3, size: int = 400, seed: int = 0) -> None:
    """Make a synthetic coast: scenes, truth and labelled polygons.

    Args:
        output: a new folder.
        images: how many scenes.
        size: height and width of each in pixels of 10 m.
        seed: the same seed gives the same coast.
    """
    from outcrop.cli.tables import say
    from outcrop.sources.coast import make_coast

    made = make_coast(output, images, size, seed)
    for path in (*made.scenes, *made.truths, made.labels):
        say(str(path))


def cube(
    *, output: Path, shape: list[int] | None = None, seed: int = 0, noise_db: float = 15.0
) -> None:
    """Make a synthetic seismic cube, and its truth: parallel, chaotic, faulted, salt.

    Args:
        output: a new folder.
        shape: numbers of inlines, crosslines and samples; 450,600,900 if not given.
        seed: the same seed gives the same cube.
        noise_db: power of the signal over that of the noise, in dB.
    """
    from outcrop.cli.tables import say
    from outcrop.sources.cube import SHAPE, make_cube

    made = make_cube(output, SHAPE if shape is None else shape, seed, noise_db)
    for path in (made.volume, made.classes, made.names):
        say(str(path))


def patches(
    sources: list[str],
    *,
    output: Path,
    labels: list[str] | None = None,
    positions: Path | None = None,
    column: str | None = None,
    size: int = 32,
    bands: list[int] | None = None,
    axis: int | None = None,
    stride: int = 1,
    slice_stride: int = 1,
    edge: Literal["reflect", "drop"] | None = None,
    per_class: int | None = None,
    keep: list[str] | None = None,
    classes: list[str] | None = None,
    crs: str | None = None,
    labels_crs: str | None = None,
    inline_byte: int | None = None,
    crossline_byte: int | None = None,
    gaps: bool = False,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Cut labelled patches, each with its position, out of scenes or volumes.

    Args:
        sources: raster files; single-band files on one grid are one scene, and so are names
            joined by commas. Or volumes: .npy, Zarr, SEG-Y, folders of slices.
        output: the patch set, a new Zarr folder.
        labels: polygons, points or label rasters: one file for all scenes or one each. For each
            volume a volume of labels of the same shape, where 0 means unlabelled.
        positions: instead of labels, a table (CSV, Parquet) with row and column of the upper-left
            pixel of every patch, from 0, its class, and in volumes axis and index of the slice;
            source, if there are several. Rows whose found is false are left out, flip is ignored.
        column: the column that names the class, of vector labels or of the table, there "label"
            if not given.
        size: height and width of a patch in pixels.
        bands: numbers of the bands to use, from 1.
        axis: of volumes, the axis that the slices are across, from 0.
        stride: use only labelled pixels on every so many rows and columns.
        slice_stride: of volumes with labels, use only every so-many-th slice.
        edge: mirror the scene for patches over its edge (reflect, if not given), or drop them. In
            volumes, and where positions are given, patches lie wholly inside.
        per_class: at most so many patches of each class, drawn at random.
        keep: further columns of the labels or the table to keep, to split by.
        classes: names for the values of a label raster or volume, in ascending order.
        crs: coordinate reference system of scenes that carry none.
        labels_crs: the same for labels.
        inline_byte, crossline_byte: of SEG-Y, where the trace headers hold the inline and the
            crossline number, from 1; 189 and 193 if not given.
        gaps: of SEG-Y, take files that lack traces, and read these as no data.
        seed: for --per-class.
        overwrite: whether the patch set may exist.
    """
    from outcrop.cli.tables import class_table
    from outcrop.patches.at_positions import cut_at_positions
    from outcrop.patches.cut import cut
    from outcrop.patches.cut_volume import cut_volume
    from outcrop.sources.kinds import are_volumes

    headers = _headers(
        [*sources, *(labels or ())],
        inline_byte=inline_byte,
        crossline_byte=crossline_byte,
        gaps=gaps,
    )
    common: dict[str, Any] = {"per_class": per_class, "seed": seed}
    common |= {"output": output, "overwrite": overwrite}
    if positions is not None:
        _refuse_beside(
            "--positions",
            labels=labels,
            classes=classes,
            edge=edge,
            stride=stride > 1,
            slice_stride=slice_stride > 1,
        )
        found = cut_at_positions(
            _opened(sources, headers),
            positions,
            column or "label",
            size,
            axis=axis,
            bands=bands,
            crs=crs,
            keep=keep or (),
            **common,
        )
    elif labels is None:
        raise OutcropError("--labels", "is missing; pass labels, or --positions with a table")
    elif are_volumes(sources):
        if axis is None:
            raise OutcropError("--axis", "is missing; pass the axis that the slices are across")
        _refuse_beside(
            "a volume of labels", column=column, keep=keep, bands=bands, edge=edge == "reflect"
        )
        found = cut_volume(
            _opened(sources, headers),
            _opened(labels, headers),
            axis,
            size,
            stride=stride,
            slice_stride=slice_stride,
            classes=classes,
            **common,
        )
    else:
        _refuse_beside("labels of scenes", axis=axis, slice_stride=slice_stride > 1)
        found = cut(
            sources,
            labels,
            column,
            size,
            bands=bands,
            stride=stride,
            edge=edge or "reflect",
            keep=keep or (),
            classes=classes,
            crs=crs,
            labels_crs=labels_crs,
            **common,
        )
    class_table(found, output)


def _headers(sources: Sequence[str], **options: Any) -> dict[str, Any]:
    """What was said of SEG-Y headers, for `open_volume`; refused where there is no SEG-Y."""
    from outcrop.sources.volumes import volume_kind

    # What is not there is told when it is opened.
    if not any(volume_kind(one) == "segy" or not Path(one).exists() for one in sources):
        _refuse_beside("sources other than SEG-Y", **options)
    return {
        name: value for name, value in options.items() if value is not None and value is not False
    }


def _opened(sources: list[str], headers: dict[str, Any]) -> Sequence[Any]:
    """The sources, opened if their headers need more than the usual."""
    from outcrop.sources.kinds import are_volumes, open_all_volumes

    if not (headers and are_volumes(sources)):
        return sources
    return open_all_volumes(sources, **headers)


def _refuse_beside(what: str, **options: Any) -> None:
    """Refuse options that were given where they would do nothing."""
    for name, value in options.items():
        if value is not None and value is not False:
            option = name.replace("_", "-")
            raise OutcropError(f"--{option}", f"has no meaning beside {what}; leave it out")


def _refuse_without(what: str, **options: Any) -> None:
    """Refuse options that do something only where another is given."""
    for name, value in options.items():
        if value is not None:
            raise OutcropError(f"--{name.replace('_', '-')}", f"needs {what}; give it too")


def locate(
    patches: str,
    sources: list[str],
    *,
    output: Path,
    axis: int | None = None,
    flips: bool = False,
    bands: list[int] | None = None,
    crs: str | None = None,
    inline_byte: int | None = None,
    crossline_byte: int | None = None,
    gaps: bool = False,
    sure: float = 0.9999,
    patches_output: Path | None = None,
    picture: Path | None = None,
    report: Path | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
) -> None:
    """Find where patches were cut that have lost their place, in volumes or scenes.

    Args:
        patches: a patch set, a folder or archive with a folder per class, or an npz with images
            and, if there are any, labels.
        sources: where they may have been cut. Volumes: .npy, Zarr, SEG-Y, folders of slices. Or
            raster files with the bands of the patches; names joined by commas are one scene.
        output: the positions, a new .csv or .parquet with one row a patch, in their order.
        axis: of volumes, the axis that the slices are across, from 0; all three are searched if
            not given.
        flips: whether patches may have been flipped or turned; takes eight times as long, four if
            they are not square.
        bands: of scenes, numbers of the bands to use, from 1.
        crs: coordinate reference system of scenes that carry none.
        inline_byte, crossline_byte: of SEG-Y, where the trace headers hold the inline and the
            crossline number, from 1; 189 and 193 if not given.
        gaps: of SEG-Y, take files that lack traces, and read these as no data.
        sure: the confidence from which a patch counts as found, from 0 to 1.
        patches_output: a patch set of those that were found, with their positions, to be split
            and audited by ground.
        picture: where each class lies, a new .png, .svg or .pdf.
        report: the same and more as one HTML page.
        scheduler: address of a Dask cluster to work on.
        overwrite: whether the files may exist.
    """
    from outcrop.cli.tables import locate_table, say
    from outcrop.files import check_new
    from outcrop.locating.locate import locate as locate_patches
    from outcrop.locating.table import check_table, with_positions, write_positions
    from outcrop.patches.collection import open_patches
    from outcrop.patches.patchset import check_output
    from outcrop.reporting.origins import write_origins
    from outcrop.reporting.projections import check_picture, write_projections

    check_table(output, overwrite)
    if patches_output is not None:
        check_output(patches_output, overwrite)
    if picture is not None:
        check_picture(picture, overwrite)
    if report is not None:
        check_new(report, overwrite)
    headers = _headers(sources, inline_byte=inline_byte, crossline_byte=crossline_byte, gaps=gaps)
    opened = open_patches(patches, learnable=False)
    located = locate_patches(
        opened,
        _opened(sources, headers),
        axis,
        flips,
        bands=bands,
        crs=crs,
        sure=sure,
        scheduler=scheduler,
    )
    placed = None if patches_output is None else with_positions(opened, located)
    write_positions(output, located, opened, overwrite)
    if placed is not None and patches_output is not None:
        placed.save(patches_output, overwrite)
    if picture is not None:
        write_projections(picture, located, opened, overwrite)
    if report is not None:
        write_origins(report, located, opened, overwrite)
    locate_table(opened, located)
    for path in (output, patches_output, picture, report):
        if path is not None:
            say(str(path))


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
        block: side of a block in metres, or in voxels of a volume; a tenth of the labelled
            ground's extent, but at least four patches (two in a volume), if not given.
        buffer: metres or voxels between the patches of different sides; one patch, or half a
            patch of a volume, if not given; with --by matching 0.
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
        fold: which of them, from 0; without it one that leaves most classes on both sides.
        test: set the next fold aside as a test side.
        seed: of what is dealt.
        overwrite: whether the split may exist.
    """
    from outcrop.cli.tables import split_table
    from outcrop.files import check_new
    from outcrop.patches.collection import open_patches
    from outcrop.splits import make_splitter

    check_new(output, overwrite)
    _refuse_beside(
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
        full: measure the leak gap of a network too, which is trained twice.
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
        _refuse_without("--full", depth=depth, epochs=epochs)
    opened = open_patches(patches)
    made = None if split is None else read_split(split)
    trained: dict[str, Any] = {}
    if full:
        trained["network"] = ResidualNet(depth=14 if depth is None else depth)
        trained["recipe"] = Recipe(epochs=15 if epochs is None else epochs, seed=seed)
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


def models(
    *,
    size: list[int] | None = None,
    bands: int = 3,
    classes: int = 10,
    network: ResidualNet = ResidualNet(),
) -> None:
    """Print the family of networks: what each costs for a given input.

    Args:
        size: height and width of a patch in pixels, or one number for both; 32 if not given.
        bands: of a patch.
        classes: to be told apart.
        network: by name or by the options that follow, one network instead of the family; its
            default, resnet20, is the first of the family.
    """
    from outcrop.cli.tables import cost_table
    from outcrop.models.architectures import NETWORKS

    sides = size or [32]
    if len(sides) > 2:
        raise OutcropError("--size", "is one number, or height and width; take 32 or 150,100")
    chosen = list(NETWORKS.values()) if network == ResidualNet() else [network]
    cost_table(chosen, bands, (sides[0], sides[-1]), classes)


def train(
    patches: str,
    *,
    output: Path,
    split: Path | None = None,
    network: ResidualNet = ResidualNet(),
    recipe: Recipe = Recipe(),
    sources: list[str] | None = None,
    resume: bool = False,
) -> None:
    """Train a residual network on a patch set, class folder, archive, npz or CIFAR-10.

    Args:
        patches: a patch set, a folder or archive with a folder per class, an npz, or "cifar10".
        output: the run, a new folder.
        split: made by `outcrop split`; without it, the sides that a collection came with.
        network: a network by name, to be changed by the options that follow; `outcrop models`
            lists them.
        recipe: how to train it.
        sources: for --neighbourhood and --slices, where the files are now that the patches were cut
            from, in the same order, if they are no longer where they were.
        resume: go on with a run that was interrupted.
    """
    from outcrop.cli.tables import run_table
    from outcrop.patches.collection import open_patches
    from outcrop.splits import delivered_split, read_split
    from outcrop.training.engine import train as train_network
    from outcrop.training.parallel import launch

    opened = open_patches(patches)
    made = delivered_split(opened) if split is None else read_split(split, opened)
    launch(recipe.machine)
    run = train_network(opened, made, output, network, recipe, resume, lines=True, sources=sources)
    run_table(run)


def evaluate(run: Path, patches: str, *, device: str = "auto") -> None:
    """Judge a trained network on all patches of another set.

    Says too how far its confidence can be taken at its word, which share of the patches lies
    outside its area of trust, and how right it is inside and outside.

    Args:
        run: made by `outcrop train`.
        patches: a patch set with the classes of the run, cut from ground it has not seen.
        device: auto, cpu, cuda or mps.
    """
    from outcrop.cli.tables import evaluation_table
    from outcrop.experiment.evaluate import evaluate as evaluate_model
    from outcrop.patches.collection import open_patches
    from outcrop.training.run import read_run

    evaluation_table(evaluate_model(read_run(run, device), open_patches(patches)))


def compare(
    patches: str,
    *,
    split: Path,
    output: Path,
    network: ResidualNet = ResidualNet(),
    recipe: Recipe = Recipe(),
    seeds: list[int] | None = None,
    runs: list[Path] | None = None,
    sources: list[str] | None = None,
    resume: bool = False,
) -> None:
    """Hold models against each other: which is shown to be better, and which difference is noise.

    Args:
        patches: a patch set.
        split: made by `outcrop split`.
        output: a new folder.
        network: a network by name, to be changed by the options that follow; `outcrop models`
            lists them. It is held against maximum likelihood, decision tree, random forest and SVM.
        recipe: how to train it.
        seeds: train every model once for each, such as 0,1,2, so that the luck of a seed counts.
        runs: train nothing and hold these against each other, folders made by `outcrop train` on
            the same patches and split; runs that differ in the seed alone are one model.
        sources: for --neighbourhood and --slices, where the files are now that the patches were cut
            from, in the same order, if they are no longer where they were.
        resume: go on with a comparison that was interrupted, or add seeds to one.
    """
    from outcrop.cli.tables import comparison_table
    from outcrop.experiment.compare import compare as compare_models
    from outcrop.experiment.compare_runs import compare_runs
    from outcrop.patches.collection import open_patches
    from outcrop.splits import read_split

    if runs is not None and (
        resume or (seeds, sources, network, recipe) != (None, None, ResidualNet(), Recipe())
    ):
        raise OutcropError("--runs", "trains nothing; leave out the options of a training")
    opened = open_patches(patches)
    made = read_split(split, opened)
    if runs is not None:
        comparison_table(compare_runs(opened, made, runs, output))
        return
    comparison_table(compare_models(opened, made, output, network, recipe, resume, sources, seeds))


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
    bands: list[int] | None = None,
    crs: str | None = None,
    inline_byte: int | None = None,
    crossline_byte: int | None = None,
    gaps: bool = False,
    device: str = "auto",
    scheduler: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Classify every pixel of a scene or mosaic, or every sample of a volume.

    Args:
        run: made by `outcrop train`.
        sources: scenes: single-band files on one grid are one scene, and so are names joined by
            commas; several of one grid are a mosaic, the first on top. Or one volume: .npy, Zarr,
            SEG-Y, a folder of slices.
        output: the class map, a Cloud-Optimized GeoTIFF on the scene's grid; of a volume a cube,
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
        axis: of a volume, the axis that the slices are across, from 0, as the patches were cut.
        bands: of scenes, numbers of the bands to use, from 1.
        crs: coordinate reference system of scenes that carry none.
        inline_byte, crossline_byte: of SEG-Y, where the trace headers hold the inline and the
            crossline number, from 1; 189 and 193 if not given.
        gaps: of SEG-Y, take files that lack traces, and read these as no data.
        device: auto, cpu, cuda or mps.
        scheduler: address of a Dask cluster to work on, or local[N] for N processes here.
        resume: go on with a map that was interrupted.
        overwrite: whether the files may exist.
    """
    from outcrop.cli.tables import say
    from outcrop.files import check_new
    from outcrop.mapping.polygons import write_polygons
    from outcrop.mapping.rasters import share_outside
    from outcrop.mapping.scene import map_scene
    from outcrop.mapping.volume import map_volume
    from outcrop.sources.kinds import are_volumes
    from outcrop.sources.mosaic import lay_together
    from outcrop.sources.scene import open_scenes
    from outcrop.training.classifier import read_classifier
    from outcrop.training.run import read_run

    headers = _headers(sources, inline_byte=inline_byte, crossline_byte=crossline_byte, gaps=gaps)
    first = read_classifier(run, device) if trust is None else read_run(run, device)
    models = [first, *(read_classifier(one, device) for one in ensemble or ())]
    options: dict[str, Any] = {
        "confidence": confidence, "entropy": entropy, "second": second, "trust": trust,
        "method": method, "turns": turns, "step": step, "scheduler": scheduler, "resume": resume,
        "overwrite": overwrite,
    }  # fmt: skip
    if are_volumes(sources):
        _refuse_beside("a volume", polygons=polygons, sieve=sieve != 0, bands=bands, crs=crs)
        if axis is None:
            raise OutcropError("--axis", "is missing; pass the axis that the slices are across")
        if len(sources) > 1:
            raise OutcropError(sources[1], "is a second volume; map one at a time")
        (volume,) = _opened(sources, headers)
        map_volume(models, volume, axis, output, **options)
    else:
        _refuse_beside("scenes", axis=axis)
        if polygons is not None:
            check_new(polygons, overwrite)
        scene = lay_together(open_scenes(sources, bands, crs))
        map_scene(models, scene, output, sieve=sieve, window=window, **options)
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
        _refuse_beside("--n", standard_error=standard_error)
    if design == "simple":
        _refuse_beside("--design simple", allocation=allocation, floor=floor)
    if allocation in ("proportional", "equal"):
        _refuse_beside(f"--allocation {allocation}", floor=floor)
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
    reference: Path,
    *,
    output: Path | None = None,
    csv: Path | None = None,
    column: str | None = None,
    design: Literal["stratified", "simple"] | None = None,
    block: float | None = None,
    patches: str | None = None,
    labels_crs: str | None = None,
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
        labels_crs: coordinate reference system of points or polygons that carry none.
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
    )
    if output is not None:
        write_assessment(output, found)
    if csv is not None:
        write_assessment_table(csv, found)
    assessment_table(found)
    for path in (output, csv):
        if path is not None:
            say(str(path))


def export(
    run: Path,
    *,
    output: Path,
    format: Literal["onnx", "torch-export"] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a trained network as one file for other programs: raw pixels in, logits out.

    Args:
        run: made by `outcrop train`.
        output: a new file; what it ends in, .onnx or .pt2, is the format.
        format: onnx, or torch-export for `torch.export.load`, whatever the file is called.
        overwrite: whether the file may exist.
    """
    from outcrop.cli.tables import say
    from outcrop.training.classifier import read_classifier
    from outcrop.training.export import export as export_model

    export_model(read_classifier(run, "cpu"), output, format, overwrite)
    say(str(output))


def experiment(
    scenes: list[str],
    *,
    output: Path,
    plan: Experiment,
    resume: bool = False,
) -> None:
    """Do the whole job: cut, split by ground, compare, map, report.

    Args:
        scenes: raster files; single-band files on one grid are one scene.
        output: a new folder for everything.
        plan: what to do.
        resume: go on with an experiment that was interrupted.
    """
    from outcrop.cli.tables import comparison_table, say
    from outcrop.experiment.experiment import run_experiment
    from outcrop.reporting import write_report

    results = run_experiment(plan, output, resume)
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
    truth: Path | None = None,
    assessment: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Write one HTML page about an experiment, a comparison, a run, an audit or a class map.

    Args:
        folder_or_map: made by `outcrop experiment`, `compare`, `train` or `audit`; or a class map
            of a scene, which the options that follow are about.
        output: the page; `report.html` in the folder, or MAP.html beside the map, if not given.
        scene: what was mapped: a raster file, or several that are its bands.
        confidence: of the map.
        entropy: of the map.
        trust: the area of trust of the map.
        truth: a raster of true classes, which the map is held against.
        assessment: made by `outcrop assess`.
        overwrite: whether the page may exist.
    """
    from outcrop.cli.tables import say
    from outcrop.reporting import write_report

    page = write_report(
        folder_or_map,
        output,
        overwrite,
        scene=scene,
        confidence=confidence,
        entropy=entropy,
        trust=trust,
        truth=truth,
        assessment=assessment,
    )
    say(str(page))


def reproduce(
    name: str | None = None,
    *,
    output: Path = Path("reproduced"),
    data: str = "cifar10",
    seeds: list[int] | None = None,
    epochs: int | None = None,
    machine: Machine = Machine(),
    table: bool = False,
    resume: bool = False,
) -> None:
    """Run a published recipe and print its figure beside ours; without a name, list the recipes.

    Args:
        name: of the recipe.
        output: the folder of the runs and of results.jsonl, which has a line for each.
        data: "cifar10", or a collection with a test side; figures on other pixels are marked.
        seeds: one run each; 0 if not given.
        epochs: instead of the recipe's; its whole schedule is squeezed into them.
        machine: where it runs, and how.
        table: run nothing; show all that results.jsonl has, or all it has of the recipe.
        resume: go on with runs that were interrupted; those that ended are not run again.
    """
    from outcrop.cli.tables import recipe_table, result_table
    from outcrop.experiment.published import all_published
    from outcrop.experiment.reproduce import reproduce as run_recipe
    from outcrop.experiment.results import results_of
    from outcrop.training.parallel import launch

    if table:
        result_table(results_of(output, name))
    elif name is None:
        recipe_table(all_published())
    else:
        launch(machine)
        found = run_recipe(
            name, output, data, [0] if seeds is None else seeds, epochs, machine, resume
        )
        result_table(found)


COMMANDS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        demo,
        experiment,
        coast,
        cube,
        patches,
        locate,
        split,
        audit,
        models,
        train,
        evaluate,
        compare,
        map,
        sample,
        assess,
        export,
        report,
        reproduce,
    )
}
