"""Files that a user hands in, damaged at random: does every command end with one line?

Each try damages one file (bytes changed, cut off, set to zero or inserted, or the file emptied or
removed) and runs one command that reads it, in a process forked from one that has imported
everything. A command has to end with exit code 0, 1 or 2, with one line where the code is 2, and to
leave nothing behind then.

    .venv/bin/python -m benchmarks.damaged_files --tries 1000 --seed 1

`--only run,volume` tries some kinds of files alone, `--first 7` the commands of an earlier script,
`--show` prints every line of the program. With OUTCROP_DEBUG=1 an unforeseen exception is shown.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import resource
import shutil
import signal
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

SECONDS = 120
MEMORY = 16 << 30
TRAIN = "--depth 8 --width 4 --epochs 1 --batch 32 --device cpu"
LONGER = TRAIN.replace("--epochs 1", "--epochs 2")
NEW = "--overwrite -o new.zarr"
CUT = f"--size 9 --per-class 5 {NEW}"
AROUND = f"patches {{}} --labels {{}} --column class {CUT}"
PLACES = f"patches {{}} --positions {{}} --size 8 {NEW}"
MAP = "map {} --step 16 --device cpu -o new.tif"
GO_ON = "map run coast/coast-1.tif --step 4 --device cpu -o half.tif --resume"
SCENE, LABELS, TRUTH = "coast/coast-1.tif", "coast/labels.gpkg", "coast/coast-1-truth.tif"
REPORT = f"report map.tif --scene {SCENE} {{}} -o new.html"
AGAIN = "reproduce resnet20 --data sides.npz --epochs 1 -o reproduced --resume"


@dataclass(frozen=True)
class Job:
    """A command, and the files of its input of which one is damaged.

    Attributes:
        kind: what kind of file it is, for `--only` and the table.
        files: a pattern of files, from the base folder.
        command: the words of the command line, with spaces between.
        kept: what may be left behind by a command that failed.
    """

    kind: str
    files: str
    command: str
    kept: str = ""


JOBS = (
    # What the handed-out script tries.
    Job("scene", SCENE, AROUND.format(SCENE, LABELS)),
    Job("gpkg", LABELS, AROUND.format(SCENE, LABELS)),
    Job("patch set", "p.zarr/**/*", "audit p.zarr"),
    Job("split", "s.json", f"train p.zarr --split s.json {TRAIN} -o new"),
    Job("run", "run/*", MAP.format(f"run {SCENE} --dissimilarity new-dissimilarity.tif")),
    Job("segy", "f3.sgy", "locate patches.npz f3.sgy --axis 0 -o new.csv"),
    Job("npz", "patches.npz", "locate patches.npz f3.sgy --axis 0 -o new.csv"),
    # Rasters.
    Job("scene", "rasters/plain*", AROUND.format("rasters/plain.tif", LABELS)),
    Job("scene", "rasters/tiled*", AROUND.format("rasters/tiled.tif", LABELS)),
    Job("scene", "rasters/lzw*", AROUND.format("rasters/lzw.tif", LABELS)),
    Job("scene", "rasters/jpeg*", AROUND.format("rasters/jpeg.tif", LABELS)),
    Job("scene", "rasters/overviews*", AROUND.format("rasters/overviews.tif", LABELS)),
    Job("scene", SCENE, MAP.format(f"run {SCENE}")),
    Job("label raster", TRUTH, f"patches {SCENE} --labels {TRUTH} {CUT}"),
    Job("class map", "map.tif*", "sample map.tif --n 60 --floor 5 -o new.gpkg"),
    Job("class map", "map.tif*", f"assess map.tif {TRUTH} -o new.json"),
    Job("class map", "map.tif*", REPORT.format("--confidence confidence.tif")),
    Job("layer", "confidence.tif", REPORT.format("--confidence confidence.tif")),
    Job("truth raster", TRUTH, f"assess map.tif {TRUTH} -o new.json"),
    Job("assessment", "assessment.json", REPORT.format("--assessment assessment.json")),
    Job("windows of a map", ".half.tif.windows/*", GO_ON, ".half.tif.windows"),
    # Shapes and tables.
    *(
        Job("shapes", f"shapes/labels.{part}", AROUND.format(SCENE, f"shapes/labels.{opened}"))
        for part, opened in (
            *((part, "shp") for part in ("s*", "dbf", "prj", "cpg")),
            *((name, name) for name in ("geojson", "fgb", "parquet", "zip")),
        )
    ),
    Job("reference points", "points.gpkg", "assess map.tif points.gpkg -o new.json"),
    Job("zones", "zones.geojson", "split p.zarr --by zones --zones zones.geojson -o new.json"),
    Job("positions", "positions.csv", PLACES.format("cube.npy", "positions.csv")),
    Job("positions", "positions.parquet", PLACES.format("cube.npy", "positions.parquet")),
    # Volumes.
    *(
        Job("volume", files, PLACES.format(files.partition("/")[0], "positions.csv"))
        for files in (
            *("cube.npy", "cube.sgy", "png/*", "tif/*", "pages/*"),
            *(f"{name}.zarr/**/*" for name in ("v2", "v3", "sharded", "group")),
        )
    ),
    Job("volume", "v3.zarr/**/*", "map cube-run v3.zarr --axis 0 --step 4 --device cpu -o new.npy"),
    Job("label volume", "truth.npy", f"patches cube.npy --labels truth.npy --axis 0 {CUT}"),
    Job("label volume", "truth.zarr/**/*", f"patches cube.npy --labels truth.zarr --axis 0 {CUT}"),
    # Collections.
    *(
        Job("collection", files, f"train {files.partition('/')[0]} {TRAIN} -o new")
        for files in (
            *("classes/**/*", "photos/**/*", "classes.zip", "classes.tar", "classes.tar.gz"),
            *("cifar/*", "cifar.tar.gz", "sides.npz"),
        )
    ),
    # Patch sets, splits and runs, by all that read them.
    Job("patch set", "p.zarr/**/*", f"train p.zarr --split s.json {TRAIN} -o new"),
    Job("patch set", "p.zarr/**/*", "split p.zarr --by random -o new.json"),
    Job("patch set", "p.zarr/**/*", "evaluate run p.zarr --device cpu"),
    Job("patch set", "cut.zarr/**/*", "locate cut.zarr cube.npy --axis 0 -o new.csv"),
    Job("split", "s.json", "audit p.zarr --split s.json"),
    Job("run", "run/*", "evaluate run p.zarr --device cpu"),
    Job("run", "run/*", "report run -o new.html"),
    Job("run", "run/*", "export run -o new.pt2 --format torch-export"),
    Job("run", "run/*", MAP.format(f"run {SCENE} --ensemble run2")),
    Job("run", "run2/*", "compare p.zarr --split s.json --runs run,run2 -o new"),
    Job("checkpoint", "half/*", f"train p.zarr --split s.json {LONGER} -o half --resume", "half"),
    Job("comparison", "comparison/*", "report comparison -o new.html"),
    Job(
        "comparison",
        "comparison/*",
        f"compare p.zarr --split s.json {TRAIN} -o comparison --resume",
        "comparison",
    ),
    Job("audit", "audit/*", "report audit -o new.html"),
    Job("pictures", "vaegan/*", "generative draw vaegan p32.zarr -o new --number 4 --device cpu"),
    Job("pictures", "vaegan/*", "report vaegan -o new.html"),
    # Whole jobs.
    Job(
        "experiment",
        "results/*",
        f"experiment {SCENE} --config plan.yaml -o results --resume",
        "results",
    ),
    Job("experiment", "results/*", "report results -o new.html"),
    Job("experiment", "results/*/*", "report results -o new.html"),
    Job("reproduced", "reproduced/*", AGAIN, "reproduced"),
    Job("reproduced", "reproduced/*.jsonl", "reproduce --table -o reproduced", "reproduced"),
    Job("config", "train.yaml", "train p.zarr --split s.json --config train.yaml -o new"),
    Job("config", "plan.yaml", f"experiment {SCENE} --config plan.yaml -o new"),
)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tries", type=int, default=300)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--only", default="", help="kinds of files, with commas between")
    options.add_argument("--first", type=int, help="only so many of the commands")
    options.add_argument("--base", type=Path, help="where the whole files are, or will be, kept")
    options.add_argument("--whole", action="store_true", help="run each command on whole files")
    options.add_argument("--show", action="store_true", help="print what every command says")
    chosen = options.parse_args()
    wanted = [one for one in chosen.only.split(",") if one]
    jobs = [job for job in JOBS if not wanted or job.kind in wanted][: chosen.first]
    with TemporaryDirectory() as folder:
        base = chosen.base or Path(folder) / "base"
        if not base.exists():
            make_base(base)
        warm_up()
        rng = random.Random(chosen.seed)
        counts: collections.Counter[tuple[str, str]] = collections.Counter()
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            for number in range(len(jobs) if chosen.whole else chosen.tries):
                job = jobs[number % len(jobs)]
                given = None if chosen.whole else rng
                damaged, how, end = attempt(base, Path(folder) / "try", job, given)
                counts[job.kind, end.verdict] += 1
                if chosen.show or not end.good:
                    print(f"{number}: {job.command}\n   {damaged} {how}: {end}", flush=True)
    print_table(counts, chosen.seed)


def print_table(counts: collections.Counter[tuple[str, str]], seed: int) -> None:
    """A row for each kind of files, a column for each end."""
    ends = sorted({end for _, end in counts})
    print(f"\n{sum(counts.values())} tries, seed {seed}\n")
    print(f"| files | {' | '.join(ends)} |\n| --- |{' --- |' * len(ends)}")
    for kind in sorted({kind for kind, _ in counts}):
        print(f"| {kind} | {' | '.join(str(counts[kind, end]) for end in ends)} |")


@dataclass(frozen=True)
class End:
    """How a command ended.

    Attributes:
        code: its exit code, or minus the signal that killed it.
        said: its standard error.
        left: what it left behind though it failed.
        seconds: how long it took.
    """

    code: int
    said: str
    left: tuple[str, ...]
    seconds: float

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.code == -signal.SIGKILL:
            return "killed after its time"
        if self.code < 0:
            return signal.Signals(-self.code).name
        if "Traceback" in self.said:
            return "traceback"
        if "unforeseen" in self.said:
            return "unforeseen"
        if self.left:
            return "half-written"
        if self.code == 2 and len([x for x in self.said.splitlines() if "outcrop: " in x]) != 1:
            return "no line"
        return f"exit code {self.code}"

    @property
    def good(self) -> bool:
        """Whether it is as it should be."""
        return self.verdict in ("exit code 0", "exit code 1", "exit code 2")

    def __str__(self) -> str:
        lines = [line for line in self.said.splitlines() if line.strip()]
        shown = lines if self.verdict == "traceback" else lines[-2:]
        left = f", left {', '.join(self.left)}" if self.left else ""
        return f"{self.verdict}{left} ({self.seconds:.1f} s): " + "\n      ".join(shown)


def attempt(base: Path, folder: Path, job: Job, rng: random.Random | None) -> tuple[str, str, End]:
    """Copy the files, damage one (or none without a generator), run the command."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    copy_needed(base, folder, job)
    found = sorted(
        path for path in folder.glob(job.files) if path.is_file() and "events" not in path.parts
    )
    assert found, f"{job.files} is nothing"
    # Every second time metadata: there are more bytes of pixels than of anything else.
    small = [
        path for path in found if path.suffix in (".json", ".jsonl", "") and "c" not in path.parts
    ]
    if rng is None:
        path, how = found[0], "whole"
    else:
        path = rng.choice(small if small and rng.random() < 0.3 else found)
        how = damage(path, rng)
    before = listing(folder)
    started = time.perf_counter()
    code, said = run(folder, job.command.split(" "))
    seconds = time.perf_counter() - started
    left = tuple(
        sorted(name for name in listing(folder) - before if name.split("/")[0] != job.kept)
    )
    return str(path.relative_to(folder)), how, End(code, said, left if code == 2 else (), seconds)


