"""The folder of a run: its configuration, and whether it can be resumed."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from outcrop import __version__
from outcrop.errors import OutcropError
from outcrop.files import new_folder, read_json, write_json
from outcrop.patches.patchset import PatchSet
from outcrop.splits.split import Split, read_split
from outcrop.training.recipe import as_now

_VERSION = 1


@dataclass(frozen=True)
class Kind:
    """A kind of model that a run can contain.

    Attributes:
        format, model: values of `format` in `config.json` and `model.json`.
        name: name in error messages.
        command: command that makes such a run.
    """

    format: str
    model: str
    name: str
    command: str


CLASSIFIER = Kind("outcrop run", "outcrop model", "a classifier", "outcrop.train")
CLASSICAL = Kind(
    "outcrop classical run", "outcrop classical model", "a classical model", "outcrop.train"
)
PICTURE_MODEL = Kind(
    "outcrop picture run", "outcrop picture model", "a VAE-GAN", "outcrop.train_vaegan"
)
_KINDS = {kind.format: kind for kind in (CLASSIFIER, CLASSICAL, PICTURE_MODEL)}


def is_finished(folder: Path) -> bool:
    """Whether the model, which is written last, exists."""
    return (folder / "model.json").exists()


def describe(patches: PatchSet, split: Split, kind: Kind, **settings: Any) -> dict[str, Any]:
    """The content of `config.json` of a run, as JSON; `settings` are those of this kind of run."""
    import sklearn
    import torch

    return {
        "format": kind.format,
        "version": _VERSION,
        **settings,
        "patches": {
            "fingerprint": patches.fingerprint,
            "number": len(patches),
            "size": list(patches.size),
            "classes": list(patches.classes),
            "bands": list(patches.bands),
            "reading": asdict(patches.reading),
            "sensors": list(dict.fromkeys(one.sensor for one in patches.sources if one.sensor)),
            "units": list(patches.sources[0].units) if patches.sources else [],
        },
        "split": {"how": dict(split.how), "by_ground": split.spatial},
        "versions": {
            "outcrop": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
        },
    }


def start(folder: Path, config: dict[str, Any], split: Split) -> None:
    """Create the folder of a new run.

    Raises:
        OutcropError: the folder exists, or its parent folder is missing.
    """
    with new_folder(folder) as temporary:
        write_json(temporary / "config.json", config)
        split.save(temporary / "split.json")


def check_same(
    folder: Path, config: Mapping[str, Any], split: Split, defaults: Mapping[str, Any]
) -> None:
    """Check that a run can be resumed with these settings.

    Versions, the device and the limit of its memory may differ.

    Args:
        config: result of `describe`.
        defaults: network and recipe, where the configuration in the folder has None or no value.

    Raises:
        OutcropError: the folder is no run, or network, recipe, patches or split differ.
    """
    stored = read_config(folder, _KINDS[config["format"]])
    for made in (stored, stored.get("tuning", {}).get("given", {})):
        if isinstance(made.get("recipe"), dict):
            made["recipe"] = as_now(made["recipe"])
    free = {"recipe.machine.device", "recipe.machine.gpu_memory", "seconds"}
    free |= {*(f"versions.{name}" for name in config["versions"])}
    given, old, new = (
        {key: value for key, value in _flat(json.loads(json.dumps(part))) if key not in free}
        for part in (defaults, stored, config)  # so that tuples are lists in all
    )
    # Settings that older versions did not write had their default value.
    old = given | {
        key: value for key, value in old.items() if value is not None or new.get(key) is None
    }
    if ("tuning.trials" in old) != ("tuning.trials" in new):
        # One of them is not tuned; the number of trials is enough to say so.
        free |= {key for key in old | new if key.startswith("tuning.")} - {"tuning.trials"}
    differences = []
    if old.get("patches.fingerprint") != new.get("patches.fingerprint"):
        differences.append("the patch set is another")
        free.add("patches.fingerprint")
    differences += [
        f"{key} was {old.get(key)}, is {new.get(key)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and key not in free
    ]
    if not np.array_equal(read_split(folder / "split.json").sides, split.sides):
        differences.append("the split is another")
    if differences:
        raise OutcropError(
            folder,
            f"cannot go on: {'; '.join(differences)}; take the old patches and settings, or "
            "another folder",
        )


def kind_of(folder: Path) -> Kind | None:
    """The kind of the run in a folder, finished or not; None without a run of outcrop.

    Raises:
        OutcropError: `config.json` is damaged.
    """
    path = folder / "config.json"
    return _kind(read_json(path, "run", "train")) if path.exists() else None


def read_config(folder: Path, *wanted: Kind) -> dict[str, Any]:
    """The content of `config.json` of a run of a `wanted` kind; the error names the first.

    Raises:
        OutcropError: there is no run, or a run of another kind.
    """
    if not folder.is_dir():
        raise OutcropError(folder, f"no such run; make one with `{wanted[0].command}`")
    config = read_json(folder / "config.json", "run", "train")
    found = _kind(config)
    if found is None:
        raise OutcropError(folder, "is not a run of outcrop; choose another folder")
    if found not in wanted:
        raise _other(folder, found, wanted[0])
    return config


def read_description(folder: Path, *wanted: Kind) -> tuple[Kind, dict[str, Any]]:
    """Kind and content of `model.json` of a model of a `wanted` kind; the error names the first.

    Raises:
        OutcropError: there is no such folder or file, it is not JSON, or a model of another kind.
    """
    command = wanted[0].command
    if not folder.is_dir():
        raise OutcropError(folder, f"no such model folder; make one with `{command}`")
    content = read_json(folder / "model.json", "model", command.removeprefix("outcrop."))
    for kind in _KINDS.values():
        if isinstance(content, dict) and content.get("format") == kind.model:
            if kind in wanted:
                return kind, content
            raise _other(folder, kind, wanted[0])
    raise OutcropError(folder / "model.json", "is not a model of this outcrop; train it anew")


def _other(folder: Path, found: Kind, wanted: Kind) -> OutcropError:
    return OutcropError(
        folder,
        f"is a run of {found.name}, and {wanted.name} is wanted; choose one of `{wanted.command}`",
    )


def _kind(config: Any) -> Kind | None:
    return _KINDS.get(str(config.get("format"))) if isinstance(config, dict) else None


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
