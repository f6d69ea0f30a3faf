"""A synthetic coast: several images of one tropical delta, with the true class of every pixel.

`make_coast` writes images, truth and labels into a folder; `coast_image` returns one image as
arrays. On one machine both depend on the seed alone. On another machine single pixels may differ,
because sums are rounded differently.

What is modelled
    * Ground: an irregular shore with lobes at the river mouths; a mudflat belt and a mangrove belt;
      meandering rivers that fork, and tidal creeks that branch; districts of ponds with dykes
      (aquaculture) and of rice parcels, aligned with the nearest channel; towns at the forks,
      hamlets, and rows of houses on the levees. The belts scale with the image; fields, ponds,
      houses and channels keep their size in metres.
    * Spectra that overlap: ponds, channels and flooded rice; mangrove and green rice; mudflat,
      drained ponds, stubble and streets. Patterns distinguish them: dykes, crowns, rows of parcels,
      roofs, ripples, and the surroundings.
    * Spatial autocorrelation: each pond, parcel and plot has its own state. Over 500 to 1500 m a
      class has a common tint, strength of texture, planting date and pond management. A model can
      memorise these local properties, so its score under a random split is too high.
    * Radiometry: each image has its own illumination, haze, gain and offset per band, rice
      calendar, blur and noise. Illumination and haze vary over the image. Every third image, from
      the first, has a slanted swath edge.
    * Labels: `Hand` draws polygons inside regions of one class, with rough outlines. Some are
      shifted by a pixel or two, and a few have a wrong class.

What is not modelled
    * Clouds and their shadows, relief, view angles and directional reflectance, sun glint, tides,
      land cover change, misregistration between bands.
    * Other classes: orchards, forest, dunes, aquatic weeds. Spectra are plausible values for four
      broad bands, not samples of a spectral library, and class shares are not those of a real
      delta. Scores on this coast do not predict scores on real data.
    * Mixed pixels, except for narrow dykes, bunds, creeks and streets, and the blur of the sensor:
      the truth has one class per pixel.
"""

from outcrop.synthetic.coast.ground import CLASSES
from outcrop.synthetic.coast.labels import Hand
from outcrop.synthetic.coast.reflectance import BANDS, Radiometry
from outcrop.synthetic.coast.world import Coast, coast_image, coast_in, make_coast

__all__ = [
    "BANDS",
    "CLASSES",
    "Coast",
    "Hand",
    "Radiometry",
    "coast_image",
    "coast_in",
    "make_coast",
]
