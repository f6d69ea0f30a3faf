"""A map that is not whole yet: a hidden folder with the windows that are done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import decoding, explain, new_file, sweep, write_json
from outcrop.mapping.tiling import Window
from outcrop.typed import typed


class Partial:
    """The windows of a map that are done, each in a file that is whole.

    Attributes:
        folder: beside the map, `.NAME.windows`.
    """

    def __init__(self, output: Path, plan: Mapping[str, Any], resume: bool) -> None:
        """Begin, or go on.

        Args:
            output: the map.
            plan: plain data; all that decides what the map will be.
            resume: go on with what is there; without it, that is removed.

        Raises:
            OutcropError: what is there is of another plan; the disk is full.
        """
        self._output = output
        self.folder = output.with_name(f".{output.name}.windows")
        wanted = json.loads(json.dumps(dict(plan)))
        if self.folder.exists() and resume:
            self._check(output, wanted)
            sweep(self.folder)
            return
        try:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir()
        except OSError as error:
            raise explain(error, output) from error
        try:
            write_json(self.folder / "plan.json", wanted, output)
        except OutcropError:
            self.remove()
            raise

    def _check(self, output: Path, wanted: Mapping[str, Any]) -> None:
        remedy = "leave --resume out to begin anew"
        with decoding(self.folder / "plan.json", "the plan of a map", remedy):
            text = (self.folder / "plan.json").read_text(encoding="utf-8")
            stored = typed(dict[str, Any], json.loads(text))
        changed = sorted(
            key for key in wanted.keys() | stored.keys() if wanted.get(key) != stored.get(key)
        )
        if changed:
            raise OutcropError(
                output,
                f"was begun with another {' and '.join(changed)}; "
                "take the old settings, or leave --resume out to begin anew",
            )

    def __contains__(self, window: Window) -> bool:
        return self._file(window).exists()

    @property
    def done(self) -> int:
        """How many windows are there."""
        return sum(1 for _ in self.folder.glob("*.npz"))

    def write(self, window: Window, layers: np.ndarray) -> None:
        """Keep a window: uint8, `layers × height × width`."""
        with new_file(self._file(window), self._output) as temporary:
            np.savez_compressed(temporary, layers=layers)

    def read(self, window: Window) -> np.ndarray:
        """The window that `write` has kept.

        Raises:
            OutcropError: it is damaged.
        """
        path = self._file(window)
        with (
            decoding(path, "a window of a map", "delete it and go on with --resume"),
            np.load(path, allow_pickle=False) as arrays,
        ):
            layers = arrays["layers"]
            if layers.dtype != np.uint8 or layers.shape[1:] != (window.height, window.width):
                raise ValueError("its layers have another shape or type")
            return layers

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, window: Window) -> Path:
        return self.folder / f"{window.name}.npz"
