"""A synthetic coast: several images of one tropical delta, with the truth at every pixel.

`make_coast` writes images, truth and labels into a folder; `coast_image` makes one image as
arrays. Both depend on a seed alone: to the last bit on one machine; on another, where sums are
rounded otherwise, a pixel here and there may differ.

What is modelled
    * Ground: a winding shore with lobes at the river mouths; a belt of mudflat and one of mangrove;
      rivers that meander and fork, and tidal creeks that branch; districts of ponds with dykes
      (aquaculture) and of rice parcels, turned along the nearest channel; towns at the forks,
      hamlets, and ribbons of houses on the levees. Belts are as wide as the image has room for;
      fields, ponds, houses and channels keep their size in metres.
    * Spectra that overlap: ponds, channels and flooded rice; mangrove and green rice; mudflat,
      drained ponds, stubble and streets. Patterns tell them apart: dykes, crowns, rows of parcels,
      roofs, ripples, and what lies near.
    * Likeness of neighbours: each pond, parcel and plot has a state of its own, and over some 500
      to 1500 m the covers share a tint, a strength of texture, a planting date, a way of keeping
      ponds. A model can learn such local looks by heart, so a split at random flatters it.
    * Sight: for each image its own sun, haze, gain and offset of each band, rice calendar, blur and
      noise; illumination and haze drift over the image; every third image, the first among them,
      is cut by a slanted swath edge.
    * Labels: `Hand` draws polygons inside what it recognises, with rough outlines, some a pixel or
      two off and a few with a wrong name.

What is not modelled
    * Clouds and their shadows, relief, view angles and reflection that depends on direction, sun
      glint, tides between images, change of land cover, misregistration between bands.
    * Other covers: orchards, forest, dunes, aquatic weeds. Spectra are plausible values for four
      broad bands, not samples of a spectral library, and shares of the classes are those of no
      real delta: scores here say nothing about scores elsewhere.
    * Mixed pixels, but for narrow dykes, bunds, creeks and streets, and the sensor's blur: the
      truth gives one class to each pixel.
"""

from outcrop.synthetic.coast.cover import BANDS
from outcrop.synthetic.coast.ground import CLASSES
from outcrop.synthetic.coast.labels import Hand
from outcrop.synthetic.coast.sensor import Radiometry
from outcrop.synthetic.coast.world import (
    COLOURS,
    Coast,
    CoastImage,
    coast_image,
    coast_in,
    make_coast,
)

__all__ = [
    "BANDS",
    "CLASSES",
    "COLOURS",
    "Coast",
    "CoastImage",
    "Hand",
    "Radiometry",
    "coast_image",
    "coast_in",
    "make_coast",
]