def copy_needed(base: Path, folder: Path, job: Job) -> None:
    words = {word.split("/")[0] for part in job.command.split(" ") for word in part.split(",")}
    words.add(job.files.split("/")[0])
    for pattern in words:
        for source in base.glob(pattern) if pattern.strip("*.") else ():
            copy = shutil.copytree if source.is_dir() else shutil.copy
            if not (folder / source.name).exists():
                copy(source, folder / source.name)


def listing(folder: Path) -> set[str]:
    """What lies in a folder, and files that were not finished anywhere below it."""
    partial = {str(path.relative_to(folder)) for path in folder.rglob("*.partial*")}
    return partial | {path.name for path in folder.iterdir()}


def damage(path: Path, rng: random.Random) -> str:
    """Damage a file, and say how."""
    content = bytearray(path.read_bytes())
    how = rng.choice(
        ("changed", "changed", "cut", "zeroed", "inserted", "digit", "emptied or removed")
    )
    # The first bytes of a file say how to read the rest.
    far = min(len(content), rng.choice((64, 1024, 1 << 40)))
    at = rng.randrange(far) if far else 0
    if not content or how == "emptied or removed":
        if rng.random() < 0.5:
            path.unlink()
            return "removed"
        content = bytearray()
        how = "emptied"
    elif how == "changed":
        for _ in range(rng.choice((1, 3, 20))):
            content[rng.randrange(far)] ^= rng.randrange(1, 256)
    elif how == "digit":
        digits = [i for i, byte in enumerate(content) if byte in b"0123456789"] or [at]
        content[rng.choice(digits)] = rng.choice(b"0123456789-.en")
    elif how == "cut":
        del content[at:]
    elif how == "zeroed":
        content[at : at + rng.randrange(1, 200)] = bytes(
            len(content[at : at + rng.randrange(1, 200)])
        )
    else:
        content[at:at] = rng.choice((b'{"a":1}', b"\n", b"\0", b"9", b"-", bytes(16), b"\xff" * 8))
    path.write_bytes(content)
    return f"{how} at {at} of {len(content)}"


