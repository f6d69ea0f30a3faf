"""Pixels per second of the map of a large scene, with reading and writing."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.dense_map import BANDS, DEPTH, around, network, write_scene
from benchmarks.machine import command, describe
from outcrop.mapping.scene import map_scene
from outcrop.progress import silence
from outcrop.training.device import pick_device

LINES = Path(__file__).with_name("large_scene.jsonl")


@dataclass(frozen=True)
class Mapped:
    """One map of one scene.

    Attributes:
        side: pixels along each side of the scene.
        bands: of the scene.
        network: what was laid over it.
        seconds: until the map and its confidence were written.
        machine: device, versions and date.
        command: what was run.
    """

    side: int
    bands: int
    network: str
    seconds: float
    machine: str
    command: str


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--side", type=int, default=10_000)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--folder", type=Path, default=Path("build/large_scene"))
    options.add_argument("--lines", type=Path, default=LINES, help="gets a line for each map")
    chosen = options.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    scene = write_scene(chosen.folder / f"{chosen.side}.tif", chosen.side)
    model = network("none", around())
    model = replace(model, module=model.module.to(pick_device()))
    maps = []
    for _ in range(chosen.repeats):
        started = time.perf_counter()
        with silence():
            map_scene(
                model,
                scene,
                chosen.folder / "map.tif",
                chosen.folder / "confidence.tif",
                overwrite=True,
            )
        seconds = round(time.perf_counter() - started, 3)
        title = f"ResNet-{DEPTH} without padding"
        maps.append(Mapped(chosen.side, BANDS, title, seconds, describe(), command("large_scene")))
        with chosen.lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(maps[-1])) + "\n")
    print(markdown(maps))


def markdown(maps: Sequence[Mapped]) -> str:
    """One row for each machine and command."""
    rows = [
        "| scene | network | device | seconds | pixels/s | range | command |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for machine, called in dict.fromkeys((one.machine, one.command) for one in maps):
        here = [one for one in maps if (one.machine, one.command) == (machine, called)]
        speeds = [one.side**2 / one.seconds for one in here]
        first = here[0]
        rows.append(
            f"| {first.side:,} × {first.side:,} × {first.bands} | {first.network} | {machine} "
            f"| {statistics.median(one.seconds for one in here):.1f} "
            f"| {statistics.median(speeds):,.0f} | {min(speeds):,.0f} to {max(speeds):,.0f} "
            f"| `{called}` |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
