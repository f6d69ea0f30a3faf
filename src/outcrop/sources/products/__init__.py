"""Sentinel-2 SAFE and Landsat Collection 2 products, recognised by folder, archive or file name.

Only names and metadata are read here, no pixels. Conventions and their sources:

- Sentinel-2 (ESA, Products Specification Document): reflectance = (stored + offset) /
  quantification value. The offset of a band is in the product metadata since processing baseline
  04.00 (25 January 2022); before, it is 0. Stored 0 is no data. Classes of the scene classification
  (SCL): 0 no data, 1 saturated or defective, 2 dark or topographic shadow, 3 cloud shadow, 4
  vegetation, 5 not vegetated, 6 water, 7 unclassified, 8 and 9 cloud of medium and high
  probability, 10 thin cirrus, 11 snow or ice.
- Landsat Collection 2 (USGS, Landsat 4-7 and 8-9 Collection 2 Level-2 Science Product Guides):
  reflectance = stored × REFLECTANCE_MULT_BAND_n + REFLECTANCE_ADD_BAND_n. In Level-1 this is not
  corrected for the sun angle; divided by the sine of the sun elevation it is the reflectance at the
  top of the atmosphere (Landsat 8-9 Data Users Handbook). Stored 0 is no data. Bits of QA_PIXEL: 0
  fill, 1 dilated cloud, 2 cirrus (Landsat 8 and 9; unused before), 3 cloud, 4 cloud shadow, 5 snow,
  6 clear, 7 water.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from outcrop.errors import OutcropError
from outcrop.sources.products.files import find_places, named_like_a_product
from outcrop.sources.products.landsat import open_landsat
from outcrop.sources.products.product import Product, listed
from outcrop.sources.products.sentinel import open_sentinel

__all__ = ["Product", "is_product", "open_product"]


def is_product(path: str | Path) -> bool:
    """Whether a path is a Sentinel-2 or Landsat product: a folder, an archive or a metadata file.

    This is decided by names alone, so that a damaged product is recognised too. A path that does
    not exist is not a product.
    """
    path = Path(path)
    try:
        return bool(find_places(path))
    except OutcropError:
        return named_like_a_product(path)


def open_product(path: str | Path, bands: Sequence[str] | None = None) -> Product:
    """Read the names and the metadata of a product.

    Args:
        path: Sentinel-2 Level-1C or Level-2A: the `.SAFE` folder, a zip file with it, its product
            metadata (`MTD_MSIL2A.xml`), a folder in `GRANULE`, or, without metadata, `IMG_DATA`.
            Landsat Collection 2, Level-1 or Level-2: the folder or tar file with the bands and
            `*_MTL.txt`, or the MTL file (txt, xml, json). A folder or archive that contains only
            one of these is accepted too.
        bands: names of the selected bands, in this order; other bands may be missing. The default
            is all spectral bands without the panchromatic band and temperatures, which can be
            selected here.

    Raises:
        OutcropError: the path is not a product, or contains several; files are missing or belong to
            another product; metadata are damaged; a band does not exist.
    """
    path = Path(path)
    places = find_places(path)
    if not places:
        raise OutcropError(
            path,
            "is not a Sentinel-2 or Landsat Collection 2 product; pass a .SAFE folder, a folder "
            "with an MTL file, or their zip or tar file",
        )
    if len(places) > 1:
        raise OutcropError(
            path,
            f"contains {len(places)} products ({listed([place.name for place in places])}); "
            + ("unpack it and " if path.is_file() else "")
            + "pass one of them",
        )
    if places[0].sentinel:
        return open_sentinel(path, places[0], bands)
    return open_landsat(path, places[0], bands)
