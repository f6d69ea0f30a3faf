"""What ails very deep networks with stochastic depth: one change at a time, on a short schedule.

All variants train at once, each on a stream of its own: one alone does not fill a GPU.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.machine import command, describe
from outcrop.models.architectures import ResidualNet
from outcrop.models.residual import ResidualBlock, ResidualNetwork, crop_to_output
from outcrop.patches.collection import open_patches
from outcrop.patches.patchset import PatchSet
from outcrop.splits import TRAIN, delivered_split
from outcrop.training.batches import Epoch
from outcrop.training.device import exact_convolutions, keep_freed_memory, pick_device
from outcrop.training.normalise import Normalisation, learn_normalisation
from outcrop.training.parallel import make_learner, make_process_group
from outcrop.training.parallel.learner import Learner
from outcrop.training.parallel.process_group import ProcessGroup
from outcrop.training.pictures import Pictures, load_pictures
from outcrop.training.recipe import Machine, Recipe
from outcrop.workflow.published import read_published

LINES = Path(__file__).with_name("depth.jsonl")
COLUMNS = (
    "layers", "change", "accuracy, %", "with statistics learnt anew", "loss by epoch",
)  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """A network and a recipe.

    Attributes:
        change: against the recipe of the deep network.
        by_sample: which blocks are kept is drawn for each picture, not for each batch.
        all_move: weights of dropped blocks decay and follow their momentum, as if their gradient
            were zero.
    """

    change: str
    network: ResidualNet
    recipe: Recipe
    by_sample: bool = False
    all_move: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a variant came to.

    Attributes:
        depth: layers.
        change: against the recipe.
        accuracy: of test pictures after the last epoch, in %.
        relearnt: the same after the statistics of batch normalisation were learnt anew, with all
            blocks kept and scaled as when judging.
        losses: mean training loss of each epoch.
        images, tested, epochs, batch, size, seed: how much it learnt from, and was judged by.
        machine: device, versions and date.
        command: what was run.
    """

    depth: int
    change: str
    accuracy: float
    relearnt: float
    losses: list[float]
    images: int
    tested: int
    epochs: int
    batch: int
    size: int
    seed: int
    machine: str
    command: str


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", default="../shared/data/cifar10-jpeg.tar.xz")
    options.add_argument("--depths", default="110,602", help="the last one is changed")
    options.add_argument(
        "--changes", default=";".join(CHANGES), help="with semicolons between, + for both at once"
    )
    options.add_argument("--batch", type=int, default=128)
    options.add_argument("--shrink", type=int, default=1, help="average so many pixels square")
    options.add_argument("--images", type=int, default=25_600, help="a multiple of the batch")
    options.add_argument("--tested", type=int, default=5000)
    options.add_argument("--epochs", type=int, default=5)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--lines", type=Path, default=LINES, help="gets a line for each variant")
    chosen = options.parse_args()
    recipe = read_published("resnet602-sd").recipe
    recipe = replace(
        recipe,
        epochs=chosen.epochs,
        batch=chosen.batch,
        augmentation=replace(recipe.augmentation, crop=4 // chosen.shrink),
        warm_up=recipe.warm_up * chosen.epochs / recipe.epochs,
        seed=chosen.seed,
        machine=Machine(device=str(pick_device())),
    )
    depths = [int(depth) for depth in chosen.depths.split(",")]
    plain = [Variant(NONE, ResidualNet(depth, survival=0.5), recipe) for depth in depths]
    changes = [name.strip() for name in chosen.changes.split(";")]
    deepest = [changed(plain[-1], name) for name in changes]
    patches = shrunk(open_patches(chosen.data), chosen.shrink)
    outcomes = []
    for outcome in run([*plain[:-1], *deepest], patches, chosen):
        outcomes.append(outcome)
        with chosen.lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")
    print(markdown(outcomes))


NONE = "the recipe"
CHANGES: dict[str, Callable[[Variant], Variant]] = {
    NONE: lambda it: it,
    "no warm-up": lambda it: replace(it, recipe=replace(it.recipe, warm_up=0)),
    "warm-up over a fifth": lambda it: replace(
        it, recipe=replace(it.recipe, warm_up=it.recipe.epochs / 5)
    ),
    "a third of the learning rate": lambda it: replace(
        it, recipe=replace(it.recipe, learning_rate=it.recipe.learning_rate / 3)
    ),
    "blocks begin at zero": lambda it: replace(it, network=replace(it.network, zero_init=True)),
    "pre-activation": lambda it: replace(it, network=replace(it.network, order="pre-activation")),
    "survival 0.8 at the end": lambda it: replace(it, network=replace(it.network, survival=0.8)),
    "survival 0.75 everywhere": lambda it: replace(
        it, network=replace(it.network, survival=0.75, survival_schedule="constant")
    ),
    "five times the weight decay": lambda it: replace(
        it, recipe=replace(it.recipe, weight_decay=5 * it.recipe.weight_decay)
    ),
    "no weight decay": lambda it: replace(it, recipe=replace(it.recipe, weight_decay=0)),
    "dropped blocks decay too": lambda it: replace(it, all_move=True),
    "drawn for each picture": lambda it: replace(it, by_sample=True),
}


def changed(variant: Variant, change: str) -> Variant:
    """The variant after one of `CHANGES`, or several with + between them."""
    for name in change.split(" + "):
        variant = CHANGES[name](variant)
    return replace(variant, change=change)


def shrunk(patches: PatchSet, by: int) -> PatchSet:
    """Pictures of which each pixel is the mean of `by × by`."""
    n, bands, height, width = patches.images.shape
    parts = np.asarray(patches.images).reshape(n, bands, height // by, by, width // by, by)
    return replace(patches, images=parts.mean(axis=(3, 5)).round().astype(np.uint8))


class Trial:
    """A variant that is trained, on a stream of its own."""

    def __init__(self, variant: Variant, patches: PatchSet, group: ProcessGroup) -> None:
        self.variant, network, recipe = variant, variant.network, variant.recipe
        if variant.by_sample:
            recipe = replace(recipe, machine=replace(recipe.machine, compile="never"))
            network = replace(network, survival=1.0)
        if variant.all_move:
            recipe = replace(recipe, machine=replace(recipe.machine, capture="never"))
        self.recipe = recipe
        on_gpu = group.device.type == "cuda"
        self.stream = torch.cuda.Stream(group.device) if on_gpu else None
        with self.beside():
            self.learner: Learner = make_learner(network, recipe, patches, group)
            if variant.all_move:
                self.learner.optimiser.register_step_pre_hook(let_all_move)
            self.network = variant.network if not variant.by_sample else network
            self.masks = None
            if variant.by_sample:
                self.masks = Masks(self.learner.module, variant.network, recipe.batch)
        self.losses: list[float] = []
        self._found: list[Tensor] = []

    def beside(self) -> torch.cuda.StreamContext | nullcontext[None]:
        """A block in which work goes to the variant's stream."""
        return nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def epoch(self, number: int, pictures: Pictures, scale: Normalisation) -> Iterator[None]:
        """One step after the other."""
        with self.beside():
            plan = Epoch(number, self.recipe, self.network, pictures, scale)
            steps = plan.walk()
        self.learner.module.train()
        for k in range(plan.steps):
            with self.beside():
                if self.masks is not None:
                    self.masks.draw()
                rate = self.recipe.learning_rate_at(number + (k + 0.5) / plan.steps)
                self.learner.set_learning_rate(rate)
                self.learner.step(next(steps), self._tell)
            yield
        with self.beside():
            self.losses.append(round(torch.stack(self._found).mean().item(), 4))
        self._found = []

    def _tell(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self._found.append(loss.detach().clone())

    @torch.no_grad()
    def accuracy(self, pictures: Pictures, scale: Normalisation) -> float:
        """Of all pictures, in %."""
        with self.beside():
            found = self.learner.predict_proba(pictures, scale).argmax(dim=1)
        return round(100 * (found == pictures.labels.cpu()).float().mean().item(), 2)

    @torch.no_grad()
    def relearn(self, pictures: Pictures, scale: Normalisation, batches: int = 10) -> None:
        """Mean and variance of each normalisation, as they are when all blocks are computed."""
        module = self.learner.module.eval()
        for norm in (part for part in module.modules() if isinstance(part, nn.BatchNorm2d)):
            norm.train().reset_running_stats()
            norm.momentum = None
        wanted = [pictures.all[k * 500 : (k + 1) * 500] for k in range(batches)]
        with self.beside(), exact_convolutions():
            for images, _ in pictures.batches([one for one in wanted if len(one)]):
                module(scale(images))


def let_all_move(optimiser: torch.optim.Optimizer, *_: object) -> None:
    """Give a gradient of zero to what has none."""
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)


class Masks:
    """Which blocks each picture keeps, for a network that computes them all."""

    def __init__(self, module: ResidualNetwork, network: ResidualNet, batch: int) -> None:
        device = next(module.parameters()).device
        self.chances = torch.tensor(network.survivals, device=device)[:, None].expand(-1, batch)
        self.kept = torch.ones(len(network.survivals), batch, device=device)
        for block, survival in zip(module.blocks, network.survivals, strict=True):
            block.survival = survival
            block.forward = Masked(block, self.kept[block.index])  # type: ignore[method-assign]

    def draw(self) -> None:
        """Anew for the next step."""
        self.kept.copy_(torch.bernoulli(self.chances))


class Masked:
    """A block's forward pass in which some pictures keep nothing but their shortcut."""

    def __init__(self, block: ResidualBlock, kept: Tensor) -> None:
        self.block, self.kept = block, kept

    def __call__(self, x: Tensor, outer: Tensor | None = None) -> Tensor:
        block = self.block
        activated = block.activate(x)
        residual = block.residual(activated)
        if block.training:
            residual = residual * self.kept[: len(x), None, None, None].to(residual.dtype)
        else:
            residual = residual * block.survival
        source = activated if block.projects else x
        return block._join(residual + block.shortcut(crop_to_output(block, source)), outer)


def run(
    variants: Sequence[Variant], patches: PatchSet, chosen: argparse.Namespace
) -> Iterator[Outcome]:
    """Train all variants side by side."""
    learns = delivered_split(patches).sides == TRAIN
    training, testing = learns.nonzero()[0], (~learns).nonzero()[0]
    rng = torch.Generator().manual_seed(0)
    some = torch.randperm(len(training), generator=rng)[: chosen.images].numpy()
    some_tested = torch.randperm(len(testing), generator=rng)[: chosen.tested].numpy()
    device = pick_device()
    scale = learn_normalisation(patches, training[some])
    pictures = load_pictures(patches, training[some], device)
    judged = load_pictures(patches, testing[some_tested], device)
    if device.type == "cpu":
        keep_freed_memory()
    with ExitStack() as stack:
        stack.enter_context(exact_convolutions())
        trials = []
        for variant in variants:
            group = stack.enter_context(make_process_group(variant.network, variant.recipe))
            trials.append(Trial(variant, patches, group))
        for number in range(chosen.epochs):
            walks = [trial.epoch(number, pictures, scale) for trial in trials]
            for k, _ in enumerate(zip(*walks, strict=True)):
                if k % 50 == 0:
                    print(f"epoch {number + 1}, step {k}", flush=True)
            print([trial.losses[-1] for trial in trials], flush=True)
        for trial in trials:
            accuracy = trial.accuracy(judged, scale)
            trial.relearn(pictures, scale)
            yield Outcome(
                depth=trial.variant.network.depth,
                change=trial.variant.change,
                accuracy=accuracy,
                relearnt=trial.accuracy(judged, scale),
                losses=trial.losses,
                images=len(some),
                tested=len(some_tested),
                epochs=chosen.epochs,
                batch=chosen.batch,
                size=patches.size[0],
                seed=chosen.seed,
                machine=describe(),
                command=command("depth"),
            )


def place(change: str) -> list[int]:
    """Where a table has it: in the order of `CHANGES`, what is changed first first."""
    order = list(CHANGES)
    return [order.index(name) for name in change.split(" + ")]


def markdown(outcomes: Sequence[Outcome]) -> str:
    """A table for all that were trained alike on one machine."""
    alike: dict[tuple[str | int, ...], list[Outcome]] = {}
    for one in outcomes:
        key = (one.machine, one.images, one.tested, one.epochs, one.batch, one.size, one.seed)
        alike.setdefault(key, []).append(one)
    parts = []
    for here in alike.values():
        first = here[0]
        commands = ", ".join(f"`{called}`" for called in dict.fromkeys(one.command for one in here))
        parts.append(
            f"{commands}\n\n{first.machine}; {first.images:,} images of {first.size} × "
            f"{first.size}, batch {first.batch}, {first.epochs} epochs, seed {first.seed}; "
            f"{first.tested:,} test images: the 95 % interval of an accuracy is at most "
            f"± {196 * math.sqrt(0.25 / first.tested):.1f} points\n"
        )
        rows = [COLUMNS, tuple("---" for _ in COLUMNS)]
        for one in sorted(here, key=lambda one: (one.depth, place(one.change))):
            losses = ", ".join(f"{loss:.2f}" for loss in one.losses)
            accuracies = f"{one.accuracy:.2f}", f"{one.relearnt:.2f}"
            rows.append((str(one.depth), one.change, *accuracies, losses))
        parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in rows) + "\n")
    return "\n".join(parts).rstrip()


if __name__ == "__main__":
    main()
