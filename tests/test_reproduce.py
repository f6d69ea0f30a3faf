from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm

import outcrop
from benchmarks.depth import NONE, Outcome
from benchmarks.first_step import First
from benchmarks.large_scene import Mapped
from benchmarks.memory import Case
from benchmarks.plain_runs import PlainRun
from benchmarks.step_profile import Profile
from benchmarks.tabulate import PAGES, TABLES
from benchmarks.tabulate import main as tabulate_lines
from benchmarks.throughput import Round
from outcrop.errors import OutcropError
from outcrop.models.architectures import ResidualNet
from outcrop.models.factory import build
from outcrop.training import batches
from outcrop.training.device import device_name
from outcrop.training.recipe import Augmentation, Machine, Recipe, suited
from outcrop.workflow import reproduce
from outcrop.workflow.published import (
    Published,
    Result,
    all_published,
    append_result,
    notes,
    read_published,
    read_results,
    tabulate,
)
from tests.command_line import content, run

PUBLISHED = all_published()
LABELS = np.arange(80, dtype=np.uint8) % 4
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def pictures(path: Path, sides: list[int], size: int = 8) -> Path:
    """Images whose class is their brightness; `sides` repeats over 80 of them."""
    labels = np.arange(80) % 4
    images = (
        np.random.default_rng(0).integers(0, 40, (80, size, size, 3))
        + 50 * labels[:, None, None, None]
    )
    np.savez(
        path, images=images.astype("uint8"), labels=labels, sides=np.resize(sides, 80).astype(int)
    )
    return path


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Published:
    """A recipe of three epochs, so that it can be interrupted in between."""
    made = Published(
        "tiny",
        "nobody",
        93.5,
        (91.0, 92.0),
        ResidualNet(8, 4),
        Recipe(epochs=3, batch=16, warm_up=1.5),
    )
    monkeypatch.setattr(reproduce, "read_published", lambda name: made)
    return made


# Recipes

MILLIONS = {
    # He et al. 2015, Table 6, and Zhang et al. 2016
    "resnet20": 0.27,
    "resnet32": 0.46,
    "resnet32-sd": 0.46,
    "resnet56": 0.85,
    "resnet110": 1.7,
    "resnet110-sd": 1.7,
    "ror3-110-sd": 1.7,
}


@pytest.mark.parametrize("one", PUBLISHED, ids=lambda one: one.name)
def test_networks_have_as_many_parameters_as_in_the_papers(one: Published) -> None:
    count = sum(tensor.numel() for tensor in build(one.network, 3, 10).parameters()) / 1e6
    if one.name in MILLIONS:
        published = MILLIONS[one.name]
        assert round(count, 1 if published > 1 else 2) == published
    elif one.name == "ror3-wrn58-4-sd":
        # The paper says 13.3; nine blocks of 64, 128 and 256 filters alone have 13.6.
        assert count == pytest.approx(13.3, rel=0.03)
    else:
        assert {"resnet50": 0.76, "resnet50-sd": 0.76, "resnet602-sd": 9.7, "fast": 2.7}[
            one.name
        ] == pytest.approx(count, rel=0.01)


@pytest.mark.parametrize("one", PUBLISHED, ids=lambda one: one.name)
def test_every_recipe_flips_and_crops_only(one: Published) -> None:
    assert one.recipe.machine == Machine()
    assert one.recipe.seed == 0
    if one.name == "fast":
        assert (one.paper, one.report) == (None, ())
    else:
        assert one.paper or one.report
        assert one.recipe.augmentation == Augmentation(crop=4, rotate=False, gain=0)
        assert (one.recipe.batch, one.recipe.weight_decay) == (128, 1e-4)


def test_recipes_are_those_of_the_issue() -> None:
    assert {one.name for one in PUBLISHED} >= {
        *("resnet20", "resnet32", "resnet56", "resnet110", "resnet110-sd", "ror3-110-sd"),
        *("ror3-wrn58-4-sd", "resnet602-sd", "fast"),
    }
    reports = {one.name: one.report for one in PUBLISHED if one.report}
    assert reports == {
        "resnet20": (91.9,),
        "resnet32": (92.5,),
        "resnet50": (92.4, 92.9),
        "resnet32-sd": (92.86,),
        "resnet50-sd": (93.18,),
        "resnet602-sd": (91.12,),
    }


def test_the_schedules_are_those_of_the_papers() -> None:
    he, huang, deep = (
        suited(read_published(name).recipe, ResidualNet())
        for name in ("resnet20", "resnet110-sd", "resnet110")
    )
    # 391 steps of 128 of 50 000 images
    for step, rate in ((0, 0.1), (31_900, 0.1), (32_100, 0.01), (48_100, 0.001), (64_000, 0.001)):
        assert he.learning_rate_at(step / 391) == pytest.approx(rate)
    for epoch, rate in ((249, 0.1), (251, 0.01), (376, 0.001)):
        assert huang.learning_rate_at(epoch) == pytest.approx(rate)
    assert deep.learning_rate_at(0.1) == pytest.approx(0.01)


