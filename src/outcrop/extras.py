"""Packages of the extras, and the error if one is missing."""

from __future__ import annotations

from importlib import import_module

from outcrop.errors import OutcropError

EXTRAS = {
    "seismic": ("segyio", "h5py"),
    "cluster": ("dask", "distributed"),
    "report": ("matplotlib", "jinja2"),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
}
"""Packages of each extra."""


def is_there(package: str) -> bool:
    """Whether a package can be imported; imports it."""
    try:
        import_module(package)
    except ModuleNotFoundError:
        return False
    return True


def need(package: str, what: str) -> None:
    """Check that a package of an extra is installed.

    Args:
        what: the file or option that needs it, for the error line.

    Raises:
        OutcropError: it is missing.
    """
    if not is_there(package):
        extra = next(name for name, packages in EXTRAS.items() if package in packages)
        raise OutcropError(what, f"needs {package}; run pip install 'outcrop[{extra}]'")