def run(folder: Path, words: Sequence[str]) -> tuple[int, str]:
    """Run a command in a process of its own: its exit code, or minus its signal, and its words."""

    def command() -> int:
        from outcrop.cli import main as outcrop

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        return outcrop(words)

    return in_process(command, folder)


def in_process(work: Callable[[], int], folder: Path) -> tuple[int, str]:
    """Do something in a forked process; it is killed after `SECONDS`."""
    said = folder.parent / f"{folder.name}-said"
    process = os.fork()
    if process == 0:
        os.chdir(folder)
        for stream in (1, 2):
            os.dup2(
                os.open(said.with_suffix(f".{stream}"), os.O_CREAT | os.O_WRONLY | os.O_TRUNC),
                stream,
            )
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        code = 1
        try:
            code = work()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc(file=sys.stderr)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    end = time.monotonic() + SECONDS
    status = 0
    while not os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if time.monotonic() > end:
            os.kill(process, signal.SIGKILL)
            break
        time.sleep(0.005)
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status), said.with_suffix(".2").read_text("utf-8", "replace")


def warm_up() -> None:
    """Import what commands need, so that a forked process begins with it."""
    import geopandas  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import onnx  # noqa: F401
    import pandas  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import rasterio.vrt  # noqa: F401
    import scipy.signal  # noqa: F401
    import segyio  # noqa: F401
    import sklearn.ensemble
    import sklearn.svm  # noqa: F401
    import torch.export
    import torch.utils.tensorboard  # noqa: F401
    import torchmetrics.functional.classification  # noqa: F401
    import zarr  # noqa: F401

    import outcrop
    import outcrop.cli.commands

    for name in outcrop.__all__:
        getattr(outcrop, name)


