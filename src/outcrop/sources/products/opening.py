"""Products opened by their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from outcrop.errors import OutcropError
from outcrop.sources.products.landsat import open_landsat
from outcrop.sources.products.places import find_places, named_like_a_product
from outcrop.sources.products.product import Product, listed
from outcrop.sources.products.sentinel import open_sentinel


def is_product(path: str | Path) -> bool:
    """Whether a name is that of a Sentinel-2 or Landsat product: folder, archive or metadata file.

    Judged by names alone, so that a damaged product is still one. What is not there is none.
    """
    path = Path(path)
    try:
        return bool(find_places(path))
    except OutcropError:
        return named_like_a_product(path)


def open_product(path: str | Path, bands: Sequence[str] | None = None) -> Product:
    """Read names and metadata of a product.

    Args:
        path: Sentinel-2 Level-1C or Level-2A: the `.SAFE` folder, a zip file that holds it, its
            product metadata (`MTD_MSIL2A.xml`), or a folder in `GRANULE`. Without metadata also
            `IMG_DATA`. Landsat Collection 2, Level-1 or Level-2: the folder or tar file with the
            bands and `*_MTL.txt`, or the MTL file itself (txt, xml, json). A folder or archive
            that holds nothing but one of these is also taken.
        bands: names of bands, in this order; others may then be missing. All spectral bands by
            default, without the panchromatic one and temperatures, which can be named here.

    Raises:
        OutcropError: no product, or several; files that are missing or belong to another product;
            damaged metadata; a band that the product does not have.
    """
    path = Path(path)
    places = find_places(path)
    if not places:
        raise OutcropError(
            path,
            "is no Sentinel-2 or Landsat Collection 2 product; name a .SAFE folder, a folder with "
            "an MTL file, or their zip or tar file",
        )
    if len(places) > 1:
        raise OutcropError(
            path,
            f"holds {len(places)} products ({listed([place.name for place in places])}); "
            + ("unpack it and " if path.is_file() else "")
            + "name one of them",
        )
    if places[0].sentinel:
        return open_sentinel(path, places[0], bands)
    return open_landsat(path, places[0], bands)
