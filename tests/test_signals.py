"""Signals from a terminal and from schedulers, and what commands change of their process."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from outcrop import cli
from outcrop.cli import main
from outcrop.splits import RandomSplit
from tests.command_line import ALONE, Command, run
from tests.rasters import write_raster
from tests.tiny import PATCHES

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
TRAIN = (
    "train set.zarr --split split.json --depth 8 --width 4 --epochs 9000 --batch 8 "
    "--device cpu --compile never -o run"
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ended(command, number, begun):
    """Send a signal to a command once `begun()`; its exit code and what it said."""
    process = Command(command)
    deadline = time.monotonic() + 90
    while not begun() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(number)
    out, said = process.communicate(timeout=60)
    assert "Traceback" not in said
    return process.returncode, out, said


@pytest.mark.parametrize("number", CODES)
def test_a_training_is_saved_and_the_code_is_that_of_the_signal(here, number):
    PATCHES.save("set.zarr")
    RandomSplit().assign(PATCHES).save("split.json")
    begun = here / "run" / "checkpoint.safetensors"
    code, out, said = ended(TRAIN, number, begun.exists)
    assert (code, out) == (CODES[number], "")
    assert "stopped" in said.splitlines()[-1]
    assert "--resume goes on" in said.splitlines()[-1]
    assert not list(here.rglob("*partial*"))


@pytest.mark.parametrize("number", CODES)
def test_a_command_that_writes_leaves_nothing_half_written(here, number):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 1500, 1500)).astype("uint8")
    write_raster("scene.tif", pixels)
    write_raster("labels.tif", pixels[0] % 3, nodata=0)
    before = sorted(path.name for path in here.iterdir())
    command = "patches scene.tif --labels labels.tif --size 33 -o set.zarr"

    def begun():
        return any(here.glob(".set.zarr*/**/zarr.json"))

    code, out, said = ended(command, number, begun)
    assert (code, out) == (CODES[number], "")
    assert said == "outcrop: stopped; nothing was written\n"
    assert sorted(path.name for path in here.iterdir()) == before


@pytest.mark.parametrize("number", CODES)
def test_the_handler_is_there_before_anything_is_loaded_and_gone_after(number, monkeypatch, capsys):
    def interrupt(*_):
        signal.raise_signal(number)
        time.sleep(1)
        pytest.fail("went on")

    monkeypatch.setattr("outcrop.cli.parser.parse", interrupt)
    before = signal.getsignal(signal.SIGTERM)
    assert main(["models"]) == CODES[number]
    assert signal.getsignal(signal.SIGTERM) == before
    assert capsys.readouterr().err == "outcrop: stopped; nothing was written\n"


def test_other_handlers_and_other_threads_are_left_alone(monkeypatch):
    found = []
    monkeypatch.setattr(
        "outcrop.cli.parser.parse",
        lambda *_: (lambda: found.append(signal.getsignal(signal.SIGTERM)), {}),
    )
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert cli.main([]) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    thread = threading.Thread(target=cli.main, args=([],))
    thread.start()
    thread.join()
    assert found == [signal.SIG_IGN, before]


# glibc maps a large piece of memory anew, unless the process has asked it not to. A fork does what
# is tested, so that the libraries are imported once.
KEEPS = """
import ctypes, os, shlex, sys
from pathlib import Path

class Info(ctypes.Structure):
    _fields_ = [(f"field{i}", ctypes.c_size_t) for i in range(10)]
    maps = property(lambda self: self.field3)

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
libc.malloc.restype = ctypes.c_void_p

def mapped():
    before = libc.mallinfo2().maps
    libc.malloc(ctypes.c_size_t(64 << 20))
    return libc.mallinfo2().maps - before

import outcrop.training.engine, outcrop.cli.commands, lightning_fabric
for text in TEXTS:
    assert mapped() == 1
    child = os.fork()
    if not child:
        exec(text)
        sys.stdout.flush()
        print(mapped(), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""
LIBRARY = """
import outcrop
from outcrop.splits import read_split
from outcrop.training.recipe import Machine, Recipe
patches = outcrop.open_patches("set.zarr")
split = read_split("split.json", patches)
recipe = Recipe(epochs=1, batch=8, machine=Machine(device="cpu", compile="never"))
outcrop.train(patches, split, "library", outcrop.ResidualNet(depth=8, width=4), recipe)
"""
COMMAND = f"""
from outcrop.cli import main
assert main(shlex.split({TRAIN.replace("9000", "1")!r})) == 0
"""


def _has_mallinfo2():
    import ctypes

    return sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "mallinfo2")


@pytest.mark.skipif(not _has_mallinfo2(), reason="needs glibc 2.33")
def test_the_library_leaves_the_allocator_alone_and_the_command_sets_it(here):
    PATCHES.save("set.zarr")
    RandomSplit().assign(PATCHES).save("split.json")
    done = subprocess.run(
        [sys.executable, "-c", KEEPS.replace("TEXTS", repr((LIBRARY, COMMAND)))],
        capture_output=True,
        text=True,
        env=ALONE,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line in "01"] == ["1", "0"]
    assert run("train set.zarr --split split.json --device cpu:9 -o other") == 2
    assert not (here / "other").exists()
