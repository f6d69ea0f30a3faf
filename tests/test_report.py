import json
import re
import shutil
import tracemalloc
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import torch

from outcrop.accuracy.assess import assess
from outcrop.accuracy.assessment import write_assessment
from outcrop.errors import OutcropError
from outcrop.files import write_json
from outcrop.mapping.scene import map_scene
from outcrop.metrics.calibration import Calibration
from outcrop.metrics.gaps import leak_gap
from outcrop.metrics.intervals import Interval
from outcrop.metrics.pairwise import Difference, PairwiseTest, pairwise_tests
from outcrop.metrics.scores import score
from outcrop.metrics.significance import mcnemar, written
from outcrop.models.architectures import ResidualNet
from outcrop.patches.cut import cut
from outcrop.patches.patchset import read_patches
from outcrop.patches.reopen import reopen
from outcrop.reporting import write_report
from outcrop.reporting.findings import confidence, leak, ranking
from outcrop.reporting.html import percent
from outcrop.reporting.panels import with_grid
from outcrop.reporting.rasters import read_scene
from outcrop.sources.opening import open_scene
from outcrop.sources.stretch import stretches
from outcrop.splits import BlockSplit, random_counterpart
from outcrop.training.engine import train
from outcrop.training.recipe import Machine, Recipe
from outcrop.training.run import read_run
from outcrop.workflow.comparison import Comparison, Row, read_comparison
from outcrop.workflow.plan import Experiment
from tests.pages import Page
from tests.rasters import GRID, write_raster

