"""Step time of a network with stochastic depth against the same without."""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace

import numpy as np

from benchmarks.bare import Stepper
from benchmarks.machine import describe
from outcrop.models.architectures import ResidualNet
from outcrop.models.cost import cost_of
from outcrop.models.factory import build
from outcrop.models.residual import draw_kept
from outcrop.training.device import keep_freed_memory, pick_device, pick_precision


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--depth", type=int, default=110)
    options.add_argument("--survival", type=float, default=0.5)
    options.add_argument("--batch", type=int, default=128)
    options.add_argument("--steps", type=int, default=40, help="of each kind, in turn")
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--precision", default="auto", choices=["auto", "32-true", "bf16-mixed"])
    chosen = options.parse_args()
    device = pick_device()
    if device.type == "cpu":
        keep_freed_memory()
    precision = pick_precision(chosen.precision, device)
    plain = ResidualNet(chosen.depth)
    stochastic = replace(plain, survival=chosen.survival)
    modules = [build(network, 3, 10).to(device).train() for network in (plain, stochastic)]
    if device.type == "cuda":
        for module in modules:
            module.compile_blocks()
    steppers = [Stepper(module, chosen.batch, device, precision) for module in modules]
    rng = np.random.default_rng(0)
    draws = rng.random(len(stochastic.survivals))
    ratios, times = [], []
    for _ in range(chosen.repeats):
        spent = [0.0, 0.0]
        for k in range(chosen.steps // chosen.repeats):
            # In pairs of opposite draws, so that a round of few steps drops its share of blocks.
            draws = 1 - draws if k % 2 else rng.random(len(stochastic.survivals))
            spent[0] += steppers[0].step(None)
            spent[1] += steppers[1].step(draw_kept(stochastic, draws.tolist()))
        ratios.append(spent[1] / spent[0])
        times.append([1000 * total / (chosen.steps // chosen.repeats) for total in spent])
    saved = cost_of(stochastic, 3, (32, 32), 10).expected_saving
    print(
        f"{plain.title}, 32 × 32 × 3, batch {chosen.batch}, {precision}, {describe()}; median of "
        f"{chosen.repeats} rounds of {chosen.steps // chosen.repeats} steps of each kind in turn\n"
    )
    print(f"| all blocks, ms | p_L = {chosen.survival:g}, ms | ratio | range | by multiply-adds |")
    print("| --- | --- | --- | --- | --- |")
    full, dropped = (statistics.median(column) for column in zip(*times, strict=True))
    print(
        f"| {full:.0f} | {dropped:.0f} | {statistics.median(ratios):.3f} "
        f"| {min(ratios):.3f} to {max(ratios):.3f} | {1 - saved:.3f} |"
    )


if __name__ == "__main__":
    main()
