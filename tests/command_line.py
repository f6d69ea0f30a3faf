"""The real command line, in this process or in one of its own."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from outcrop.cli import main

ALONE = os.environ | {"OMP_NUM_THREADS": "1"}

# To import torch and scikit-learn takes most of the time of a small command. The processes of
# `Command` are forks of one process that has imported them and has done nothing else.
_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(
    [
        *("distributed", "geopandas", "lightning_fabric", "rasterio"),
        *("torch.utils.tensorboard", "zarr"),
        "outcrop.generative.training",
        "outcrop.mapping.scene",
        "outcrop.training.engine",
        "outcrop.workflow.compare",
    ]
)


def run(command: str) -> int:
    """One command in this process, as the console script would run it; the exit code."""
    try:
        return main(shlex.split(command))
    except SystemExit as end:
        return int(end.code or 0)


def argv(command: str) -> list[str]:
    """One command for a process of its own."""
    return [sys.executable, "-m", "outcrop", *shlex.split(command)]


class Command:
    """A command in a process of its own, which has imported the libraries before it began.

    Attributes:
        pid: number of the process.
    """

    def __init__(
        self,
        command: str,
        cwd: str | Path | None = None,
        preexec_fn: Callable[[], object] | None = None,
    ) -> None:
        self._ends = [_FORKED.Pipe(duplex=False) for _ in ("output", "error")]
        theirs = [end for _, end in self._ends]
        words, folder = shlex.split(command), str(cwd or Path.cwd())
        self._process = _FORKED.Process(target=_begin, args=(words, folder, preexec_fn, theirs))
        self._process.start()
        for end in theirs:
            end.close()
        self.pid = self._process.pid
        self._threads = ThreadPoolExecutor(2)
        # A process that waits for a reader of its messages would not end.
        self._said = [self._threads.submit(_everything, end) for end, _ in self._ends]

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""
        return self._process.exitcode

    @property
    def returncode(self) -> int | None:
        """As `poll` gives it."""
        return self.poll()

    def send_signal(self, number: int) -> None:
        """Send a signal unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self, timeout: float = 60) -> tuple[str, str]:
        """Wait for the end; what the process has written to standard output and error."""
        self._process.join(timeout)
        if self.poll() is None:
            self._process.kill()
            raise TimeoutError(f"the command has not ended within {timeout} s")
        out, error = (said.result() for said in self._said)
        self._threads.shutdown()
        return out, error


def _everything(end: Connection) -> str:
    with os.fdopen(os.dup(end.fileno()), encoding="utf-8") as pipe:
        end.close()
        return pipe.read()


def _begin(
    words: list[str],
    folder: str,
    prepare: Callable[[], object] | None,
    ends: list[Connection],
) -> None:
    """What `python -m outcrop` does."""
    os.environ.clear()
    os.environ.update(ALONE)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, end in enumerate(ends, 1):
        os.dup2(end.fileno(), number)
        end.close()
    # As in a Python that was started with these: lines are not sent one by one to a pipe.
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, buffering=1)
    if prepare is not None:
        prepare()
    sys.exit(main(words))


def start(
    command: str,
    cwd: str | Path | None = None,
    preexec_fn: Callable[[], object] | None = None,
) -> subprocess.CompletedProcess[str]:
    """One command in a process of its own (`Command`), to its end."""
    process = Command(command, cwd, preexec_fn)
    out, error = process.communicate(timeout=120)
    return subprocess.CompletedProcess(command, process.returncode, out, error)


def start_python(command: str, **options) -> subprocess.CompletedProcess[str]:
    """One command in a new Python, which has imported nothing, to its end."""
    return subprocess.run(
        argv(command), capture_output=True, text=True, timeout=120, env=ALONE, **options
    )


def content(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything below a folder, hidden files too, with size and time of the last change."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


def check(code: int, out: str, err: str, *pieces: str) -> None:
    """Refused: one line on standard error with these pieces and a remedy; before it, notes."""
    err = re.sub(r"^(note: |training ResNet-8: |epoch \d+/).*\n", "", err, flags=re.MULTILINE)
    assert "Traceback" not in err
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    assert err.startswith("outcrop: "), err
    missing = [piece for piece in pieces if piece not in err]
    assert not missing, err
    assert re.search(r"; \S|expected |must be |needs |takes ", err), f"no remedy: {err}"
    assert out == ""
    assert code == 2


def check_refused(folder: Path, monkeypatch, capfd, command: str, *pieces: str) -> None:
    """A command in `folder` is refused, and leaves everything there as it was."""
    monkeypatch.chdir(folder)
    before = content(folder)
    code = run(command)
    check(code, *capfd.readouterr(), *pieces)
    assert content(folder) == before


def largest_file(size: int):
    """What makes every file of a process fail beyond `size` bytes, as a full disk does."""
    return partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
