"""Packages that only some users need, and how they are installed."""

from __future__ import annotations

from importlib import import_module

from outcrop.errors import OutcropError

EXTRAS = {
    "seismic": ("segyio", "h5py"),
    "cluster": ("dask", "distributed"),
    "report": ("matplotlib", "jinja2"),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
}
"""By the name of an extra, the packages that it installs."""


def is_there(package: str) -> bool:
    """Whether a package can be imported."""
    try:
        import_module(package)
    except ImportError:
        return False
    return True


def need(extra: str, what: str) -> None:
    """Make sure that the packages of an extra are installed.

    Args:
        extra: its name.
        what: the file or option that needs it, for the error line.

    Raises:
        OutcropError: one is missing.
    """
    missing = [package for package in EXTRAS[extra] if not is_there(package)]
    if missing:
        raise OutcropError(
            what, f"needs {' and '.join(missing)}; run pip install 'outcrop[{extra}]'"
        )
