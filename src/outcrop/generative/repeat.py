"""The commands that train a run of this wing again, alone or beside a classifier."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from outcrop.files import read_json
from outcrop.generative.network import VaeGan
from outcrop.generative.plan import EncoderPlan, VaeGanPlan
from outcrop.generative.recipe import VaeGanRecipe, vaegan_recipe_of
from outcrop.generative.run import VaeGanRun
from outcrop.reporting.repeat import options_of
from outcrop.training.recipe import Recipe


def command(run: VaeGanRun) -> str:
    """A line for the shell; PATCHES, NEW, GAN and CLASSIFIER stand for what the run does not know.

    GAN and CLASSIFIER are other runs.
    """
    network, recipe = run.model.network, vaegan_recipe_of(run.config["recipe"])
    others = ["--similarity GAN"] if network.parts == "vae-dis" else []
    others += ["--judge CLASSIFIER"] if run.judged else []
    return " ".join(
        [
            f"outcrop generative train PATCHES --split {shlex.quote(str(run.folder))}/split.json",
            f"--model {network.parts}",
            *options_of(network, VaeGan(network.parts)),
            *options_of(recipe, VaeGanRecipe()),
            *others,
            "--output NEW",
        ]
    )


def encoder_options(folder: Path, recipe: Recipe) -> tuple[list[str], str]:
    """Options of the networks whose codes the baselines saw, and what no option can say.

    Args:
        folder: of an encoder.
        recipe: of the classifier.
    """
    config = read_json(folder / "config.json", "run", "generative compare")
    network = VaeGan(**config["network"])
    how = vaegan_recipe_of(config["recipe"])
    if how.augmentation.rotate is None:
        # It stands for what suits the patches, and the classifier's recipe says what that is.
        rotate = recipe.augmentation.rotate
        how = replace(how, augmentation=replace(how.augmentation, rotate=rotate))
    plan = EncoderPlan(network, how.epochs)
    same = plan.beside(recipe) == VaeGanPlan(network, how)
    remark = "" if same else "  # but the encoder's recipe, encoder/config.json, is another"
    changes = options_of(plan, EncoderPlan.named(network.parts))
    return [f"--model {network.parts}", *changes], remark