# The whole files.


def make_base(base: Path) -> None:
    """Make everything that commands read, small."""
    base.mkdir(parents=True, exist_ok=True)
    steps: list[Callable[[Path], None] | str] = [
        "coast -o coast --images 1 --size 120 --seed 3",
        f"patches {SCENE} --labels {LABELS} --column class --size 9 --per-class 30 -o p.zarr",
        "split p.zarr --by random -o s.json",
        f"train p.zarr --split s.json {TRAIN} -o run",
        f"train p.zarr --split s.json {TRAIN} --order pre-activation -o run2",
        f"train p.zarr --split s.json {LONGER} -o half",
        _half_a_run,
        f"patches {SCENE} --labels {LABELS} --column class --size 32 --per-class 20 -o p32.zarr",
        "split p32.zarr --by random -o s32.json",
        "generative train p32.zarr --split s32.json --filters 4 --latent 4 --epochs 1 --batch 32 "
        "--device cpu -o vaegan",
        f"compare p.zarr --split s.json {TRAIN} -o comparison",
        "audit p.zarr --split s.json -o audit",
        f"map run {SCENE} --step 4 --device cpu -o map.tif --confidence confidence.tif",
        _half_a_map,
        _no_map,
        "sample map.tif --n 60 --floor 5 -o points.gpkg",
        _points,
        "assess map.tif points.gpkg -o assessment.json",
        _rasters,
        _shapes,
        _volumes,
        "patches cube.npy --positions positions.csv --size 8 -o cut.zarr",
        "split cut.zarr --by random -o cube.json",
        f"train cut.zarr --split cube.json {TRAIN} -o cube-run",
        _collections,
        _configs,
        f"experiment {SCENE} --config plan.yaml -o results",
        "reproduce resnet20 --data sides.npz --epochs 1 -o reproduced --device cpu",
    ]
    for each in steps:
        if isinstance(each, str):
            code, said = run(base, each.split(" "))
        else:
            code, said = in_process(partial(_done, each, base), base)
        if code not in (0, 1) or "Traceback" in said:
            raise SystemExit(f"{each}: {code}\n{said}")


