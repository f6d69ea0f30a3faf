"""The page of a run of networks that learn pictures, and what it says of them."""

import base64
import io
import json
import re
import shlex
import shutil
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from outcrop.cli.commands import COMMANDS
from outcrop.cli.parser import parse
from outcrop.generative.autoencoder import build
from outcrop.generative.charts import curves, divergence_chart
from outcrop.generative.findings import Alarm, alarms, sentences
from outcrop.generative.grids import grid, shown
from outcrop.generative.network import SIZES, VaeGan
from outcrop.generative.page import render
from outcrop.generative.recipe import PictureAugmentation, VaeGanRecipe
from outcrop.generative.repeat import command as command_of
from outcrop.generative.run import read_vaegan_run
from outcrop.generative.stages import stages
from outcrop.generative.training.engine import train_vaegan
from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import PatchSet
from outcrop.splits.split import Split
from outcrop.training.engine import train
from outcrop.training.folder import CLASSIFIER, PICTURE_MODEL, kind_of
from outcrop.training.recipe import Machine, Recipe
from tests.command_line import check_refused, run
from tests.pages import Page

BANDS = ("red", "green", "blue", "<b>nir")
CPU = Machine(device="cpu")
RECIPE = VaeGanRecipe(epochs=2, batch=16, seed=3, machine=CPU)
KINDS = ("vaegan", "judged", "vae", "gan", "vae-dis")
ALL = ["headline", "pictures", "learning", "code", "networks", "run", "words"]
CODELESS = [name for name in ALL if name != "code"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """On networks as small as these, threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def patches():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (48, 4, 32, 32), np.uint8)
    return PatchSet(images, np.arange(48) % 2, ("a", "b"), BANDS)


@pytest.fixture(scope="module")
def home(tmp_path_factory, patches):
    """One run of each kind, a classifier, and the patches they are of; trained for two epochs."""
    home = tmp_path_factory.mktemp("learnt")
    patches.save(home / "patches.zarr")
    replace(patches, labels=1 - patches.labels).save(home / "other.zarr")
    sides = np.where(np.arange(48) % 3 == 0, 1, 0).astype(np.int8)
    split = Split(sides, np.arange(48), patches.fingerprint, {"splitter": "by hand"})
    recipe = Recipe(epochs=1, batch=16, machine=CPU)
    judge = train(patches, split, home / "classifier", ResidualNet(depth=8, width=4), recipe)
    for kind in ("gan", "vaegan", "vae"):
        train_vaegan(patches, split, home / kind, VaeGan(kind, 3, 4), RECIPE)
    train_vaegan(patches, split, home / "judged", VaeGan("vaegan", 3, 4), RECIPE, judge=judge)
    train_vaegan(
        patches, split, home / "vae-dis", VaeGan("vae-dis", 3, 4), RECIPE,
        similarity=read_vaegan_run(home / "gan", "cpu"),
    )  # fmt: skip
    alone = replace(split, sides=np.zeros(48, np.int8))
    train_vaegan(patches, alone, home / "alone", VaeGan("vae", 3, 4), RECIPE)
    return home


@pytest.fixture(scope="module")
def runs(home):
    return {kind: read_vaegan_run(home / kind, "cpu") for kind in (*KINDS, "alone")}


def with_last(run, **known):
    """The run as if its last epoch had shown something else."""
    return replace(run, metrics=(*run.metrics[:-1], replace(run.metrics[-1], **known)))


def without_alarms(run):
    return replace(run, metrics=tuple(replace(epoch, alarms=()) for epoch in run.metrics))


def charts(html):
    return [
        attrs["aria-label"]
        for tag, attrs in Page(html).elements
        if tag == "svg" and attrs.get("role") == "img"
    ]


def sheets(html):
    """The grids of pictures: title, and pixels."""
    return {
        attrs["alt"]: np.asarray(
            Image.open(io.BytesIO(base64.b64decode(attrs["src"].partition(",")[2])))
        )
        for tag, attrs in Page(html).elements
        if tag == "img"
    }


@pytest.mark.parametrize("kind", KINDS)
def test_sections_are_those_of_the_kind(runs, kind):
    page = Page(render(without_alarms(runs[kind])))
    assert page.sections == (CODELESS if kind == "gan" else ALL)
    links = [a["href"][1:] for tag, a in page.elements if tag == "a"]
    assert links == page.sections[1:]
    assert "No alarm was raised in 2 epochs." in page.text


@pytest.mark.parametrize("kind", [*KINDS, "alone"])
def test_no_heading_is_empty(runs, kind):
    tags = [tag for tag, _ in Page(render(runs[kind])).elements if tag not in ("span", "code")]
    for tag, following in pairwise(tags):
        if tag in ("h2", "h3", "summary"):
            assert following not in ("h2", "h3", "section", "script", "summary")


@pytest.mark.parametrize(
    ("kind", "there", "missing"),
    [
        ("vaegan", ["prior", "likeness, features", "losses of the GAN", "is right of",
                    "error of rec", "repeat", "awake"], ["Fréchet", "precision"]),
        ("judged", ["prior", "losses of the GAN", "Fréchet distance, no FID",
                    "precision and recall"], []),
        ("vae", ["prior", "likeness, pixels", "error of rec", "repeat", "awake"],
         ["GAN", "right of", "Fréchet", "precision"]),
        ("gan", ["losses of the GAN", "is right of", "repeat"],
         ["prior", "likeness", "error of rec", "awake", "dimensions"]),
        ("vae-dis", ["prior", "likeness, features", "error of rec"], ["GAN", "right of"]),
        ("alone", ["prior", "repeat"], ["error of rec", "right of"]),
    ],
)  # fmt: skip
def test_charts_are_those_of_what_was_measured(runs, kind, there, missing):
    titles = " | ".join(charts(render(runs[kind])))
    assert [title for title in there if title not in titles] == []
    assert [title for title in missing if title in titles] == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_needs_nothing_but_itself_and_is_small(runs, kind, patches):
    html = render(runs[kind], patches)
    page = Page(html)
    assert len(html.encode()) < 2e6
    for tag, attrs in page.elements:
        assert attrs.get("href", "#").startswith("#"), tag
        assert attrs.get("src", "data:image/").startswith("data:image/"), tag
    assert not re.search(r"url\((?!#)|@import", html)
    assert "<b>nir" in page.text
    assert "mathdefault" not in html
    assert "nan" not in re.sub(r"[a-z]nan|nan[a-z]", "", page.text.lower())


def test_pictures_are_what_the_networks_draw(runs, patches):
    run = runs["vaegan"]
    model = run.model

    def colours(images):
        return shown(model.in_range(images), model.bands)

    drawn = sheets(render(run, patches))
    assert list(drawn) == ["Samples", "Held-out pictures above their reconstructions"]
    expected = grid(colours(model.sample(64, run.config["recipe"]["seed"])), 16, scale=2)
    np.testing.assert_array_equal(drawn["Samples"], expected)
    pairs = drawn["Held-out pictures above their reconstructions"]
    held_out = patches.take(run.split.validation)
    assert len(held_out) == 16
    for k, (real, again) in enumerate(zip(held_out, model.reconstruct(held_out), strict=True)):
        one = pairs[:, 66 * k :][:128:2, :64:2]
        np.testing.assert_array_equal(one, np.concatenate(colours(np.stack([real, again]))))


def test_pictures_without_patches_and_without_an_encoder(runs, patches):
    assert list(sheets(render(runs["vaegan"]))) == ["Samples"]
    assert "With --patches SET" in Page(render(runs["vaegan"])).text
    drawn = sheets(render(runs["gan"], patches))
    assert list(drawn) == ["Samples", "Held-out pictures"]
    real = patches.images[runs["gan"].split.validation[0], :3].transpose(1, 2, 0)
    found = drawn["Held-out pictures"][:64:2, :64:2].astype(int)
    assert np.abs(found - real).max() <= 1  # the range of the bands was learnt from quantiles


def test_bands_that_are_no_colours_are_named(runs):
    run = runs["vae"]
    names = ("VV", "VH", "VV - VH", "angle")
    page = Page(render(replace(run, model=replace(run.model, bands=names))))
    assert "Shown as red, green and blue are the bands VV, VH and VV - VH." in page.text
    assert "Shown" not in Page(render(run)).text


def test_the_same_page_twice(runs, patches):
    assert render(runs["judged"], patches) == render(runs["judged"], patches)


@pytest.mark.parametrize("kind", ["judged", "gan"])
def test_features_are_those_of_the_judge_and_no_fid(runs, kind):
    text = Page(render(runs[kind])).text
    assert ("is not the FID" in text) == (kind == "judged")
    assert ("that takes a judge" in text) == (kind == "gan")
    assert ("in features of the judge" in text.lower()) == (kind == "judged")


def test_numbers_are_those_of_the_last_epoch(runs):
    page = Page(render(runs["judged"]))
    last = runs["judged"].metrics[-1]
    assert f"{last.pixel_error:.2f} of what two pictures differ, in pixels" in page.text
    assert f"they differ by {last.feature_error:.2f} of that" in page.text
    assert f"Fréchet distance of {last.frechet:.3g} from held-out pictures" in page.text
    assert f"{last.awake} of 3 dimensions are awake" in page.text
    parameters = sum(p.numel() for p in runs["judged"].model.networks.parameters())
    assert f"all {parameters:,}" in page.text
    assert "32 train, 16 validation" in page.text


@pytest.mark.parametrize(
    ("real", "made", "verdict"),
    [
        (0.99, (0.985, 0.999), "it wins"),
        (0.97, (0.97, 0.97), "far ahead"),
        (0.97, (0.985, 0.999), "far ahead"),
        (0.0, (1.0, 1.0), "every picture for a made one"),
        (0.95, (0.05, 0.0), "every picture for a real one"),
        (0.55, (0.5, 0.6), "hardly more often than by guessing"),
        (0.9, (0.3, 0.2), "hardly more often than by guessing"),
        (0.8, (0.7, 0.9), "more often than by guessing, and far from always"),
    ],
)
def test_who_wins(runs, real, made, verdict):
    names = ("right_of_real", "right_of_reconstructed", "right_of_sampled")
    shown_now = with_last(runs["vaegan"], **dict(zip(names, (real, *made), strict=True)))
    (said,) = [words for words in sentences(shown_now) if "discriminator was" in words]
    assert verdict in said.partition(": ")[2]
    assert f"{100 * real:.1f}\N{NO-BREAK SPACE}% of the real" in said
    verdicts = (
        "it wins", "far ahead", "made one", "real one", "hardly more often", "far from always",
    )  # fmt: skip
    assert sum(one in said for one in verdicts) == 1


@pytest.mark.parametrize(
    ("precision", "recall", "verdict"),
    [
        (0.9, 0.02, "they show little of what there is"),
        (0.02, 0.9, "few of them look like any"),
        (0.6, 0.4, None),
    ],
)
def test_what_the_judge_sees(runs, precision, recall, verdict):
    said = sentences(with_last(runs["judged"], precision=precision, recall=recall))
    (one,) = [words for words in said if "(precision)" in words]
    assert one.startswith(f"{100 * precision:.1f}\N{NO-BREAK SPACE}% of the samples lie among")
    assert f"{100 * recall:.1f}\N{NO-BREAK SPACE}% of these among the samples" in one
    assert one.partition(": ")[2] == (f"{verdict}." if verdict else "")


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (0.2, "less than the mean of all pictures does"),
        (0.49, "about as much as the mean of all pictures does"),
        (0.6, "more than the mean of all pictures does"),
        (1.3, "as much as another picture does, or more"),
    ],
)
def test_an_error_is_held_against_the_mean_picture(runs, error, verdict):
    said = sentences(with_last(runs["vae"], pixel_error=error))
    assert said[0].endswith(f"in pixels: {verdict}.")
    assert f"by {error:.2f} of" in said[0]


def test_a_better_epoch_is_told_and_a_slightly_better_one_is_not(runs):
    run = runs["vae"]
    first, last = run.metrics

    def said(before, now):
        pair = (replace(first, pixel_error=before), replace(last, pixel_error=now))
        return " ".join(sentences(replace(run, metrics=pair)))

    assert "lower before, 0.30 after epoch 1" in said(0.3, 0.4)
    assert "lower before" not in said(0.39, 0.4)
    assert "lower before" not in said(0.5, 0.4)


def test_what_was_not_held_out_is_not_known(runs):
    page = Page(render(runs["alone"]))
    assert "none was held out" in page.text
    assert "Nothing was measured of reconstructions" in page.text
    assert "Error of reconstructions" not in page.text


def test_a_split_at_random_is_told_to_flatter_where_something_was_measured(runs):
    def said(run):
        by_chance = replace(run, config=run.config)
        by_chance.__dict__["split"] = replace(run.split, by_ground=False)
        return " ".join(sentences(by_chance))

    assert "flatters" in said(runs["vae"])
    assert "flatters" not in " ".join(sentences(runs["vae"]))
    assert "flatters" not in said(runs["gan"])


def test_alarms_of_all_epochs_stand_in_one_table(runs):
    run = runs["vaegan"]
    wins = "the discriminator wins: it is right of {}% of the pictures; try --balance 0.8, <b>"
    epochs = [
        replace(run.metrics[0], epoch=k, alarms=told)
        for k, told in enumerate(
            [
                (wins.format(98.5), "samples repeat: 20% are nearly the same as another"),
                (wins.format(99.5),),
                (),
                (wins.format(99.9),),
            ],
            start=1,
        )
    ]
    found = alarms(epochs)
    assert found == [
        Alarm("the discriminator wins", (1, 2, 4), "it is right of 99.9% of the pictures",
              "--balance 0.8, <b>"),
        Alarm("samples repeat", (1,), "20% are nearly the same as another", ""),
    ]  # fmt: skip
    assert [one.when for one in found] == ["1–2, 4", "1"]
    page = Page(render(replace(run, metrics=tuple(epochs))))
    assert "alarms" in page.sections
    row = "the discriminator wins 1–2, 4 it is right of 99.9% of the pictures --balance 0.8, <b>"
    assert row in page.text
    assert "Alarms were raised in 3 of 4 epochs; in the last one: the discriminator wins." in (
        page.text
    )


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(1, 40), min_size=1))
def test_spans_of_epochs_name_each_epoch_once(epochs):
    told = Alarm("", tuple(sorted(epochs)), "", "").when
    named = []
    for span in told.split(", "):
        first, _, last = span.partition("–")
        named += range(int(first), int(last or first) + 1)
    assert named == sorted(epochs)
    assert told.count(",") + 1 == sum(epoch - 1 not in epochs for epoch in epochs)


def test_a_code_that_sleeps_is_drawn_and_told(runs):
    divergence = (0.0, 3.0, 0.004)
    asleep = with_last(runs["vae"], divergence=divergence, awake=1, prior=3.004)
    assert "1 of 3 dimensions of the code says something" in " ".join(sentences(asleep))
    assert 'aria-label="1 of 3 dimensions say more than 0.01 nats"' in divergence_chart(divergence)
    nobody = with_last(runs["vae"], divergence=(0.0,) * 3, awake=0, prior=0.0)
    assert "None of 3 dimensions of the code say" in " ".join(sentences(nobody))
    assert "0 of 3 dimensions are awake" in Page(render(nobody)).text


def test_gaps_and_wild_epochs_of_a_curve(runs):
    epochs = [replace(runs["judged"].metrics[0], epoch=k, frechet=9.0) for k in range(1, 61)]
    epochs[0] = replace(epochs[0], frechet=1e6)
    epochs[30] = replace(epochs[30], frechet=None)
    drawn = curves(epochs, "distance", "", {"": "frechet"}, from_zero=True)
    assert drawn.legend == ()
    ticks = [float(word) for word in re.findall(r">([\d.]+)</text>", drawn.picture)]
    assert max(ticks) < 100
    nothing = [replace(epoch, frechet=None) for epoch in epochs]
    assert curves(nothing, "distance", "", {"": "frechet"}) is None


@settings(max_examples=12, deadline=None)
@given(
    network=st.builds(
        VaeGan,
        st.sampled_from(["vaegan", "gan", "vae-dis"]),
        st.sampled_from([128, 5]),
        st.sampled_from([64, 8]),
        st.booleans(),
    ),
    recipe=st.builds(
        VaeGanRecipe,
        epochs=st.sampled_from([50, 2]),
        learning_rate=st.sampled_from([3e-4, 1e-5]),
        optimiser=st.sampled_from(["rmsprop", "adam"]),
        decoder_loss=st.sampled_from(["minimax", "non-saturating"]),
        balance=st.sampled_from([0.0, 0.8]),
        kl_warm_up=st.sampled_from([0.0, 2.5]),
        augmentation=st.builds(
            PictureAugmentation,
            flip=st.booleans(),
            crop=st.sampled_from([0, 3, None]),
            rotate=st.sampled_from([None, True, False]),
            gain=st.sampled_from([0.0, None, 0.2]),
        ),
        seed=st.integers(0, 9),
        machine=st.builds(Machine, gpu_memory=st.sampled_from([None, "1.5 GiB"])),
    ),
)
def test_the_command_trains_the_same_networks_in_the_same_way(runs, network, recipe):
    one = runs["judged"]
    config = json.loads(json.dumps({**one.config, "recipe": asdict(recipe)}))
    line = command_of(replace(one, model=replace(one.model, network=network), config=config))
    command, said = parse(COMMANDS, shlex.split(line)[1:], "", "")
    assert command is COMMANDS["generative"].commands["train"]
    assert said["model"].picture_network == network
    assert said["model"].picture_recipe == recipe
    assert str(said["split"]) == f"{one.folder}/split.json"
    assert (said["similarity"] is not None) == (network.parts == "vae-dis")
    assert str(said["judge"]) == "CLASSIFIER"


def test_the_command_names_no_judge_where_none_was(runs):
    assert "--judge" not in command_of(runs["vaegan"])
    assert "--judge" not in command_of(runs["vae"])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spectral", [False, True])
def test_layers_hold_all_that_is_learnt_and_give_what_the_network_gives(size, spectral):
    networks = build(VaeGan("vaegan", 5, 4, spectral), 2, size).eval()
    picture, code = torch.zeros(2, 2, size, size), torch.zeros(2, 5)
    for network, given_, last in (
        (networks.encoder, picture, (10,)),
        (networks.decoder, code, (2, size, size)),
        (networks.discriminator, picture, (1,)),
    ):
        found = stages(network, given_)
        assert found[-1].shape == last
        learnt = sum(p.numel() for p in network.parameters())
        assert sum(stage.parameters for stage in found) == learnt
        assert not any(module._forward_hooks for module in network.modules())
    judging = stages(networks.discriminator, picture)
    assert all(("spectral normalisation" in stage.words) == spectral for stage in judging)
    assert [stage.shape[-1] for stage in judging[:-2]] == [
        size >> k for k in range(len(judging) - 2)
    ]


def test_through_the_command_line(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    assert run("report judged --patches patches.zarr -o judged.html") == 0
    assert capsys.readouterr().out == "judged.html\n"
    page = Page((home / "judged.html").read_text())
    assert "Held-out pictures above their reconstructions" in page.text
    assert "outcrop generative train PATCHES --split judged/split.json --model vaegan" in page.text
    assert run("report vae") == 0
    assert capsys.readouterr().out == "vae/report.html\n"
    assert Page((home / "vae" / "report.html").read_text()).sections[0] == "headline"
    assert run("report classifier -o classifier.html") == 0
    assert "confidence" in Page((home / "classifier.html").read_text()).sections


@pytest.mark.parametrize(
    ("command", "pieces"),
    [
        ("report classifier --patches patches.zarr", ("--patches", "classifier is not a run of")),
        ("report gone --patches patches.zarr", ("--patches", "gone is not a run of")),
        ("report map.tif --patches patches.zarr", ("--patches", "map.tif is a map")),
        ("report gan --truth map.tif", ("--truth", "gan is not a map")),
        ("report gan --patches other.zarr", ("patches", "are not those that gan")),
        ("report gan --patches gone.zarr", ("gone.zarr",)),
        ("report alone --patches patches.zarr", ("--patches", "alone held none of them out")),
        ("report begun", ("begun", "is not finished", "--resume")),
        ("report broken", ("metrics.jsonl", "is damaged")),
        ("report foreign", ("foreign", "is not a run of outcrop")),
        ("report garbled", ("config.json", "is not a run")),
        ("report gan -o page.html", ("page.html", "exists already")),
        ("report gan -o no/page.html", ("no", "does not exist")),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(home, monkeypatch, capfd, command, pieces):
    for name in ("begun", "broken"):
        shutil.rmtree(home / name, ignore_errors=True)
        shutil.copytree(home / "vae", home / name)
    (home / "begun" / "model.json").unlink()
    (home / "broken" / "metrics.jsonl").write_text("{}\n")
    for name, content in (("foreign", '{"format": "other"}'), ("garbled", "{")):
        (home / name).mkdir(exist_ok=True)
        (home / name / "config.json").write_text(content)
    (home / "page.html").write_text("mine")
    (home / "map.tif").write_bytes(b"")
    check_refused(home, monkeypatch, capfd, command, *pieces)


def test_folders_tell_their_kind(home, tmp_path):
    assert kind_of(home / "classifier") is CLASSIFIER
    assert kind_of(home / "gan") is PICTURE_MODEL
    assert kind_of(tmp_path) is None
    assert kind_of(tmp_path / "gone") is None
