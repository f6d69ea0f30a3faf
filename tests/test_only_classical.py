"""Comparisons without a network."""

from pathlib import Path

import pytest

import outcrop as oc
from outcrop.errors import OutcropError
from outcrop.models.architectures import ResidualNet
from outcrop.models.baselines import Baseline
from outcrop.reporting.material import read_material
from outcrop.training.recipe import Recipe, Tuning
from tests.command_line import run
from tests.pages import Page
from tests.test_compare import leaky_patches

MODELS = (Baseline("decision tree", "centre pixel"), Baseline("decision tree", "patch statistics"))
OPTIONS = {"baselines": MODELS, "workers": 1, "gap_seeds": 0}


@pytest.fixture(scope="module")
def patches():
    return leaky_patches(polygons=30, each=4)


@pytest.mark.parametrize("folds", [1, 3])
def test_only_classical_models_are_compared(patches, tmp_path, folds):
    split = oc.default_folds(patches, folds, block=1000)
    folder = tmp_path / "c"
    found = oc.compare(patches, split, folder, only_classical=True, **OPTIONS)
    assert {row.title for row in found.rows} == {f"{one.name}, {one.features}" for one in MODELS}
    assert len(found.pairwise_tests) == 1
    again = oc.compare(patches, split, folder, only_classical=True, resume=True, **OPTIONS)
    assert again.to_json() == found.to_json()
    fitted = oc.fit_to_all(patches, folder, tmp_path / "final")
    assert "decision tree" in fitted.model.title


def test_a_network_can_be_added_and_not_taken_away(patches, tmp_path):
    split = oc.default_folds(patches, 3, block=1000)
    oc.compare(patches, split, tmp_path / "c", only_classical=True, **OPTIONS)
    network = {"network": ResidualNet(8, 4), "recipe": Recipe(epochs=1), "tuning": Tuning(0)}
    found = oc.compare(patches, split, tmp_path / "c", resume=True, **network, **OPTIONS)
    assert len(found.rows) == 3
    with pytest.raises(OutcropError, match="was made with a network; leave `only_classical` out"):
        oc.compare(patches, split, tmp_path / "c", only_classical=True, resume=True, **OPTIONS)


@pytest.mark.parametrize(
    ("folds", "seeds", "options"),
    [(1, [4], "split.json --only-classical --seed 4"), (3, None, "folds.json --only-classical")],
)
def test_the_report_describes_the_recommended_model(patches, tmp_path, folds, seeds, options):
    folder = tmp_path / "c"
    split = oc.default_folds(patches, folds, block=1000)
    found = oc.compare(patches, split, folder, only_classical=True, seeds=seeds, **OPTIONS)
    page = Page(oc.write_report(folder).read_text())
    expected = ["headline", "data", "classes", "confidence", "models", "run", "words"]
    assert page.sections == expected
    best = found.recommended
    assert f"Accuracy of each class: {best.title}" in page.text
    assert f"{len(patches):,} patches" in page.text
    assert f"PATCHES --split {folder}/{options}" in page.text
    assert "choice of classical models can be passed in Python only" in page.text


def test_the_report_scores_the_stored_predictions(patches, tmp_path):
    folder = tmp_path / "c"
    split = oc.default_folds(patches, 3, block=1000)
    found = oc.compare(patches, split, folder, only_classical=True, seeds=[0, 1], **OPTIONS)
    material = read_material(folder)
    assert material.held.scores.balanced.value == pytest.approx(found.recommended.each[0])
    assert material.held.scores.confusion.sum() * 2 == found.recommended.scores.confusion.sum()
    (folder / "predictions.npz").unlink()
    with pytest.raises(OutcropError, match=r"predictions\.npz: .* repeat `outcrop\.compare`"):
        oc.write_report(folder)


def test_options_of_a_network_raise_an_error(patches, tmp_path):
    split = oc.default_folds(patches, 3, block=1000)
    for wrong, line in (
        ({"network": ResidualNet(8)}, "`network`: has no meaning with `only_classical=True`"),
        ({"recipe": Recipe(epochs=3)}, "`only_classical`: accepts only seed and hardware"),
        ({"tuning": Tuning(5)}, "`only_classical`: accepts only seed and hardware"),
        ({"baselines": ()}, "baselines: are none"),
    ):
        with pytest.raises(OutcropError, match=line):
            oc.compare(patches, split, tmp_path / "c", only_classical=True, **wrong)
    assert not (tmp_path / "c").exists()


def test_no_network_on_the_command_line(patches, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("outcrop.workflow.compare.BASELINES", MODELS)
    patches.save("p.zarr")
    common = "compare p.zarr --folds 2 --block 1000 --gap-seeds 0 --device cpu --only-classical"
    assert run(f"{common} -o c") == 0
    assert "decision tree" in capsys.readouterr().out
    for option, where in (("--depth 8", "--network"), ("--epochs 3", "--only-classical")):
        assert run(f"{common} {option} -o d") == 2
        assert f"outcrop: {where}: " in capsys.readouterr().err
    assert not Path("d").exists()
