"""A synthetic seismic cube with the true class of every voxel.

`make_cube` writes amplitudes, classes and their names into a folder; `random_patches` picks places
of patches. On one machine both depend on the seed alone. On another machine single voxels may
differ, because sums are rounded differently.

What is modelled
    * Layers: thin and thick, hard and soft, as in a well log, unit by unit. Their impedance changes
      laterally, so that the amplitude and polarity of horizons change.
    * Events, oldest first: slides (mass-transport deposits) that broke layers into shifted and
      tilted blocks; folds that grow with depth; two swarms of faults whose throw decreases to a tip
      line; a salt dome that pierced the layers, with upturned flanks and a rim syncline. Bodies
      scale with the cube; layers and wavelets keep their size in samples.
    * The survey: reflection coefficients from the impedance, a Ricker wavelet whose frequency
      decreases with depth, amplitudes that vary over the cube, a spread over neighbouring traces,
      noise in the band of the wavelet and a little white noise.
    * Truth: four classes of texture. "parallel": intact horizons, also folded and upturned ones;
      "faulted": the ground near a plane with throw; "chaotic" and "salt": the bodies. Voxels near a
      contact have no class.

What is not modelled
    * Waves: each trace is a convolution, without diffractions, multiples, shadows or pull-up below
      salt, illumination, or migration apart from its spread. The vertical axis is samples, neither
      time nor depth, and rock moves along it only: faults have no lateral displacement, and layers
      get thinner where they are stretched.
    * Unconformities, channels, reefs, carbonates, gas, igneous rock; acquisition footprints and bad
      traces; errors of interpreters. Class shares are not those of a real basin. Scores on this
      cube do not predict scores on real data.
"""

from outcrop.synthetic.cube.earth import CLASSES, Earth
from outcrop.synthetic.cube.make import SHAPE, cube_in, make_cube, random_patches
from outcrop.synthetic.cube.survey import Survey

__all__ = ["CLASSES", "SHAPE", "Earth", "Survey", "cube_in", "make_cube", "random_patches"]
