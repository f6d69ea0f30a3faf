"""Trainings killed with kill -9 at random instants and resumed: do they end with the same bits?"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.machine import describe

OPTIONS = [
    "--depth",
    "14",
    "--width",
    "8",
    "--survival",
    "0.5",
    "--levels",
    "2",
    "--average",
    "0.99",
    "--epochs",
    "16",
    "--batch",
    "32",
    "--cutout",
    "4",
    "--noise",
    "0.05",
    "--device",
    "cpu",
]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    rng = random.Random(chosen.seed)
    with TemporaryDirectory() as folder:
        patches = Path(folder) / "patches.npz"
        write_patches(patches)
        started = time.perf_counter()
        start(patches, Path(folder) / "undisturbed").wait()
        whole = time.perf_counter() - started
        expected = (Path(folder) / "undisturbed" / "model.safetensors").read_bytes()
        same, places = 0, []
        for _ in range(chosen.kills):
            run = Path(folder) / "killed"
            reached = kill_once(patches, run, rng.uniform(0, whole))
            start(patches, run).wait()
            same += (run / "model.safetensors").read_bytes() == expected
            places.append(reached)
            shutil.rmtree(run)
    print(f"ResNet-14 with stochastic depth, {describe()}; one run takes {whole:.1f} s\n")
    print("| kills at random instants | before the folder | in training | after | bit-identical |")
    print("| --- | --- | --- | --- | --- |")
    counts = " | ".join(str(places.count(place)) for place in ("before", "in training", "after"))
    print(f"| {chosen.kills} | {counts} | {same} of {chosen.kills} |")


def kill_once(patches: Path, run: Path, seconds: float) -> str:
    """Start a training, kill it after so many seconds, and say how far it had come."""
    process = start(patches, run)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if not run.exists():
        return "before"
    return "after" if (run / "model.json").exists() else "in training"


def start(patches: Path, run: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "outcrop", "train", str(patches), "-o", str(run), *OPTIONS]
    return subprocess.Popen(
        [*command, "--resume"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def write_patches(path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(1600) % 4
    images = rng.normal(100, 30, (1600, 3, 16, 16)) + 10 * labels[:, None, None, None]
    sides = (np.arange(1600) % 9 == 0).astype(np.uint8)
    np.savez(path, images=images.astype(np.uint8), labels=labels, sides=sides)


if __name__ == "__main__":
    main()
