"""Readers of scenes, volumes, labels and collections of images, and the dtypes that they return."""

from __future__ import annotations

import numpy as np

DTYPES = ("uint8", "uint16", "int16", "float32")


def read_dtype(stored: np.dtype) -> np.dtype:
    """The dtype in which pixels or samples of a stored dtype are returned.

    The dtypes in `DTYPES` are kept, in native byte order. Every other dtype becomes float32.

    >>> read_dtype(np.dtype(">i2")), read_dtype(np.dtype("int32"))
    (dtype('int16'), dtype('float32'))
    """
    native = stored.newbyteorder("=")
    return native if native.name in DTYPES else np.dtype("float32")