def _done(work: Callable[[Path], None], base: Path) -> int:
    work(base)
    return 0


def _half_a_run(base: Path) -> None:
    for name in ("model.json", "model.safetensors", "predictions.npz", "trust.safetensors"):
        (base / "half" / name).unlink(missing_ok=True)


def _half_a_map(base: Path) -> None:
    from outcrop.cli import main as outcrop
    from outcrop.mapping.engine import Partial

    Partial.remove = lambda self: os._exit(0)  # type: ignore[method-assign]
    outcrop(["map", "run", "coast/coast-1.tif", "--step", "4", "--device", "cpu", "-o", "half.tif"])


def _no_map(base: Path) -> None:
    for path in base.glob("half.tif*"):
        path.unlink()


def _points(base: Path) -> None:
    import geopandas as gpd
    import rasterio

    points = gpd.read_file(base / "points.gpkg")
    with rasterio.open(base / "coast/coast-1-truth.tif") as truth:
        names = [truth.tags(1).get(f"CLASS_{k}", "") for k in range(256)]
        places = zip(points.geometry.x, points.geometry.y, strict=True)
        points["class"] = [names[int(value[0])] for value in truth.sample(list(places))]
    points.to_file(base / "points.gpkg")


def _rasters(base: Path) -> None:
    import rasterio
    from rasterio.enums import Resampling

    (base / "rasters").mkdir()
    with rasterio.open(base / "coast/coast-1.tif") as source:
        pixels, profile = source.read(), source.profile
    tiles = {"tiled": True, "blockxsize": 32, "blockysize": 32}
    rows = {"tiled": False, "blockysize": 16, "blockxsize": 120}
    for name, layout in {
        "plain": {**rows, "compress": None},
        "tiled": {**tiles, "compress": "zstd"},
        "lzw": {**rows, "compress": "lzw", "predictor": 2},
        "jpeg": {**tiles, "compress": "jpeg", "dtype": "uint8", "count": 3, "nodata": None},
        "overviews": {**tiles, "compress": "deflate"},
    }.items():
        path = base / "rasters" / f"{name}.tif"
        wanted = {**profile, **layout}
        written = (pixels[: wanted["count"]] // (256 if name == "jpeg" else 1)).astype(
            wanted["dtype"]
        )
        with rasterio.open(path, "w", **wanted) as dataset:
            dataset.write(written)
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.average)
    Path(f"{path}.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><Description>blue</Description></PAMRasterBand>'
        "</PAMDataset>"
    )