# Runs


def test_the_command_runs_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data, folder = pictures(tmp_path / "some.npz", [0, 0, 0, 2]), tmp_path / "reproduced"
    command = f"reproduce resnet20 --data {data} --epochs 1 --device cpu -o {folder}"
    assert run(f"{command} --seeds 0,1 --precision 32-true") == 0
    out, err = capfd.readouterr()
    assert "resnet20, seed 1: " in err
    assert "1 of 164" in out
    assert "91.25" in out
    assert "some.npz †" in out
    assert "not the published recipe" in out

    first, second = read_results(folder / "results.jsonl")
    assert (first.paper, first.report, first.seed, second.seed) == (91.25, (91.9,), 0, 1)
    assert (first.epochs, first.full_epochs, first.batch) == (1, 164, 128)
    assert (first.trained, first.tested, first.original) == (60, 20, False)
    assert (first.device, first.threads) == (device_name(torch.device("cpu")), 1)
    assert (first.precision, first.torch) == ("32-true", torch.__version__)
    assert (first.date, first.outcrop) == (date.today().isoformat(), outcrop.__version__)
    assert first.seconds > 0
    assert first.command == (
        "outcrop reproduce resnet20 --data some.npz --seeds 0 --epochs 1 --device cpu "
        "--precision 32-true"
    )
    assert outcrop.read_run(folder / "resnet20-seed0", "cpu").classifier.network == ResidualNet(20)

    before = content(folder)
    assert run(f"{command} --seeds 0,1 --precision 32-true --resume") == 0
    assert run(f"reproduce --table -o {folder}") == 0
    assert run(f"reproduce resnet20 --table -o {folder}") == 0
    assert content(folder) == before
    assert "resnet20" in capfd.readouterr().out


