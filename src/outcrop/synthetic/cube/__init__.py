"""A synthetic seismic cube with the truth at every voxel.

`make_cube` writes amplitudes, classes and their names into a folder; `random_patches` picks places
to cut. Both depend on a seed alone: to the last bit on one machine; on another, where sums are
rounded otherwise, a voxel here and there may differ.

What is modelled
    * Layers: thin and thick, hard and soft, drawn like a well log, unit by unit; their impedance
      changes from place to place, so that horizons brighten, fade and turn over.
    * What happened to them, oldest first: slides (mass-transport deposits) that broke layers into
      blocks and turned these over one another; folds that grow with depth; two swarms of faults
      whose throw dies out towards a tip line; a salt dome that pierced the layers, dragged up their
      ends and left a rim syncline. Bodies are as large as the cube has room for; layers and
      wavelets keep their size in samples.
    * What a survey records: reflection coefficients from the impedance, a Ricker wavelet whose
      frequency falls with depth, amplitudes that vary over the cube, a spread over neighbouring
      traces, noise in the wavelet's band and a little white noise.
    * Truth: four textures by what was done to the rock. "parallel" are horizons that nothing broke,
      folded and upturned ones too; "faulted" is the ground near a plane with throw; "chaotic" and
      "salt" are the bodies. Voxels near a contact have no class.

What is not modelled
    * Waves: no diffractions, multiples, shadows and pull-up below salt, no migration but for its
      spread, no illumination; each trace is a convolution. The vertical axis is neither time nor
      depth but samples, and rock moves along it only: faults do not shift it sideways, and layers
      thin where they are stretched.
    * Unconformities, channels, reefs, carbonates, gas, igneous rock; acquisition footprints and
      bad traces. Shares of the classes are those of no real basin, and no interpreter erred: scores
      here say nothing about scores elsewhere.
"""

from outcrop.synthetic.cube.earth import CLASSES, Earth
from outcrop.synthetic.cube.make import SHAPE, Cube, cube_in, make_cube
from outcrop.synthetic.cube.pick import Places, random_patches
from outcrop.synthetic.cube.survey import Survey

__all__ = [
    "CLASSES",
    "SHAPE",
    "Cube",
    "Earth",
    "Places",
    "Survey",
    "cube_in",
    "make_cube",
    "random_patches",
]
