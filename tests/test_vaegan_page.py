"""The HTML report of a generative run: sections, charts, images, sentences and commands."""

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
from outcrop.generative.charts import curves, divergence_chart
from outcrop.generative.findings import Alarm, alarms, sentences
from outcrop.generative.grids import grid, to_rgb
from outcrop.generative.networks import build, layers_of
from outcrop.generative.report import command as command_of
from outcrop.generative.report import render
from outcrop.generative.run import read_vaegan_run
from outcrop.generative.settings import SIZES, GenerativeAugmentation, VaeGan, VaeGanRecipe
from outcrop.generative.training import train_vaegan
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
ALL = ["headline", "images", "learning", "code", "networks", "run", "words"]
CODELESS = [name for name in ALL if name != "code"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """More threads are slower on networks as small as these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def patches():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (48, 4, 32, 32), np.uint8)
    return PatchSet(images, np.arange(48) % 2, ("a", "b"), BANDS)


@pytest.fixture(scope="module")
def home(tmp_path_factory, patches):
    """One run of two epochs of each kind, a classifier, and their patches."""
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
    """The run with other metrics of its last epoch."""
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
    """The grids of images: title and pixels."""
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
        ("vaegan", ["prior", "reconstruction loss, features", "GAN losses", "accuracy of the",
                    "error of rec", "repeat", "active dim"], ["Fréchet", "precision"]),
        ("judged", ["prior", "GAN losses", "Fréchet distance (not FID)",
                    "precision and recall"], []),
        ("vae", ["prior", "reconstruction loss, pixels", "error of rec", "repeat", "active dim"],
         ["GAN", "accuracy", "Fréchet", "precision"]),
        ("gan", ["GAN losses", "accuracy of the", "repeat"],
         ["prior", "reconstruction loss", "error of rec", "active", "dimension"]),
        ("vae-dis", ["prior", "reconstruction loss, features", "error of rec"],
         ["GAN", "accuracy"]),
        ("alone", ["prior", "repeat"], ["error of rec", "accuracy"]),
    ],
)  # fmt: skip
def test_charts_are_those_of_the_metrics(runs, kind, there, missing):
    titles = " | ".join(charts(render(runs[kind])))
    assert [title for title in there if title not in titles] == []
    assert [title for title in missing if title in titles] == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_one_small_file(runs, kind, patches):
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


def test_images_are_outputs_of_the_networks(runs, patches):
    run = runs["vaegan"]
    model = run.model

    def colours(images):
        return to_rgb(model.normalised(images), model.bands)

    drawn = sheets(render(run, patches))
    assert list(drawn) == ["Samples", "Held-out images above their reconstructions"]
    expected = grid(colours(model.sample(64, run.config["recipe"]["seed"])), 16, scale=2)
    np.testing.assert_array_equal(drawn["Samples"], expected)
    pairs = drawn["Held-out images above their reconstructions"]
    held_out = patches.take(run.split.validation)
    assert len(held_out) == 16
    for k, (real, again) in enumerate(zip(held_out, model.reconstruct(held_out), strict=True)):
        one = pairs[:, 66 * k :][:128:2, :64:2]
        np.testing.assert_array_equal(one, np.concatenate(colours(np.stack([real, again]))))


def test_images_without_patches_and_without_an_encoder(runs, patches):
    assert list(sheets(render(runs["vaegan"]))) == ["Samples"]
    assert "With --patches SET" in Page(render(runs["vaegan"])).text
    drawn = sheets(render(runs["gan"], patches))
    assert list(drawn) == ["Samples", "Held-out images"]
    real = patches.images[runs["gan"].split.validation[0], :3].transpose(1, 2, 0)
    found = drawn["Held-out images"][:64:2, :64:2].astype(int)
    assert np.abs(found - real).max() <= 1  # the range of the bands is from quantiles


def test_bands_that_are_not_colours_are_named(runs):
    run = runs["vae"]
    names = ("VV", "VH", "VV - VH", "angle")
    page = Page(render(replace(run, model=replace(run.model, bands=names))))
    assert "The bands VV, VH and VV - VH are shown as red, green and blue." in page.text
    assert "shown as red" not in Page(render(run)).text


def test_a_repeated_page_is_equal(runs, patches):
    assert render(runs["judged"], patches) == render(runs["judged"], patches)


@pytest.mark.parametrize("kind", ["judged", "gan"])
def test_features_are_those_of_the_judge_and_not_of_the_fid(runs, kind):
    text = Page(render(runs[kind])).text
    assert ("It is not the FID" in text) == (kind == "judged")
    assert ("that needs a judge" in text) == (kind == "gan")
    assert ("in features of the judge" in text.lower()) == (kind == "judged")


def test_numbers_are_those_of_the_last_epoch(runs):
    page = Page(render(runs["judged"]))
    last = runs["judged"].metrics[-1]
    assert f"a relative error of {last.pixel_error:.2f} in pixels" in page.text
    assert f"the relative error is {last.feature_error:.2f}: " in page.text
    assert f"Fréchet distance of {last.frechet:.3g} to held-out images" in page.text
    assert f"{last.awake} of 3 dimensions are active" in page.text
    parameters = sum(p.numel() for p in runs["judged"].model.networks.parameters())
    assert f"all {parameters:,}" in page.text
    assert "32 train, 16 validation" in page.text


@pytest.mark.parametrize(
    ("real", "made", "verdict"),
    [
        (0.99, (0.985, 0.999), "it wins"),
        (0.97, (0.97, 0.97), "far ahead"),
        (0.97, (0.985, 0.999), "far ahead"),
        (0.0, (1.0, 1.0), "every image as generated"),
        (0.95, (0.05, 0.0), "every image as real"),
        (0.55, (0.5, 0.6), "hardly better than chance"),
        (0.9, (0.3, 0.2), "hardly better than chance"),
        (0.8, (0.7, 0.9), "better than chance, and far from perfect"),
    ],
)
def test_the_accuracy_of_the_discriminator_is_explained(runs, real, made, verdict):
    names = ("right_of_real", "right_of_reconstructed", "right_of_sampled")
    changed = with_last(runs["vaegan"], **dict(zip(names, (real, *made), strict=True)))
    (said,) = [words for words in sentences(changed) if "discriminator was" in words]
    assert verdict in said.partition(": ")[2]
    assert f"{100 * real:.1f}\N{NO-BREAK SPACE}% of the real" in said
    verdicts = (
        "it wins", "far ahead", "as generated", "as real", "hardly better", "far from perfect",
    )  # fmt: skip
    assert sum(one in said for one in verdicts) == 1


@pytest.mark.parametrize(
    ("precision", "recall", "verdict"),
    [
        (0.9, 0.02, "the samples cover few of the real images"),
        (0.02, 0.9, "few samples look real"),
        (0.6, 0.4, None),
    ],
)
def test_precision_and_recall_are_explained(runs, precision, recall, verdict):
    said = sentences(with_last(runs["judged"], precision=precision, recall=recall))
    (one,) = [words for words in said if "(precision)" in words]
    assert one.startswith(f"{100 * precision:.1f}\N{NO-BREAK SPACE}% of the samples lie among")
    assert f"{100 * recall:.1f}\N{NO-BREAK SPACE}% of these among the samples" in one
    assert one.partition(": ")[2] == (f"{verdict}." if verdict else "")


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (0.2, "lower than that of the mean image"),
        (0.49, "about the error of the mean image"),
        (0.6, "higher than that of the mean image"),
        (1.3, "no better than another image"),
    ],
)
def test_an_error_is_compared_with_the_mean_image(runs, error, verdict):
    said = sentences(with_last(runs["vae"], pixel_error=error))
    assert said[0].endswith(f"in pixels: {verdict}.")
    assert f"relative error of {error:.2f}" in said[0]


def test_a_clearly_better_epoch_is_named(runs):
    run = runs["vae"]
    first, last = run.metrics

    def said(before, now):
        pair = (replace(first, pixel_error=before), replace(last, pixel_error=now))
        return " ".join(sentences(replace(run, metrics=pair)))

    assert "lower after epoch 1, 0.30." in said(0.3, 0.4)
    assert "lower after" not in said(0.39, 0.4)
    assert "lower after" not in said(0.5, 0.4)


def test_without_held_out_images_reconstructions_are_not_measured(runs):
    page = Page(render(runs["alone"]))
    assert "none was held out" in page.text
    assert "Reconstructions were not measured" in page.text
    assert "Error of reconstructions" not in page.text


def test_a_random_split_has_a_caution_if_there_are_measures(runs):
    def said(run):
        random = replace(run, config=run.config)
        random.__dict__["split"] = replace(run.split, spatial=False)
        return " ".join(sentences(random))

    assert "too good" in said(runs["vae"])
    assert "too good" not in " ".join(sentences(runs["vae"]))
    assert "too good" not in said(runs["gan"])


def test_alarms_of_all_epochs_are_in_one_table(runs):
    run = runs["vaegan"]
    wins = "the discriminator wins: it is right for {} % of the images; try `balance=0.8`, <b>"
    epochs = [
        replace(run.metrics[0], epoch=k, alarms=told)
        for k, told in enumerate(
            [
                (wins.format(98.5), "samples repeat: 20 % nearly equal another one"),
                (wins.format(99.5),),
                (),
                (wins.format(99.9),),
            ],
            start=1,
        )
    ]
    found = alarms(epochs)
    assert found == [
        Alarm("the discriminator wins", (1, 2, 4), "it is right for 99.9 % of the images",
              "--balance 0.8, <b>"),
        Alarm("samples repeat", (1,), "20 % nearly equal another one", ""),
    ]  # fmt: skip
    assert [one.when for one in found] == ["1–2, 4", "1"]
    page = Page(render(replace(run, metrics=tuple(epochs))))
    assert "alarms" in page.sections
    row = "the discriminator wins 1–2, 4 it is right for 99.9 % of the images --balance 0.8, <b>"
    assert row in page.text
    assert "Alarms were raised in 3 of 4 epochs; in the last one: the discriminator wins." in (
        page.text
    )


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(1, 40), min_size=1))
def test_ranges_of_epochs_name_each_epoch_once(epochs):
    told = Alarm("", tuple(sorted(epochs)), "", "").when
    named = []
    for span in told.split(", "):
        first, _, last = span.partition("–")
        named += range(int(first), int(last or first) + 1)
    assert named == sorted(epochs)
    assert told.count(",") + 1 == sum(epoch - 1 not in epochs for epoch in epochs)


def test_inactive_dimensions_are_shown_and_counted(runs):
    divergence = (0.0, 3.0, 0.004)
    collapsed = with_last(runs["vae"], divergence=divergence, awake=1, prior=3.004)
    assert "1 of 3 dimensions of the code is active" in " ".join(sentences(collapsed))
    assert 'aria-label="1 of 3 dimensions have more than 0.01 nats"' in divergence_chart(divergence)
    none = with_last(runs["vae"], divergence=(0.0,) * 3, awake=0, prior=0.0)
    assert "None of 3 dimensions of the code are active" in " ".join(sentences(none))
    assert "0 of 3 dimensions are active" in Page(render(none)).text


def test_gaps_and_outliers_of_a_curve(runs):
    epochs = [replace(runs["judged"].metrics[0], epoch=k, frechet=9.0) for k in range(1, 61)]
    epochs[0] = replace(epochs[0], frechet=1e6)
    epochs[30] = replace(epochs[30], frechet=None)
    drawn = curves(epochs, "distance", "", {"": "frechet"}, from_zero=True)
    assert drawn.legend == ()
    ticks = [float(word) for word in re.findall(r">([\d.]+)</text>", drawn.svg)]
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
            GenerativeAugmentation,
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
    assert said["model"].network == network
    assert said["model"].recipe == recipe
    assert str(said["split"]) == f"{one.folder}/split.json"
    assert (said["similarity"] is not None) == (network.parts == "vae-dis")
    assert str(said["judge"]) == "CLASSIFIER"


def test_the_command_has_a_judge_only_if_the_run_had_one(runs):
    assert "--judge" not in command_of(runs["vaegan"])
    assert "--judge" not in command_of(runs["vae"])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spectral", [False, True])
def test_layers_have_all_parameters_and_the_output_of_the_network(size, spectral):
    networks = build(VaeGan("vaegan", 5, 4, spectral), 2, size).eval()
    image, code = torch.zeros(2, 2, size, size), torch.zeros(2, 5)
    for network, given_, last in (
        (networks.encoder, image, (10,)),
        (networks.decoder, code, (2, size, size)),
        (networks.discriminator, image, (1,)),
    ):
        found = layers_of(network, given_)
        assert found[-1].shape == last
        learnt = sum(p.numel() for p in network.parameters())
        assert sum(stage.parameters for stage in found) == learnt
        assert not any(module._forward_hooks for module in network.modules())
    judging = layers_of(networks.discriminator, image)
    assert all(("spectral normalisation" in stage.words) == spectral for stage in judging)
    assert [stage.shape[-1] for stage in judging[:-2]] == [
        size >> k for k in range(len(judging) - 2)
    ]


def test_through_the_command_line(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    assert run("report judged --patches patches.zarr -o judged.html") == 0
    assert capsys.readouterr().out == "judged.html\n"
    page = Page((home / "judged.html").read_text())
    assert "Held-out images above their reconstructions" in page.text
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
        ("report alone --patches patches.zarr", ("--patches", "alone has no held-out patches")),
        ("report begun", ("begun", "is not finished", "--resume")),
        ("report broken", ("metrics.jsonl", "is damaged")),
        ("report foreign", ("foreign", "is not a run of outcrop")),
        ("report garbled", ("config.json", "is not a run")),
        ("report gan -o page.html", ("page.html", "exists already")),
        ("report gan -o no/page.html", ("no", "does not exist")),
    ],
)
def test_a_wrong_input_gives_one_line_and_leaves_no_files(
    home, monkeypatch, capfd, command, pieces
):
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


def test_the_kind_of_a_folder(home, tmp_path):
    assert kind_of(home / "classifier") is CLASSIFIER
    assert kind_of(home / "gan") is PICTURE_MODEL
    assert kind_of(tmp_path) is None
    assert kind_of(tmp_path / "gone") is None