def test_an_interrupted_seed_resumes_to_the_same_accuracy(
    tiny: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, cpu = pictures(tmp_path / "some.npz", [0, 0, 1]), Machine(device="cpu")
    whole = reproduce.reproduce("tiny", tmp_path / "a", data, (4, 5), machine=cpu)
    original, steps = batches.move, []

    def interrupted(*arguments: object) -> object:
        steps.append(None)
        # Three epochs of four steps; so in the second epoch of the second seed.
        if len(steps) == 18:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(batches, "move", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reproduce.reproduce("tiny", tmp_path / "b", data, (4, 5), machine=cpu)
        assert [one.seed for one in read_results(tmp_path / "b" / "results.jsonl")] == [4]
        with pytest.raises(OutcropError, match=r"tiny-seed4: exists already; .* `resume=True`"):
            reproduce.reproduce("tiny", tmp_path / "b", data, (4, 5), machine=cpu)
        again = reproduce.reproduce("tiny", tmp_path / "b", data, (4, 5), machine=cpu, resume=True)
    assert len(steps) == 18 + 8
    assert [one.accuracy for one in again] == [one.accuracy for one in whole]
    assert read_results(tmp_path / "b" / "results.jsonl") == again


def test_a_lost_line_is_written_again(tiny: Published, tmp_path: Path) -> None:
    data, cpu = pictures(tmp_path / "some.npz", [0, 0, 1]), Machine(device="cpu")
    found = reproduce.reproduce("tiny", tmp_path / "a", data, epochs=1, machine=cpu)
    (tmp_path / "a" / "results.jsonl").unlink()
    again = reproduce.reproduce("tiny", tmp_path / "a", data, epochs=1, machine=cpu, resume=True)
    assert again == found == read_results(tmp_path / "a" / "results.jsonl")


def test_the_test_side_is_scored_even_with_a_validation_side(
    tiny: Published, tmp_path: Path
) -> None:
    data = pictures(tmp_path / "some.npz", [0, 0, 0, 1, 2, 2])
    (found,) = reproduce.reproduce(
        "tiny", tmp_path / "a", data, epochs=1, machine=Machine(device="cpu")
    )
    assert (found.trained, found.tested) == (41, 26)
    run_ = outcrop.read_run(tmp_path / "a" / "tiny-seed0", "cpu")
    said = run_.predictions
    assert set(said.index % 6) == {4, 5}
    right = said.probabilities.argmax(axis=1) == LABELS[said.index]
    assert found.accuracy == pytest.approx(100 * right.mean())
    assert found.accuracy > 0


def test_fewer_epochs_compress_the_whole_schedule() -> None:
    recipe = read_published("resnet110").recipe
    short = reproduce._squeezed(recipe, 41)
    for share in (0.001, 0.3, 0.6, 0.8):
        rates = [
            suited(one, ResidualNet()).learning_rate_at(share * one.epochs)
            for one in (recipe, short)
        ]
        assert rates[0] == pytest.approx(rates[1])
    assert reproduce._squeezed(recipe, None) == recipe


@pytest.mark.parametrize("seeds", [(), (-1,)])
def test_empty_seeds_are_refused(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    with pytest.raises(OutcropError, match="seed"):
        reproduce.reproduce("fast", tmp_path / "x", "cifar10", seeds)
    assert not list(tmp_path.iterdir())


def test_cifar10_is_known_by_its_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(b"pictures")
    assert reproduce._is_original("cifar10")
    assert not reproduce._is_original(path)
    assert not reproduce._is_original(tmp_path)
    monkeypatch.setattr(reproduce, "CHECKSUM", f"md5:{hashlib.md5(b'pictures').hexdigest()}")
    assert reproduce._is_original(path)


# The table

ONE = Result(
    name="resnet20",
    paper=91.25,
    report=(91.9,),
    accuracy=91.0,
    tested=10_000,
    seed=0,
    epochs=164,
    full_epochs=164,
    batch=128,
    accumulate=1,
    data="cifar10",
    original=True,
    fingerprint="0123456789ab",
    trained=50_000,
    device="NVIDIA H100",
    threads=None,
    precision="bf16-mixed",
    seconds=754.4,
    torch="2.11.0",
    outcrop="0.1.0",
    date="2026-11-25",
    command="outcrop reproduce resnet20",
)


def test_one_seed_has_the_interval_of_its_test_pictures() -> None:
    (row,) = tabulate([ONE])
    z, n, p = norm.ppf(0.975), 10_000, 0.91
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    ours = f"91.00 [{100 * (middle - half):.2f}, {100 * (middle + half):.2f}]"
    assert row == (
        *("resnet20", "91.25", "91.9", ours, "0", "164", "cifar10", "NVIDIA H100, bf16-mixed"),
        "0:12:34",
    )


def test_seeds_with_equal_settings_are_one_row_with_mean_and_deviation() -> None:
    others = [replace(ONE, seed=seed, accuracy=a) for seed, a in ((2, 91.6), (1, 91.3))]
    short = replace(ONE, epochs=30, accuracy=88.0, device="AMD EPYC", threads=2)
    copies = replace(ONE, data="copies.tar.xz", original=False)
    fast = replace(ONE, name="fast", paper=None, report=())
    rows = tabulate([fast, ONE, short, *others, copies])
    assert [row[0] for row in rows] == ["resnet20", "resnet20", "resnet20", "fast"]
    assert rows[0][3:5] == ("91.30 ± 0.30", "0, 1, 2")
    assert rows[1][5:] == (*("30 of 164", "cifar10", "AMD EPYC, 2 threads, bf16-mixed", "0:12:34"),)
    assert rows[2][6] == "copies.tar.xz †"
    assert rows[3][1:3] == ("–", "–")
    assert not any("†" in note or "compressed" in note for note in notes([ONE]))
    assert any("not the original pixels" in note for note in notes([ONE, copies]))
    assert any("compressed" in note for note in notes([ONE, short]))


def test_a_seed_that_was_run_twice_counts_once() -> None:
    (row,) = tabulate([ONE, replace(ONE, accuracy=91.5, date="2026-11-26")])
    assert row[3].startswith("91.50 [")
    assert row[4] == "0"


def test_lines_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    for one in (ONE, replace(ONE, seed=1), ONE):
        append_result(path, one)
    assert read_results(path) == (ONE, replace(ONE, seed=1))
    # Versions that measured the energy of a run wrote it into the line.
    path.write_text(json.dumps(asdict(ONE) | {"joules": 123_456.0}) + "\n")
    assert read_results(path) == (ONE,)


@pytest.mark.parametrize(
    "wrong",
    [
        {"accuracy": "high"},
        {"accuracy": 912.5},
        {"tested": 0},
        {"report": None},
        {"seconds": math.inf},
        {"x": 1},
    ],
)
def test_damaged_lines_are_reported_by_number(tmp_path: Path, wrong: dict) -> None:
    path = tmp_path / "results.jsonl"
    append_result(path, ONE)
    with path.open("a") as file:
        file.write(json.dumps(asdict(ONE) | wrong) + "\n")
    with pytest.raises(OutcropError, match=r"results.jsonl: line 2: is not a result .*; delete it"):
        read_results(path)


def test_the_script_writes_between_the_marks_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_result(tmp_path / "results.jsonl", ONE)
    pages = tmp_path / "pages"
    pages.mkdir()
    page, other = pages / "recipes.md", pages / "speed.md"
    page.write_text("# Recipes\n\n<!-- reproduce -->\nobsolete\n<!-- /reproduce -->\n\n## More\n")
    rest = [name for name in TABLES if name != "reproduce"]
    other.write_text("\n".join(f"<!-- {name} -->\n<!-- /{name} -->" for name in rest))
    speeds = {"plain loop": 100.0, "ours, 32-true": 150.0, "ours, auto": 300.0}
    once = Round("resnet20", "a machine", "bf16-mixed", 1e12, 2e10, speeds, "a command")
    twice = replace(once, speeds={"plain loop": 120.0, "ours, 32-true": 240.0, "ours, auto": 330.0})
    lines = [json.dumps(asdict(one)) for one in (once, twice)]
    (tmp_path / "throughput.jsonl").write_text("\n".join(lines))
    plain = PlainRun(ONE.name, ONE.epochs, ONE.data, 0, [50.0, 90.0], [1.0, 1.0], "a machine", "")
    others = [replace(plain, seed=1, accuracy=[92.0]), replace(plain, data="other")]
    lines = [json.dumps(asdict(run)) for run in (plain, *others)]
    (tmp_path / "plain.jsonl").write_text("\n".join(lines))
    kept = Case(110, 128, "32-true", 0, 3 << 20, [1.0, 3.0], "a machine", "a command")
    again = replace(kept, recompute=8, peak=1 << 20, seconds=[4.0])
    mapped = Mapped(1000, 4, "a network", 2.0, "a machine", "a command")
    deep = Outcome(602, NONE, 50.0, 51.0, [2.0], 640, 2000, 1, 64, 16, 0, "a machine", "a command")
    gradients = [0.5, 1.0, 0.1, 0.2, 3.0]
    begun = First(20, "as published", 0.5, 4.0, 2.0, gradients, 64, 16, 5, "a machine", "a command")
    for name, ones in (
        ("memory", (kept, again)),
        ("large_scene", (mapped, replace(mapped, seconds=4.0))),
        (
            "step_profile",
            (Profile("resnet20", "auto", 128, 2.5, 2.0, 9, [("a|b", 3, 1.5)], "", ""),),
        ),
        ("depth", (deep, replace(deep, depth=110, accuracy=60.0))),
        ("first_step", (begun, replace(begun, kind="pre-activation", loss=2.3))),
    ):
        lines = [json.dumps(asdict(one)) for one in ones]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    for name in ("real_ground", "leak_gaps"):
        (tmp_path / f"{name}.jsonl").write_bytes((BENCHMARKS / f"{name}.jsonl").read_bytes())
    words = ["tabulate", "--into", str(pages), "--lines", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    for _ in range(2):
        tabulate_lines()
    assert page.read_text().startswith("# Recipes\n\n<!-- reproduce -->\n| recipe | paper |")
    assert "| --- |" in other.read_text()
    text = other.read_text() + page.read_text()
    assert "`a command`\n\na machine; median of 2; product of matrices in bfloat16 1 TF" in text
    assert "| ResNet-20 | ours, 32-true | 195 | 1.75 | 1.50 to 2.00 | 256.4 s |" in text
    assert re.search(r"\| resnet20 \| 91.25 \| 91.9 \| 91.00 \[.*\] \| 91.00 ± 1.41 \|", text)
    assert "| ours | 0 | 164 | 91.00 | NVIDIA H100, driver unknown, torch 2.11.0, " in text
    assert "| 110 | 32-true | all kept | 3 | 1.000 | 1.000 | 2.000 | 1.00 |" in text
    assert re.search(r"\| 110 \| 32-true \| 8 \| 1 \| 0.333 \| 0\.\d+ \| 4.000 \| 2.00 \|", text)
    assert "| 3.0 | 375,000 | 250,000 to 500,000 | `a command` |" in text
    assert "2.50 ms a step, of which 2.00 ms are computed in 9 kernels" in text
    assert r"| `a\|b` | 3 | 1.500 | 75% |" in text
    assert "interval of an accuracy is at most ± 2.2 points" in text
    assert text.index("| 110 | the recipe | 60.00 |") < text.index("| 602 | the recipe | 50.00 |")
    assert "| 20 | as published | 4.00 | 2.00 | 0.500 | 1.000 | 0.100 | 0.200 | 3.000 |" in text
    assert "| 20 | pre-activation | 2.30 |" in text
    assert "obsolete" not in text
    assert text.endswith("<!-- /reproduce -->\n\n## More\n")
    page.write_text("# Recipes\n")
    with pytest.raises(SystemExit, match="0 pages have the lines <!-- reproduce -->"):
        tabulate_lines()
    assert page.read_text() == "# Recipes\n"


def test_the_tables_agree_with_their_lines() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES.glob("*.md"))
    for name, table in TABLES.items():
        assert f"<!-- {name} -->\n{table(BENCHMARKS)}\n<!-- /{name} -->" in text
