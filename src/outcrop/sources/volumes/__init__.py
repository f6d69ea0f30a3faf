"""Volumes: cubes of samples read box by box: npy, Zarr, NetCDF, SEG-Y, stacks of pictures.

One convention holds in the whole house: the slice with number `index` across axis `K` of a volume
is `np.take(cube, index, axis=K)`. Its rows and columns are the two axes that remain, in their
order; nothing is turned or flipped. Axes, slices, rows and columns count from 0. In SEG-Y the
axes are inline, crossline and sample, so that a row of an inline section is a trace; in Zarr and
NetCDF they are in the order in which the array is stored; in a stack of pictures axis 0 runs
through the stack.

Samples are in physical units, and missing ones are NaN: the scale, offset and missing values that
a file declares are applied.
"""

from outcrop.sources.volumes.opening import open_volume, volume_kind
from outcrop.sources.volumes.volume import Volume, VolumeReader

__all__ = ["Volume", "VolumeReader", "open_volume", "volume_kind"]
