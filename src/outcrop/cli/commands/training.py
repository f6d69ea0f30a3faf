"""Commands that train networks and hold them against each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

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
    network: Network | None = None,
    recipe: Recipe = Recipe(),
    classical: ClassicalName | None = None,
    features: Literal["centre-pixel", "patch-statistics"] | None = None,
    sources: list[str] | None = None,
    start_from: Path | None = None,
    trials: int | None = None,
    tuning_folds: int | None = None,
    resume: bool = False,
) -> None:
    """Train a network or a classical model on a patch set, class folder, archive, npz or CIFAR-10.

    `outcrop generative train` learns the pictures themselves, and not what they show.

    Args:
        patches: a patch set, a folder or archive with a folder per class, an npz, or "cifar10".
        output: the run, a new folder.
        split: made by `outcrop split`; without it, the sides that a collection came with.
        network: "multi-scale", which is taken for patches of scenes if nothing is said; a residual
            network by name (`outcrop models` lists them), resnet20 for all others; or
            package.module:function, a function of yours that makes a torch.nn.Module from the
            numbers of bands and classes. Its code is run. Options that follow change a network.
        recipe: how to train it.
        classical: no network but a classical classifier: maximum-likelihood, decision-tree,
            random-forest, gradient-boosting or SVM, tuned by folds inside the training side.
        features: of a classical classifier: what it sees of a patch, the centre pixel or
            patch-statistics (mean, deviation and texture of each band).
        sources: for --neighbourhood and --slices, where the files are now that the patches were cut
            from, in the same order, if they are no longer where they were.
        start_from: a run, or a safetensors file, whose weights are the first weights, by name and
            shape; what fits and what does not is printed.
        trials: how many variants of the network's settings are tried by folds inside the training
            side before it is trained; the first are the given settings, which stay unless another
            variant is better by 5 points. Without it nothing is tried.
        tuning_folds: for --trials, how many folds; 3 if not given.
        resume: go on with a run that was interrupted.
    """
    from outcrop.cli.commands.options import keep_memory, refuse_beside, refuse_without
    from outcrop.cli.tables import run_table
    from outcrop.patches.collection import open_patches
    from outcrop.splits import delivered_split, read_split
    from outcrop.training.engine import train as train_network
    from outcrop.training.parallel import launch

    if trials is None:
        refuse_without("--trials", tuning_folds=tuning_folds)
    if classical is None:
        refuse_without("--classical", features=features)
    else:
        refuse_beside(
            "--classical",
            network=network,
            sources=sources,
            start_from=start_from,
            trials=trials,
        )
        if recipe != replace(Recipe(), seed=recipe.seed):
            raise OutcropError("--classical", "takes --seed alone of the options of a training")
    keep_memory(recipe.machine)
    opened = open_patches(patches)
    made = delivered_split(opened) if split is None else read_split(split, opened)
    if classical is not None:
        from outcrop.models.baselines import Baseline
        from outcrop.training.fit import fit_classical

        seen = (features or "centre-pixel").replace("-", " ")
        baseline = Baseline(classical.replace("-", " "), seen)
        run_table(fit_classical(opened, made, output, baseline, recipe.seed, resume))
        return
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
    run_table(run)


def evaluate(run: Path, patches: str, *, network: str | None = None, device: str = "auto") -> None:
    """Judge a trained model on all patches of another set.

    Says too how far its confidence can be taken at its word, which share of the patches lies
    outside its area of trust, and how right it is inside and outside.

    Args:
        run: made by `outcrop train`.
        patches: a patch set with the classes of the run, cut from ground it has not seen.
        network: package.module:function that made the network of the run, if it is one of yours.
        device: auto, cpu, cuda or mps.
    """
    from outcrop.cli.commands.options import name_network
    from outcrop.cli.tables import evaluation_table
    from outcrop.experiment.evaluate import evaluate as evaluate_model
    from outcrop.patches.collection import open_patches
    from outcrop.training.run import read_run

    name_network(network)
    opened, model = open_patches(patches), read_run(run, device)
    known = model.config["patches"]["fingerprint"] == opened.fingerprint
    kind = (
        "of the very patch set that the run was trained on: too high"
        if known
        else "a test side kept from everything, if none of its ground was trained on"
    )
    evaluation_table(evaluate_model(model, opened), kind)


def compare(
    patches: str,
    *,
    output: Path,
    split: Path | None = None,
    folds: int | None = None,
    block: float | None = None,
    buffer: float | None = None,
    network: Network | None = None,
    recipe: Recipe = Recipe(),
    tuning: Tuning = Tuning(),
    seeds: list[int] | None = None,
    runs: list[Path] | None = None,
    sources: list[str] | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    gap_seeds: int | None = None,
    resume: bool = False,
) -> None:
    """Hold models against each other: which is shown to be better, and which difference is noise.

    Without --split by spatial cross-validation: every patch is held out once. `outcrop generative
    compare` adds classical models that see the codes of pictures.

    Args:
        patches: a patch set.
        output: a new folder.
        split: made by `outcrop split`: one fold, or all of them if made with --all-folds.
        folds: without --split, of how many parts of the ground each is held out once; 5 if not
            given. 1 holds out one part of five and no other.
        block: without --split, side of the blocks of ground, as in `outcrop split`.
        buffer: without --split, metres or voxels between training and validation patches, as in
            `outcrop split`.
        network: as for `outcrop train`. It is held against maximum likelihood, decision tree,
            random forest, gradient boosting and SVM, on the centre pixel and on patch statistics.
        recipe: how to train it.
        tuning: what is spent on choosing what was not said of the network, anew in each training.
        seeds: train every model once for each, such as 0,1,2, so that the luck of a seed counts.
        runs: train nothing and hold these against each other, folders made by `outcrop train` on
            the same patches and split; runs that differ in the seed alone are one model.
        sources: for --neighbourhood and --slices, where the files are now that the patches were cut
            from, in the same order, if they are no longer where they were.
        workers: how many processes train at once; as many as there are cores if not given, and one
            on a GPU. The results are the same.
        scheduler: address of a Dask cluster to train on, or local[N] for N processes here.
        gap_seeds: with how many of the seeds, from the first, all is done again under a split at
            random, which gives the leak gap and takes as long; 0 leaves it out, and all if not
            given.
        resume: go on with a comparison that was interrupted, or add seeds to one.
    """
    from outcrop.cli.commands.options import chosen_folds, keep_memory, refuse_beside
    from outcrop.cli.tables import comparison_table
    from outcrop.experiment.compare import compare as compare_models
    from outcrop.experiment.compare_runs import compare_runs
    from outcrop.patches.collection import open_patches
    from outcrop.splits import read_split

    if split is not None:
        refuse_beside("--split", folds=folds, block=block, buffer=buffer)
    if runs is not None:
        given = (seeds, sources, network, recipe, tuning, workers, scheduler, gap_seeds)
        if resume or given != (*[None] * 3, Recipe(), Tuning(), *[None] * 3):
            raise OutcropError("--runs", "trains nothing; leave out the options of a training")
        if split is None:
            raise OutcropError("--runs", "needs the split that they were trained on: --split")
        opened = open_patches(patches)
        comparison_table(compare_runs(opened, read_split(split, opened), runs, output))
        return
    keep_memory(recipe.machine)
    opened = open_patches(patches)
    seed = seeds[0] if seeds else recipe.seed
    comparison_table(
        compare_models(
            opened,
            chosen_folds(opened, split, folds, block, buffer, seed),
            output,
            network,
            recipe,
            resume,
            sources,
            seeds,
            workers=workers,
            scheduler=scheduler,
            gap_seeds=gap_seeds,
            tuning=tuning,
        )
    )


def export(
    run: Path,
    *,
    output: Path,
    format: Literal["onnx", "torch-export"] | None = None,
    network: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a trained model as one file for other programs: raw pixels in, logits out.

    Args:
        run: made by `outcrop train`.
        output: a new file; what it ends in, .onnx or .pt2, is the format.
        format: onnx, or torch-export for `torch.export.load`, whatever the file is called.
        network: package.module:function that made the network of the run, if it is one of yours.
        overwrite: whether the file may exist.
    """
    from outcrop.cli.commands.options import name_network
    from outcrop.cli.tables import say
    from outcrop.training.export import export as export_model
    from outcrop.training.run import read_model

    name_network(network)
    export_model(read_model(run, "cpu"), output, format, overwrite)
    say(str(output))


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
    from outcrop.cli.commands.options import keep_memory
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
        keep_memory(machine)
        launch(machine)
        found = run_recipe(
            name, output, data, [0] if seeds is None else seeds, epochs, machine, resume
        )
        result_table(found)
