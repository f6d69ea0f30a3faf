"""Commands that train, evaluate, compare and export models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from outcrop.cli.commands.options import (
    ComparisonOptions,
    keep_memory,
    name_network,
    refuse_beside,
    refuse_without,
)
from outcrop.cli.console import say, show
from outcrop.cli.presets import PresetName
from outcrop.errors import OutcropError
from outcrop.models.architectures import Network, ResidualNet
from outcrop.training.recipe import Machine, Recipe, Tuning

ClassicalName = Literal[
    "maximum-likelihood", "decision-tree", "random-forest", "gradient-boosting", "SVM"
]


def models(
    *,
    size: list[int] | None = None,
    bands: int = 3,
    classes: int = 10,
    network: ResidualNet = ResidualNet(),
    json: bool = False,
) -> None:
    """Print what networks cost: parameters, multiply-adds and memory for a given input.

    Args:
        size: height and width of a patch in pixels, or one number for both. Default: 32.
        bands: number of bands of a patch.
        classes: number of classes.
        network: one network, by name or by the options below. Default: all named networks.
        json: print the result as JSON.

    Examples:
        outcrop models --size 33 --bands 4 --classes 8
        outcrop models --depth 110 --widen 2
    """
    from outcrop.cli.tables import cost_table
    from outcrop.models.architectures import NETWORKS
    from outcrop.models.cost import cost_of

    sides = size or [32]
    if len(sides) > 2:
        raise OutcropError(
            "--size", "must be one number, or height and width; for example 32 or 150,100"
        )
    chosen = list(NETWORKS.values()) if network == ResidualNet() else [network]
    size_of = sides[0], sides[-1]
    costs = {one.title: cost_of(one, bands, size_of, classes) for one in chosen}
    show(costs, json, lambda: cost_table(chosen, bands, size_of, classes))


def train(
    patches: str,
    *,
    output: Path,
    split: Path | None = None,
    preset: PresetName | None = None,
    network: Network | None = None,
    recipe: Recipe = Recipe(),
    classical: ClassicalName | None = None,
    features: Literal["centre-pixel", "patch-statistics"] | None = None,
    sources: list[str] | None = None,
    start_from: Path | None = None,
    trials: int | None = None,
    tuning_folds: int | None = None,
    resume: bool = False,
    json: bool = False,
) -> None:
    """Train a network or a classical classifier on a patch set or an image collection.

    Args:
        patches: input patch set, a folder or archive with one folder per class, an npz file, or
            "cifar10".
        output: output run folder.
        split: split made by `outcrop split`. Default: the split that the collection was published
            with.
        preset: defaults for the options below, which single options override: quick (10 epochs),
            standard, deep (110 layers, stochastic depth, 100 epochs), paper (ResNet-110 as on
            CIFAR-10 in He et al. 2015).
        network: "multi-scale" (default for patches of scenes); the name of a residual network
            (`outcrop models` lists them; default otherwise: resnet20); or package.module:function,
            a function of yours that takes the numbers of bands and classes and returns a
            torch.nn.Module. Its code is run. Options below change the network.
        recipe: how the network is trained.
        classical: train a classical classifier instead of a network: maximum-likelihood,
            decision-tree, random-forest, gradient-boosting or SVM. It is tuned by folds inside the
            training side.
        features: features of the classical classifier: the centre-pixel, or patch-statistics (mean,
            standard deviation and texture of each band).
        sources: for --neighbourhood and --slices: present location of the files that the patches
            were cut from, in the same order, if they have moved.
        start_from: run folder or safetensors file with initial weights, matched by name and shape;
            what does not match is printed.
        trials: number of variants of the settings that are compared by folds inside the training
            side before training. The first variant are the given settings, which are kept unless
            another is better by 5 points. Default: no tuning.
        tuning_folds: number of folds for --trials. Default: 3.
        resume: continue an interrupted run.
        json: print the result as JSON.

    Examples:
        outcrop train fields.zarr --split split.json -o runs/first
        outcrop train cifar10 --network resnet110 --preset paper -o runs/resnet110
    """
    from outcrop.cli.tables import run_table
    from outcrop.models.baselines import Baseline
    from outcrop.patches.collection import open_patches
    from outcrop.splits import delivered_split, read_split
    from outcrop.training.engine import train as train_network
    from outcrop.training.fit import fit_classical
    from outcrop.training.parallel.process_group import launch

    if trials is None:
        refuse_without("--trials", tuning_folds=tuning_folds)
    if classical is None:
        refuse_without("--classical", features=features)
    else:
        refuse_beside(
            "--classical", network=network, sources=sources, start_from=start_from, trials=trials
        )
        if recipe != replace(Recipe(), seed=recipe.seed):
            raise OutcropError("--classical", "accepts only --seed of the training options")
    keep_memory(recipe.machine)
    opened = open_patches(patches)
    made = delivered_split(opened) if split is None else read_split(split, opened)
    if classical is None:
        launch(recipe.machine)
        run = train_network(
            opened,
            made,
            output,
            network,
            recipe,
            resume,
            lines=True,
            sources=sources,
            start_from=start_from,
            tuning=None if trials is None else Tuning(trials, tuning_folds or Tuning.tuning_folds),
        )
    else:
        seen = (features or "centre-pixel").replace("-", " ")
        baseline = Baseline(classical.replace("-", " "), seen)
        run = fit_classical(opened, made, output, baseline, recipe.seed, resume)
    show({"run": run.folder, "validation": run.scores}, json, lambda: run_table(run))


def evaluate(
    run: Path, patches: str, *, network: str | None = None, device: str = "auto", json: bool = False
) -> None:
    """Evaluate a trained model on all patches of another set.

    Also prints the calibration of its confidence, the share of patches outside the area of
    applicability, and the accuracy inside and outside.

    Args:
        run: run folder made by `outcrop train`.
        patches: patch set with the classes of the run, from ground that was not used in training.
        network: package.module:function that made the network of the run, for networks of your own.
        device: auto, cpu, cuda or mps.
        json: print the result as JSON.

    Examples:
        outcrop evaluate runs/first new.zarr
        outcrop evaluate runs/mine new.zarr --network mypackage.nets:make
    """
    from outcrop.cli.tables import evaluation_table
    from outcrop.patches.collection import open_patches
    from outcrop.training.run import read_run
    from outcrop.workflow.evaluate import evaluate as evaluate_model

    name_network(network)
    opened, model = open_patches(patches), read_run(run, device)
    known = model.config["patches"]["fingerprint"] == opened.fingerprint
    kind = (
        "of the very patch set that the run was trained on: too high"
        if known
        else "a test side kept from everything, if none of its ground was trained on"
    )
    found = evaluate_model(model, opened)
    show(found, json, lambda: evaluation_table(found, kind))


def compare(
    patches: str,
    *,
    output: Path,
    preset: PresetName | None = None,
    how: ComparisonOptions = ComparisonOptions(),
    runs: list[Path] | None = None,
    resume: bool = False,
    json: bool = False,
) -> None:
    """Compare models by spatial cross-validation, with intervals and pairwise tests.

    A network is compared with classical classifiers on the centre pixel and on patch statistics.

    Args:
        patches: input patch set.
        output: output folder.
        preset: as in `outcrop train`.
        how: options of the comparison.
        runs: train nothing and compare these run folders, made on the same patches and split. Runs
            that differ in the seed only count as one model.
        resume: continue an interrupted comparison, or add seeds to one.
        json: print the result as JSON.

    Examples:
        outcrop compare fields.zarr -o comparison
        outcrop compare fields.zarr --only-classical -o classical
        outcrop compare fields.zarr --split split.json --runs runs/first,runs/second -o against
    """
    from outcrop.cli.tables import comparison_table
    from outcrop.patches.collection import open_patches
    from outcrop.splits import read_split
    from outcrop.workflow.compare_runs import compare_runs

    if how.split is not None:
        refuse_beside("--split", folds=how.folds, block=how.block, buffer=how.buffer)
    if runs is None:
        found = how.compare(open_patches(patches), output, resume)
    else:
        folds = replace(how, split=None, folds=None, block=None, buffer=None)
        if resume or folds != ComparisonOptions():
            raise OutcropError("--runs", "trains nothing; leave out the options of a training")
        if how.split is None:
            raise OutcropError("--runs", "needs the split that they were trained on: --split")
        opened = open_patches(patches)
        found = compare_runs(opened, read_split(how.split, opened), runs, output)
    show(found, json, lambda: comparison_table(found))


def export(
    run: Path,
    *,
    output: Path,
    format: Literal["onnx", "torch-export"] | None = None,
    network: str | None = None,
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Export a trained model as one file for other programs: raw pixels in, logits out.

    Args:
        run: run folder made by `outcrop train`.
        output: output file; its suffix, .onnx or .pt2, sets the format.
        format: onnx, or torch-export for `torch.export.load`, whatever the suffix.
        network: package.module:function that made the network of the run, for networks of your own.
        overwrite: replace an existing file.
        json: print the result as JSON.

    Examples:
        outcrop export runs/first -o model.onnx
        outcrop export runs/first -o model.pt2
    """
    from outcrop.training.export import export as export_model
    from outcrop.training.run import read_model

    name_network(network)
    export_model(read_model(run, "cpu"), output, format, overwrite)
    show({"model": output}, json, lambda: say(str(output)))


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
    json: bool = False,
) -> None:
    """Run a published recipe and print its published result beside ours; without a name, list them.

    Args:
        name: name of the recipe.
        output: folder of the runs and of results.jsonl, which has one line per run.
        data: "cifar10", or a collection with a test set; results on other data are marked.
        seeds: random seeds, one run each. Default: 0.
        epochs: number of epochs instead of that of the recipe; its schedule is scaled to them.
        machine: device, precision and memory.
        table: train nothing; print the results in results.jsonl.
        resume: continue interrupted runs; finished runs are not repeated.
        json: print the result as JSON.

    Examples:
        outcrop reproduce
        outcrop reproduce resnet20 --epochs 30 -o reproduced
    """
    from outcrop.cli.tables import recipe_table, result_table
    from outcrop.training.parallel.process_group import launch
    from outcrop.workflow.published import all_published, results_of
    from outcrop.workflow.reproduce import reproduce as run_recipe

    if name is None and not table:
        recipes = all_published()
        show(recipes, json, lambda: recipe_table(recipes))
        return
    if name is None or table:
        found = results_of(output, name)
    else:
        keep_memory(machine)
        launch(machine)
        found = run_recipe(
            name, output, data, [0] if seeds is None else seeds, epochs, machine, resume
        )
    show(found, json, lambda: result_table(found))
