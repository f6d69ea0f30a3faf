"""Log messages: warnings only in a library, all of them on the command line."""

from __future__ import annotations

import logging
import subprocess
import sys

from outcrop.progress import collected_log, follow, log_again, log_to_console, silence

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
