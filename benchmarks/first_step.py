"""How far the first step moves the weights of networks, by depth: what breaks where they begin."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.depth import shrunk
from benchmarks.machine import command, describe
from outcrop.models.architectures import ResidualNet
from outcrop.models.factory import build
from outcrop.models.residual import ResidualNetwork, draw_kept
from outcrop.patches.collection import open_patches
from outcrop.splits import TRAIN, delivered_split
from outcrop.training.device import pick_device
from outcrop.training.normalise import learn_normalisation
from outcrop.training.pictures import load_pictures

LINES = Path(__file__).with_name("first_step.jsonl")
PLACES = ("stem", "first block", "middle block", "last block", "linear layer")
COLUMNS = ("layers", "network", "loss", "deviation of the logits", *PLACES)
KINDS: dict[str, dict[str, Any]] = {
    "as published": {},
    "blocks begin at zero": {"zero_init": True},
    "pre-activation": {"order": "pre-activation"},
}


@dataclass(frozen=True)
class First:
    """What a network that has learnt nothing makes of a batch; medians over the draws.

    Attributes:
        depth: layers.
        kind: one of `KINDS`.
        survival: of the last block.
        loss: cross-entropy; log 10 if all classes are as likely.
        logits: their standard deviation.
        gradients: for each of `PLACES` the norm of the gradient by its weights, over their norm.
        batch, size, draws: pictures, their height, and how many batches, masks and starts.
        machine: device, versions and date.
        command: what was run.
    """

    depth: int
    kind: str
    survival: float
    loss: float
    logits: float
    gradients: list[float]
    batch: int
    size: int
    draws: int
    machine: str
    command: str


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", default="../shared/data/cifar10-jpeg.tar.xz")
    options.add_argument("--depths", default="20,110,302,602,1202")
    options.add_argument("--survival", type=float, default=0.5)
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--shrink", type=int, default=2, help="average so many pixels square")
    options.add_argument("--draws", type=int, default=5)
    options.add_argument("--lines", type=Path, default=LINES, help="gets a line for each network")
    chosen = options.parse_args()
    patches, device = shrunk(open_patches(chosen.data), chosen.shrink), pick_device()
    learns = (delivered_split(patches).sides == TRAIN).nonzero()[0]
    some = np.random.default_rng(0).permutation(learns)[: chosen.draws * chosen.batch]
    scale, pictures = (
        learn_normalisation(patches, some),
        load_pictures(patches, some, device),
    )
    batches = [(scale(x), y) for x, y in pictures.batches(pictures.all.reshape(chosen.draws, -1))]
    found = []
    for depth in map(int, chosen.depths.split(",")):
        for kind, changes in KINDS.items():
            network = ResidualNet(depth, survival=chosen.survival, **changes)
            seen = [look(network, *batch, seed) for seed, batch in enumerate(batches)]
            loss, logits, *gradients = (
                float(f"{statistics.median(values):.4g}") for values in zip(*seen, strict=True)
            )
            how = (chosen.batch, patches.size[0], chosen.draws, describe(), command("first_step"))
            line = First(depth, kind, chosen.survival, loss, logits, gradients, *how)
            found.append(line)
            with chosen.lines.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(line)) + "\n")
    print(markdown(found))


def look(network: ResidualNet, images: Tensor, labels: Tensor, seed: int) -> tuple[float, ...]:
    """Loss, deviation of the logits, and the gradient at each of `PLACES`."""
    torch.manual_seed(seed)
    module = build(network, images.shape[1], 10).to(images.device).train()
    draws = np.random.default_rng(seed).random(len(network.survivals)).tolist()
    kept = draw_kept(network, draws)
    logits = module(images, kept)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    return (loss.item(), logits.std().item(), *(steepness(w) for w in places(module, kept)))


def places(module: ResidualNetwork, kept: Sequence[bool]) -> list[Tensor]:
    """The weights of `PLACES`; of blocks the first convolution, of those that are kept."""
    blocks = [block for block in module.blocks if kept[block.index]]
    convs = [blocks[k].get_parameter("residual.conv1.weight") for k in (0, len(blocks) // 2, -1)]
    return [module.get_parameter("stem.conv.weight"), *convs, module.linear.weight]


def steepness(weight: Tensor) -> float:
    """The norm of the gradient over that of the weights."""
    assert weight.grad is not None
    return (weight.grad.norm() / weight.norm()).item()


def markdown(lines: Sequence[First]) -> str:
    """A table for all that was measured alike."""
    parts = []
    alike: dict[tuple[str | int | float, ...], list[First]] = {}
    for one in lines:
        key = (one.command, one.machine, one.batch, one.size, one.draws, one.survival)
        alike.setdefault(key, []).append(one)
    for here in alike.values():
        first = here[0]
        parts.append(
            f"`{first.command}`\n\n{first.machine}; {first.size} × {first.size}, batch "
            f"{first.batch}, survival {first.survival:g}; medians of {first.draws} draws\n"
        )
        rows = [COLUMNS, tuple("---" for _ in COLUMNS)]
        for one in here:
            steep = [f"{value:.3f}" for value in one.gradients]
            rows.append((str(one.depth), one.kind, f"{one.loss:.2f}", f"{one.logits:.2f}", *steep))
        parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in rows) + "\n")
    return "\n".join(parts).rstrip()


if __name__ == "__main__":
    main()
