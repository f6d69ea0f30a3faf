"""Products of agencies: Sentinel-2 SAFE and Landsat Collection 2, known by folder or archive name.

Only names and metadata are read here, no pixels. Conventions and their sources:

- Sentinel-2 (ESA, Products Specification Document): reflectance = (stored + offset) /
  quantification value. The offset of a band is in the product metadata since processing baseline
  04.00 (25 January 2022); before, it is 0. Stored 0 is no data. Classes of the scene
  classification (SCL): 0 no data, 1 saturated or defective, 2 dark or topographic shadow, 3 cloud
  shadow, 4 vegetation, 5 not vegetated, 6 water, 7 unclassified, 8 and 9 cloud of medium and high
  probability, 10 thin cirrus, 11 snow or ice.
- Landsat Collection 2 (USGS, Landsat 4-7 and 8-9 Collection 2 Level-2 Science Product Guides):
  reflectance = stored × REFLECTANCE_MULT_BAND_n + REFLECTANCE_ADD_BAND_n. In Level-1 this is
  without the sun's angle; divided by the sine of the sun's elevation it is the reflectance at the
  top of the atmosphere (Landsat 8-9 Data Users Handbook). Stored 0 is no data. Bits of QA_PIXEL:
  0 fill, 1 dilated cloud, 2 cirrus (Landsat 8 and 9; unused before), 3 cloud, 4 cloud shadow,
  5 snow, 6 clear, 7 water.
"""

from outcrop.sources.products.opening import is_product, open_product
from outcrop.sources.products.product import Product, ProductBand, QualityMask

__all__ = ["Product", "ProductBand", "QualityMask", "is_product", "open_product"]