def _shapes(base: Path) -> None:
    import geopandas as gpd
    import shapely

    (base / "shapes").mkdir()
    shapes = gpd.read_file(base / "coast/labels.gpkg")
    for name in ("labels.shp", "labels.geojson", "labels.fgb"):
        shapes.to_file(base / "shapes" / name)
    half = shapes.to_crs(shapes.estimate_utm_crs()).total_bounds
    box = shapely.box(half[0], half[1], (half[0] + half[2]) / 2, half[3])
    zones = gpd.GeoDataFrame(geometry=[box], crs=shapes.estimate_utm_crs())
    zones.to_crs(4326).to_file(base / "zones.geojson")
    shapes.to_parquet(base / "shapes/labels.parquet")
    with zipfile.ZipFile(base / "shapes/labels.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((base / "shapes").glob("labels.[sdpc]*")):
            archive.write(path, path.name)


def _volumes(base: Path) -> None:
    import pandas as pd
    import segyio
    import zarr
    from PIL import Image

    random_ = np.random.default_rng(0)
    cube = random_.integers(0, 255, (20, 24, 28)).astype(np.uint8)
    np.save(base / "cube.npy", cube)
    truth = np.ones(cube.shape, np.uint8)
    truth[:, :, 14:] = 2
    np.save(base / "truth.npy", truth)
    for name, options in {
        "v2": {"zarr_format": 2},
        "v3": {"zarr_format": 3},
        "sharded": {"zarr_format": 3, "shards": (16, 16, 16)},
        "truth": {"zarr_format": 3},
    }.items():
        zarr.create_array(
            base / f"{name}.zarr",
            data=truth if name == "truth" else cube,
            chunks=(8, 8, 8),
            **options,
        )
    group = zarr.open_group(base / "group.zarr", mode="w")
    group.create_array("samples", data=cube, chunks=(10, 12, 14))
    zarr.consolidate_metadata(base / "group.zarr")
    for kind in ("png", "tif"):
        (base / kind).mkdir()
        for i, plane in enumerate(cube):
            Image.fromarray(plane).save(base / kind / f"{i:03}.{kind}")
    pages = [Image.fromarray(plane) for plane in cube]
    (base / "pages").mkdir()
    pages[0].save(base / "pages/all.tif", save_all=True, append_images=pages[1:])
    segyio.tools.from_array(str(base / "cube.sgy"), cube.astype(np.float32))
    rows = [
        {
            "axis": 0,
            "index": i,
            "row": 4 * j,
            "column": 8 * (j % 3),
            "label": "ab"[j % 2],
            "found": True,
        }
        for i in range(16)
        for j in range(4)
    ]
    pd.DataFrame(rows).to_csv(base / "positions.csv", index=False)
    pd.DataFrame(rows).to_parquet(base / "positions.parquet", index=False)
    shared = Path(os.environ.get("OUTCROP_SHARED", "../shared")) / "data/segy/f3.sgy"
    shutil.copy(shared if shared.exists() else base / "cube.sgy", base / "f3.sgy")
    (base / "f3.sgy").chmod(0o644)
    np.savez(base / "patches.npz", images=random_.integers(0, 255, (12, 9, 9)).astype("u1"))


def _collections(base: Path) -> None:
    from PIL import Image

    random_ = np.random.default_rng(0)
    for folder, suffix in (("classes", "png"), ("photos", "jpg")):
        for side, name in (("train", "a"), ("train", "b"), ("test", "a"), ("test", "b")):
            (base / folder / side / name).mkdir(parents=True)
            for i in range(6):
                pixels = random_.integers(0, 255, (8, 8, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(base / folder / side / name / f"{i}.{suffix}")
    with zipfile.ZipFile(base / "classes.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((base / "classes").rglob("*.png")):
            archive.write(path, path.relative_to(base))
    for mode, ending in (("w", "tar"), ("w:gz", "tar.gz")):
        with tarfile.open(base / f"classes.{ending}", mode) as archive_:
            archive_.add(base / "classes", "classes")
    (base / "cifar").mkdir()
    (base / "cifar/batches.meta.txt").write_text("a\nb\n")
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        records = random_.integers(0, 255, (10, 3073)).astype(np.uint8)
        records[:, 0] %= 2
        (base / "cifar" / name).write_bytes(records.tobytes())
    with tarfile.open(base / "cifar.tar.gz", "w:gz") as archive_:
        archive_.add(base / "cifar", "cifar")
    np.savez(
        base / "sides.npz",
        images=random_.integers(0, 255, (40, 3, 32, 32)).astype("u1"),
        labels=np.arange(40) % 2,
        classes=np.array(["a", "b"]),
        sides=np.repeat([0, 2], [30, 10]),
    )


def _configs(base: Path) -> None:
    (base / "train.yaml").write_text(
        "depth: 8\nwidth: 4\nepochs: 1\nbatch: 32\ndevice: cpu\nflip: true\n"
    )
    (base / "plan.yaml").write_text(
        "labels: [coast/labels.gpkg]\ncolumn: class\nsize: 9\nper_class: 20\ndepth: 8\nwidth: 4\n"
        "epochs: 1\nbatch: 32\ndevice: cpu\nstep: 16\nblock: 200\nbuffer: 0\n"
    )


if __name__ == "__main__":
    main()
