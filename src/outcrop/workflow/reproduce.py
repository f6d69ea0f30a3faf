"""Reproduction of a published recipe: published and obtained accuracy."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date
from pathlib import Path

import torch

from outcrop import __version__
from outcrop.errors import OutcropError
from outcrop.files import check_new, explain, read_json, write_json
from outcrop.patches.collection import open_patches
from outcrop.patches.patchset import PatchSet
from outcrop.progress import is_first_process, tell
from outcrop.sources.collections.cifar import CHECKSUM
from outcrop.splits import BUFFER, TRAIN, VALIDATION, Split, delivered_split
from outcrop.training.device import device_name, driver_version, pick_device, pick_precision
from outcrop.training.engine import train
from outcrop.training.recipe import Machine, Settled
from outcrop.training.run import Run
from outcrop.workflow.published import (
    RESULTS,
    Published,
    Result,
    append_result,
    read_published,
    read_results,
)


def reproduce(
    name: str,
    folder: str | Path = "reproduced",
    data: str | Path = "cifar10",
    seeds: Sequence[int] = (0,),
    epochs: int | None = None,
    machine: Machine = Machine(),
    resume: bool = False,
) -> tuple[Result, ...]:
    """Run a published recipe once for each seed and compare the accuracy with the published one.

    The network is trained on all delivered training images. The accuracy is that after the last
    epoch on the delivered test images; nothing is selected with it. Some papers held out 5 000
    training images to select an epoch.

    Args:
        name: name of the recipe (see `outcrop.workflow.published`).
        folder: output folder; it gets a run `NAME-seedK` and a line in `results.jsonl` for each
            seed.
        data: "cifar10", which is downloaded, or another argument of `open_patches` with a test
            side. Results on other pixels than those of CIFAR-10 are marked.
        seeds: random seeds, one run each.
        epochs: number of epochs instead of that of the recipe; the schedule is compressed.
        machine: hardware settings.
        resume: continue runs that were interrupted; finished runs are not repeated.

    Raises:
        OutcropError: there is no such recipe or device; the data have no test side; a run exists
            and `resume` is false, or was made with other settings; `results.jsonl` is damaged.
    """
    folder = Path(folder)
    published = read_published(name)
    device = pick_device(machine.device)
    if machine.devices == 1:
        # All seeds on one device, even if another one has more free memory later.
        machine = replace(machine, device=str(device))
    recipe = replace(_squeezed(published.recipe, epochs), machine=machine)
    recipes = [replace(recipe, seed=seed) for seed in dict.fromkeys(seeds)]
    if not recipes:
        raise OutcropError("`seeds`", "is empty; use 0, or several such as 0,1,2")
    if machine.devices > 1 and len(recipes) > 1:
        raise OutcropError("`seeds`", "must be a single one with `devices`; run them in turn")
    runs = [folder / f"{name}-seed{one.seed}" for one in recipes]
    check_new(folder, overwrite=True)
    for run in runs:
        if run.exists():
            check_new(run, overwrite=resume, instead="resume")
    if (folder / RESULTS).exists():
        read_results(folder / RESULTS)
    pictures = _open(data)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise explain(error, folder) from error
    results = []
    for one, where in zip(recipes, runs, strict=True):
        result = _run(published, one, pictures, where, device)
        if is_first_process():
            append_result(folder / RESULTS, result)
        tell(f"{name}, seed {one.seed}: {result.accuracy:.2f} %")
        results.append(result)
    return tuple(results)


@dataclass(frozen=True)
class _Data:
    """Images with a test side, which is the validation side of the split, and their name."""

    name: str
    original: bool
    patches: PatchSet
    split: Split


def _squeezed(recipe: Settled, epochs: int | None) -> Settled:
    if epochs is None:
        return recipe
    return replace(recipe, epochs=epochs, warm_up=recipe.warm_up * epochs / recipe.epochs)


def _open(data: str | Path) -> _Data:
    patches = open_patches(data)
    side = patches.columns.get("side")
    if side is None or (side.codes == TRAIN).all() or not (side.codes == TRAIN).any():
        raise OutcropError(data, "has no training and test side; use a collection with both")
    split = delivered_split(patches)
    if len(split.test):  # They validate; a validation side is not used.
        sides = split.sides.copy()
        sides[split.validation] = BUFFER
        sides[split.test] = VALIDATION
        split = replace(split, sides=sides)
    return _Data(Path(data).name, _is_original(data), patches, split)


def _is_original(data: str | Path) -> bool:
    """Whether the data are the published CIFAR-10; the checksum of a download was verified."""
    import pooch

    algorithm, _, digest = CHECKSUM.partition(":")
    return data == "cifar10" or (
        Path(data).is_file() and pooch.file_hash(str(data), alg=algorithm) == digest
    )


def _run(
    published: Published, recipe: Settled, data: _Data, where: Path, device: torch.device
) -> Result:
    begun = where.exists()
    run = train(data.patches, data.split, where, published.network, recipe, begun, lines=True)
    path = where / "result.json"
    if not path.exists():
        result = _result(published, recipe, data, run, device)
        if not is_first_process():
            return result
        write_json(path, asdict(result))
    try:
        return Result.from_json(read_json(path, "result", "reproduce"))
    except OutcropError:
        raise
    except (TypeError, ValueError, KeyError) as error:
        raise OutcropError(path, "is damaged; delete it and pass `resume=True`") from error


def _result(
    published: Published, recipe: Settled, data: _Data, run: Run, device: torch.device
) -> Result:
    machine = recipe.machine
    return Result(
        name=published.name,
        paper=published.paper,
        report=published.report,
        accuracy=round(100 * run.scores.overall.value, 6),
        tested=len(data.split.validation),
        seed=recipe.seed,
        epochs=recipe.epochs,
        full_epochs=published.recipe.epochs,
        batch=recipe.batch,
        accumulate=machine.accumulate,
        data=data.name,
        original=data.original,
        fingerprint=data.patches.fingerprint,
        trained=len(data.split.train),
        device=(f"{machine.devices} × " if machine.devices > 1 else "") + device_name(device),
        threads=torch.get_num_threads() if device.type == "cpu" else None,
        precision=pick_precision(machine.precision, device),
        seconds=round(sum(epoch.seconds for epoch in run.metrics), 3),
        torch=torch.__version__,
        outcrop=__version__,
        date=date.today().isoformat(),
        command=_command(published, recipe, data.name),
        driver=driver_version(device),
        curve=tuple(
            round(100 * epoch.validation.accuracy, 4) for epoch in run.metrics if epoch.validation
        ),
    )


def _command(published: Published, recipe: Settled, data: str) -> str:
    words = ["outcrop", "reproduce", published.name, "--data", data, "--seeds", str(recipe.seed)]
    if recipe.epochs != published.recipe.epochs:
        words += ["--epochs", str(recipe.epochs)]
    for item in fields(Machine):
        value = getattr(recipe.machine, item.name)
        if value != getattr(Machine(), item.name):
            words += [f"--{item.name.replace('_', '-')}", str(value)]
    return shlex.join(words)
