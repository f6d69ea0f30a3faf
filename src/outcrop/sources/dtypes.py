"""The types of pixels and samples that outcrop keeps."""

from __future__ import annotations

import numpy as np

DTYPES = ("uint8", "uint16", "int16", "float32")


def kept(dtype: np.dtype) -> np.dtype:
    """The type that pixels are read as: their own, in native byte order, or else float32.

    >>> kept(np.dtype(">i2")), kept(np.dtype("int32"))
    (dtype('int16'), dtype('float32'))
    """
    native = dtype.newbyteorder("=")
    return native if native.name in DTYPES else np.dtype("float32")