CLASSES = ["<b>&", "rice $x$", "water"]
NETWORK, RECIPE = (
    ResidualNet(depth=8, width=4),
    Recipe(epochs=2, batch=32, machine=Machine(device="cpu")),
)
SECTIONS = [
    "headline", "data", "learning", "classes", "confidence", "models", "map", "mistakes", "run",
    "words",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small networks are faster with one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """An experiment's folder, with scenes and truth beside it; trained for two epochs."""
    home = tmp_path_factory.mktemp("report")
    random = np.random.default_rng(0)
    down, right = np.mgrid[:64, :96] // 16
    truth = ((down + right) % 3 + 1).astype(np.uint8)
    labels = np.where((np.mgrid[:64, :96] % 16 < 6).all(axis=0), truth, 0).astype(np.uint8)
    pixels = 400.0 * truth + random.normal(0, 90, (4, 64, 96))
    scene = write_raster(home / "scene.tif", pixels.astype(np.uint16))
    with rasterio.open(scene, "r+") as dataset:
        dataset.descriptions = ("blue", "green", "red", "near infrared")
    write_raster(home / "labels.tif", labels, nodata=0)
    write_raster(home / "truth.tif", truth, nodata=0)
    with rasterio.open(home / "truth.tif", "r+") as dataset:
        dataset.update_tags(1, **{f"CLASS_{i}": name for i, name in enumerate(CLASSES, start=1)})
    folder = home / "results"
    folder.mkdir()
    plan = Experiment(
        scenes=[str(scene)],
        labels=[str(home / "labels.tif")],
        truth=[str(home / "truth.tif")],
        classes=CLASSES,
        size=8,
        stride=2,
        network=NETWORK,
        recipe=RECIPE,
    )
    (folder / "experiment.yaml").write_text(plan.to_yaml())
    patches = cut(
        plan.scenes, plan.labels, None, 8, stride=2, classes=CLASSES,
        output=folder / "patches.zarr",
    )  # fmt: skip
    split = BlockSplit(block=160, buffer=0, n_splits=4).assign(patches)
    split.save(folder / "split.json")
    compared = folder / "comparison"
    compared.mkdir()
    run = train(patches, split, compared / "network", NETWORK, RECIPE)
    train(patches, random_counterpart(patches, split), compared / "network-random", NETWORK, RECIPE)
    said = run.predictions
    groups = split.groups[said.index]
    network = (said.truth, said.probabilities.argmax(axis=1), groups)
    tree = (said.truth, np.where(random.random(len(groups)) < 0.7, said.truth, 0), groups)
    rows = []
    for model, features, judged in (
        ("decision tree", "centre pixel", tree),
        ("ResNet-8", "patch", network),
    ):
        rows.append(
            {
                "model": model,
                "features": features,
                "scores": score(judged[0], judged[1], patches.classes, groups).to_json(),
                "random": score(said.truth, said.truth, patches.classes, groups).to_json(),
                "gap": leak_gap(np.ones(len(groups)), judged[1] == said.truth, groups).to_json(),
                "seconds": 12.5,
                "settings": {"max_depth": 3},
            }
        )
    rows.sort(key=lambda row: -row["scores"]["balanced"]["value"])
    said_by = {"decision tree": tree[1], "ResNet-8": network[1]}
    answers = {f"{row['model']}, {row['features']}": said_by[row["model"]] for row in rows}
    content = {
        "format": "outcrop comparison",
        "classes": CLASSES,
        "split": split.how,
        "counts": split.counts(patches.labels, 3).tolist(),
        "rows": rows,
        "contests": [
            one.to_json() for one in pairwise_tests(said.truth, answers, groups, len(CLASSES))
        ],
    }
    write_json(compared / "comparison.json", content)
    maps = folder / "maps"
    maps.mkdir()
    map_scene(
        run.classifier, open_scene(scene), maps / "0-scene-classes.tif",
        maps / "0-scene-confidence.tif", step=4,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def html(results, tmp_path_factory):
    return write_report(results, tmp_path_factory.mktemp("page") / "page.html").read_text()


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_the_page_of_an_experiment_has_every_section(page):
    assert page.sections == SECTIONS


def test_the_page_refers_to_no_other_file(page, html):
    for tag, attrs in page.elements:
        for name in ("src", "href", "xlink:href", "poster", "srcset", "action"):
            if name in attrs:
                assert attrs[name].startswith(("#", "data:image/")), (tag, attrs[name][:80])
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert "src" not in attrs or tag != "script"
    for target in re.findall(r"url\(\s*['\"]?([^)]*)", html):
        assert target.startswith("#"), target
    assert "@import" not in html
    assert len(html) < 3e6


def test_confidence_is_compared_with_accuracy(page, html, results):
    run = read_run(results / "comparison" / "network", "cpu")
    found = run.calibration
    for one in (found.before, found.after):
        assert f"error {100 * one.error:.1f} %" in html
        assert percent(one.error) in html
    assert f"{found.temperature:.2f}" in page.text
    assert "The accuracy inside is" in page.text
    assert "stored no temperature" not in page.text
    # The worst mistakes have the calibrated confidence of the map.
    predictions = run.calibrated
    wrong = predictions.probabilities.argmax(axis=1) != predictions.truth
    assert f"confidence {percent(predictions.probabilities[wrong].max())}" in html


def test_the_page_of_an_old_run_names_what_it_lacks(results, tmp_path, monkeypatch):
    monkeypatch.setattr("outcrop.metrics.calibration._loss", lambda *_: 0.0)
    folder = tmp_path / "old"
    shutil.copytree(results / "comparison" / "network", folder)
    (folder / "trust.safetensors").unlink()
    model = json.loads((folder / "model.json").read_text())
    del model["temperature"]
    write_json(folder / "model.json", model)
    text = Page(write_report(folder).read_text()).text
    assert "which stored no temperature, made this run" in text
    assert "The accuracy inside is" not in text


def test_the_sentence_on_confidence_follows_the_interval():
    def sentence(excess, after=0.02):
        before = SimpleNamespace(excess=excess, error=0.05)
        elsewhere = None if after is None else SimpleNamespace(error=after)
        return confidence("ResNet-8", Calibration(1.5, before, elsewhere), "held-out areas")

    assert "is overconfident" in sentence(Interval(0.05, 0.01, 0.09))
    assert "5.0 points above its accuracy [+1.0, +9.0]" in sentence(Interval(0.05, 0.01, 0.09))
    assert "is underconfident" in sentence(Interval(-0.05, -0.09, -0.01))
    assert "5.0 points below its accuracy" in sentence(Interval(-0.05, -0.09, -0.01))
    unsure = sentence(Interval(0.05, -0.01, 0.1))
    assert unsure.startswith("ResNet-8 is not shown to be over- or underconfident")
    unknown = sentence(Interval(0.05, np.nan, np.nan))
    assert unknown.startswith("Whether ResNet-8 is over- or underconfident is unknown")
    assert "fitted on other spatial groups the error is 2.0" in sentence(Interval(0.05, 0.01, 0.09))
    assert "temperature" not in sentence(Interval(0.05, 0.01, 0.09), None)


def test_names_from_the_user_are_text_and_not_markup(page, html):
    assert "<b>&" in page.text
    assert "<b>&</" not in html
    assert "&lt;b&gt;&amp;" in html
    assert "rice $x$" in page.text


def test_references_point_to_existing_identifiers(page):
    ids = {attrs["id"] for _, attrs in page.elements if "id" in attrs}
    references = {
        attrs[name][1:]
        for _, attrs in page.elements
        for name in ("href", "xlink:href")
        if attrs.get(name, "").startswith("#")
    }
    assert references <= ids


def test_the_numbers_are_those_of_the_comparison(results, page):
    text = page.text.replace("\N{NO-BREAK SPACE}", " ")
    content = json.loads((results / "comparison" / "comparison.json").read_text())
    for row in content["rows"]:
        scores = row["scores"]
        for one in (scores["overall"], scores["balanced"], *scores["f1"], *scores["precision"]):
            interval = Interval.from_json(one)
            if not np.isnan(interval.value):
                assert f"{100 * interval.value:.1f} %" in text
            if not np.isnan(interval.low):
                assert f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]" in text
        assert f"{100 * row['gap']['value']:+.1f}" in text
    (test,) = content["contests"]
    for measure in ("balanced", "overall"):
        difference = Interval.from_json({e: test[measure][e] for e in ("value", "low", "high")})
        assert f"{100 * difference.value:+.1f}" in text
        assert f"[{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]" in text
        assert written(test[measure]["adjusted"]) in text
    assert "the best is" in text
    for count in np.ravel(content["counts"]):
        assert str(count) in text


def test_the_page_has_pictures_of_scene_split_and_map(page):
    titles = [attrs.get("aria-label") for tag, attrs in page.elements if tag == "svg"]
    for title in ("Scene, true colour", "Labelled pixels", "Split", "Class map", "Truth",
                  "Errors", "Confidence"):  # fmt: skip
        assert title in titles
    assert any(tag == "path" and attrs.get("d", "").startswith("M") for tag, attrs in page.elements)


def test_the_page_is_reproducible(results, html, tmp_path):
    assert write_report(results, tmp_path / "again.html").read_text() == html


def test_a_comparison_alone_has_no_scene_and_no_map(results, tmp_path):
    shutil.copytree(results / "comparison", tmp_path / "comparison")
    path = write_report(tmp_path / "comparison")
    assert path == tmp_path / "comparison" / "report.html"
    page = Page(path.read_text())
    assert page.sections == [s for s in SECTIONS if s not in ("map", "mistakes")]
    assert "outcrop compare PATCHES" in page.text


def test_a_run_alone(results, tmp_path):
    path = write_report(results / "comparison" / "network", tmp_path / "run.html")
    page = Page(path.read_text())
    assert page.sections == ["headline", "learning", "classes", "confidence", "run", "words"]
    # A run stores the defaults of the augmentation for its patches.
    assert re.search(r"--depth 8 --width 4 --epochs 2 --crop 0 .*--device cpu --output", page.text)
    assert "--batch" not in page.text


def test_the_page_of_a_random_split_warns_that_scores_are_too_high(results, tmp_path):
    path = write_report(results / "comparison" / "network-random", tmp_path / "run.html")
    assert "these numbers are too high" in Page(path.read_text()).text


def test_missing_scenes_and_truth_give_a_note_and_are_left_out(results, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(results, home / "results")
    plan = (home / "results" / "experiment.yaml").read_text()
    (home / "results" / "experiment.yaml").write_text(plan.replace("truth.tif", "gone.tif"))
    scene = results.parent / "scene.tif"
    hidden = scene.rename(scene.with_suffix(".hidden"))
    try:
        page = Page(write_report(home / "results").read_text())
    finally:
        hidden.rename(scene)
    assert page.sections == SECTIONS
    assert (
        "scene.tif: there is no such file; check the name; its pictures are not shown"
    ) in page.text
    assert page.text.count("gone.tif: there is no such file") == 1


def test_an_assessment_is_shown_and_otherwise_the_truth_is_used(results, html, tmp_path):
    home = tmp_path / "results"
    shutil.copytree(results, home)
    classes = home / "maps" / "0-scene-classes.tif"
    found = assess(classes, results.parent / "truth.tif", block=160)
    assert f"Overall accuracy {found.accuracy.overall} %." in Page(html).text
    kept = replace(found, basis="simple")
    write_assessment(home / "maps" / "0-scene-assessment.json", kept)
    page = Page(write_report(home).read_text())
    assert f"Design: {kept.design}." in page.text
    assert found.design not in page.text


def test_errors(results, tmp_path):
    with pytest.raises(OutcropError, match="no such folder"):
        write_report(tmp_path / "nothing")
    with pytest.raises(OutcropError, match="holds nothing to report on"):
        write_report(tmp_path)
    (tmp_path / "experiment.yaml").write_text("scenes: [a.tif]\nsurprise: 1\n")
    with pytest.raises(OutcropError, match="is not an experiment"):
        write_report(tmp_path)
    (tmp_path / "experiment.yaml").write_text((results / "experiment.yaml").read_text())
    with pytest.raises(OutcropError, match=r"not finished.*resume=True"):
        write_report(tmp_path)
    page = tmp_path / "page.html"
    page.write_text("mine")
    with pytest.raises(OutcropError, match="exists already"):
        write_report(results, page)
    assert page.read_text() == "mine"
    assert write_report(results, page, overwrite=True) == page


def test_memory_grows_with_the_picture_and_not_with_the_scene(tmp_path):
    options = {"width": 8000, "height": 8000, "count": 4, "dtype": "uint16", "nodata": 0}
    options |= {"tiled": True, "sparse_ok": True, "crs": "EPSG:32648", "transform": GRID}
    with rasterio.open(tmp_path / "large.tif", "w", driver="GTiff", **options) as dataset:
        dataset.write(np.full((4, 400, 400), 9, np.uint16), window=((0, 400), (0, 400)))
    scene = open_scene(tmp_path / "large.tif")
    tracemalloc.start()
    pixels = read_scene(scene, 800)
    shown = stretches(pixels, ["a", "b", "c", "d"])[0](pixels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert shown.shape == (800, 800, 3)
    assert np.isfinite(pixels[:, :40, :40]).all()
    assert np.isnan(pixels[:, 41:, 41:]).all()
    assert peak < 100e6


def test_lines_are_drawn_between_the_blocks(results):
    patches = read_patches(results / "patches.zarr")
    scene = reopen(patches)[0]
    panel = replace(_panel(), height=64, width=96)
    lines = with_grid(panel, scene, patches.crs, 160).lines.split("M")[1:]
    columns = {float(line.split()[0]) for line in lines if line.split()[1].startswith(("64", "0"))}
    assert columns >= {0, 16, 32, 48, 64, 80}


def _panel():
    from outcrop.reporting.panels import Panel

    return Panel("", 1, 1, ())


NAMES = (("ResNet-8", "patch"), ("SVM", "centre pixel"), ("random forest", "centre pixel"))


def row_of(name, balanced=0.8):
    truth = np.array([0, 1])
    one = Interval(balanced, balanced - 0.1, balanced + 0.1)
    right = score(truth, truth, ("a", "b"))
    scores = replace(right, balanced=one, overall=one)
    return Row(*name, scores, right, None, 1.0, {}, seeds=(0,), each=(balanced,))


def compared(best, verdicts):
    """A comparison with a best model, and the verdicts of its tests against the others."""
    names = [NAMES[best], *(name for name in NAMES if name != NAMES[best])]
    rows = tuple(row_of(name, 0.9 - 0.1 * rank) for rank, name in enumerate(names))
    p = {"better": 0.01, "no difference shown": 0.3, "unknown": np.nan}
    held = tuple(
        PairwiseTest(
            rows[0].title,
            row.title,
            Difference(Interval(0.1, 0.0, 0.2), p[verdict], p[verdict]),
            Difference(Interval(0.1, 0.0, 0.2), p[verdict], p[verdict]),
            mcnemar(np.ones(3, bool), np.ones(3, bool)),
        )
        for row, verdict in zip(rows[1:], verdicts, strict=True)
    )
    assert tuple(one.verdict for one in held) == verdicts
    return Comparison(rows, ("a", "b"), {}, np.zeros((4, 2), int), held)


BETTER, ALIKE, UNKNOWN = "better", "no difference shown", "unknown"


@pytest.mark.parametrize(
    ("best", "verdicts", "expected"),
    [
        (
            0,
            (BETTER, BETTER),
            "^Recommended model: ResNet-8. It has the highest.*Every other model is shown to be",
        ),
        (
            0,
            (ALIKE, BETTER),
            r"Not shown to be worse than ResNet-8: SVM .*The other model is shown to be worse",
        ),
        (
            1,
            (BETTER, BETTER),
            "is not the best model.*is 10.0 points.*is significant .p 0.010 after",
        ),
        (
            1,
            (ALIKE, BETTER),
            "is not the best model.*may be due to chance .p 0.30 after correction for 2",
        ),
        (1, (ALIKE, ALIKE), r"No other model is shown to be worse than SVM \(centre pixel\)\.$"),
        (
            1,
            (UNKNOWN, UNKNOWN),
            "whether this is due to chance is unknown.*models are due to chance is unknown",
        ),
    ],
)
def test_the_ranking_follows_the_verdicts(best, verdicts, expected):
    comparison = compared(best, verdicts)
    assert re.search(expected, " ".join(ranking(comparison, "held-out areas")))
    assert len(comparison.leaders) == 3 - verdicts.count(BETTER)


def test_one_seed_and_no_test_result_are_cautions():
    cautions = " ".join(compared(0, (UNKNOWN, UNKNOWN)).cautions)
    assert "no test result" in cautions
    assert "every model was trained with one seed" in cautions
    assert "has no pairwise tests" in " ".join(
        replace(compared(0, (ALIKE, ALIKE)), pairwise_tests=()).cautions
    )


def test_a_leak_gap_is_called_significant_only_above_zero():
    row = row_of(NAMES[0])
    sure = replace(row, gap=Interval(0.2, 0.1, 0.3))
    unsure = replace(row, gap=Interval(0.2, -0.1, 0.5))
    assert "a random split overestimates" in leak(sure, "new areas")
    assert "is not significantly different from zero" in leak(unsure, "new areas")


def test_a_leak_gap_without_interval_or_below_zero_is_not_called_zero():
    row = row_of(NAMES[0])
    unknown = replace(row, gap=Interval(0.2, np.nan, np.nan))
    assert "whether it is due to chance is unknown" in leak(unknown, "new areas")
    negative = leak(replace(row, gap=Interval(-0.2, -0.3, -0.1)), "new areas")
    assert "a random split underestimates" in negative
    assert "not significantly different" not in negative


def test_a_comparison_without_version_is_read(results):
    assert read_comparison(results / "comparison").classes == tuple(CLASSES)
