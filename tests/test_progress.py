"""Log messages: warnings only in a library, all of them on the command line."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

from outcrop.progress import collected_log, follow, log_again, log_to_console, silence, track

LOG = logging.getLogger("outcrop.somewhere")
PROGRAM = """
import logging
import outcrop.progress as progress
log = logging.getLogger("outcrop.somewhere")
log.info("reading")
log.warning("no CRS; metres assumed")
with progress.log_to_console(), progress.log_to_console():
    log.info("reading inside")
    log.warning("assumed inside")
with progress.silence():
    log.warning("never")
"""


def test_a_library_prints_warnings_and_the_command_line_everything():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "no CRS; metres assumed",
        "reading inside",
        "note: assumed inside",
    ]


def test_other_ranks_print_nothing(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.stderr == ""


def test_messages_of_another_process_are_logged_once_here(capfd):
    with collected_log() as records:
        LOG.info("trained")
        LOG.warning("few patches")
        with silence():
            LOG.warning("never")
    assert capfd.readouterr().err == ""
    log_again(records)
    assert capfd.readouterr().err == "trained\nnote: few patches\n"


def test_lines_of_a_bar_are_logged_and_long_lines_are_not_broken(capfd):
    with log_to_console(), follow("training", total=1) as advance:
        advance(1, line="loss [0.5] " + "x" * 200)
    assert capfd.readouterr().err == "loss [0.5] " + "x" * 200 + "\n"


def test_other_programs_read_progress_and_messages_as_json(capfd, monkeypatch):
    monkeypatch.setenv("OUTCROP_PROGRESS", "json")
    with log_to_console():
        assert list(track(range(1000), "reading")) == list(range(1000))
        LOG.warning("no CRS")
        with follow("training", total=2, done=1) as advance:
            advance(1, note="loss 0.5", line="epoch 2")
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    reading = [line["progress"] for line in lines if line.get("text") == "reading"]
    assert len(reading) <= 101
    assert reading == sorted(reading)
    assert (reading[0], reading[-1]) == (0, 1)
    assert {"level": "warning", "message": "no CRS"} in lines
    assert lines[-3:] == [
        {"progress": 0.5, "text": "training"},
        {"level": "info", "message": "epoch 2"},
        {"progress": 1.0, "text": "training: loss 0.5"},
    ]


def test_assumptions_of_the_library_are_printed_without_any_set_up(tmp_path):
    """No size is passed, and the scene is small: a script without logging set up prints a note."""
    program = """
import numpy as np, rasterio, outcrop as oc, warnings
warnings.simplefilter("ignore")
with rasterio.open("labels.tif", "w", driver="GTiff", height=20, width=20, count=1, dtype="uint8",
                   crs="EPSG:32648", transform=rasterio.Affine(10, 0, 0, 0, -10, 200)) as file:
    file.write(np.repeat([[1, 2]], 20, 0).repeat(10, 1).astype("uint8"), 1)
scene = oc.scene_from_array(np.ones((2, 20, 20), "float32"), (10, 0, 0, 0, -10, 200), "EPSG:32648")
oc.cut(scene, "labels.tif")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "because the scene is 20 pixels across" in done.stderr
