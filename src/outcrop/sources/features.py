"""Features of vector files: their attributes as text, and the parts of them that hold labels."""

from __future__ import annotations

import datetime
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from outcrop.progress import tell

MISSING = "(missing)"
_POINT, _POLYGON, _FIRST_OF_SEVERAL = 0, 3, 4
_EXACT = 2**53
_FEATURES = "features"


@dataclass(frozen=True)
class Parts:
    """The single polygons and points of features that have a class.

    Attributes:
        frame: a GeoDataFrame, one row a polygon or point, with the attributes of its feature and an
            index from 0. A polygon that was repaired may be a MultiPolygon.
        names: object, as long as `frame`, the class of each, stripped.
        feature: int64, as long as `frame`, the number of the feature that each is of.
        dropped: how many features hold no label, by reason.
    """

    frame: Any
    names: np.ndarray
    feature: np.ndarray
    dropped: dict[str, int]


def words(values: Any) -> np.ndarray:
    """The values of a column as text: object, None where one is missing.

    Whole numbers have no decimals, whatever their type: a column of integers in which one is
    missing is one of floats. Dates are as in ISO 8601, without a time if no value has one.

    >>> import pandas as pd
    >>> words(pd.Series([2019.0, None])).tolist(), words(pd.Series([True, False])).tolist()
    (['2019', None], ['True', 'False'])
    >>> words(pd.Series(pd.to_datetime(["2019-05-01", None]))).tolist()
    ['2019-05-01', None]
    """
    import pandas as pd

    missing = values.isna().to_numpy()
    listed = values.tolist()
    dated = pd.api.types.is_datetime64_any_dtype(values)
    whole_days = dated and bool((values.dropna() == values.dropna().dt.normalize()).all())
    text = np.full(len(listed), None, object)
    for i in np.flatnonzero(~missing):
        text[i] = _word(listed[i].date() if whole_days else listed[i])
    return text


def class_names(values: Any) -> np.ndarray:
    """The class that each value of a column names: object, stripped, None where there is none."""
    named = words(values)
    return np.array([(name or "").strip() or None for name in named], object)


def in_order(names: Iterable[str]) -> list[str]:
    """Names, each once, in alphabetical order; numbers in ascending order.

    >>> in_order(["10", "9", "9"]), in_order(["b", "a", "10"])
    (['9', '10'], ['10', 'a', 'b'])
    """
    each = set(names)
    try:
        return sorted(each, key=float)
    except ValueError:
        return sorted(each)


def parts_of(frame: Any, column: str) -> Parts:
    """The polygons and points of features that have a class.

    Invalid polygons are repaired to the area that they enclose: holes are holes, and spikes and
    lines, which GDAL would draw as pixels, are left out. Of a collection the polygons are used, or
    the points if it has none.

    Args:
        frame: what `read_vector` read.
        column: that names the class.
    """
    import shapely

    shapes = frame.geometry.to_numpy()
    names = class_names(frame[column])
    reason = np.full(len(frame), "", object)
    missing = shapely.is_missing(shapes)
    reason[shapely.is_empty(shapes)] = "features with an empty geometry"
    reason[missing] = "features without a geometry"
    unnamed = np.array([name is None for name in names], bool)
    reason[(reason == "") & unnamed] = "features without a class"
    reason[(reason == "") & ~_finite(shapes)] = "features with a coordinate that is no number"
    parts, feature = _singles(shapes, np.flatnonzero(reason == ""))
    kind = shapely.get_type_id(parts)
    has_polygons = np.zeros(len(frame), bool)
    has_polygons[feature[kind == _POLYGON]] = True
    kept = (kind == _POLYGON) | ((kind == _POINT) & ~has_polygons[feature])
    reason[_without(feature[kept], reason == "")] = "features of lines only"
    parts, feature = parts[kept], feature[kept]
    invalid = ~shapely.is_valid(parts)
    parts[invalid] = shapely.make_valid(parts[invalid], method="structure", keep_collapsed=False)
    solid = ~shapely.is_empty(parts)
    reason[_without(feature[solid], reason == "")] = "features without an area"
    parts, feature = parts[solid], feature[solid]
    single = frame.iloc[feature].reset_index(drop=True)
    return Parts(
        frame=single.set_geometry(parts, crs=frame.crs),
        names=names[feature],
        feature=feature,
        dropped=dict(Counter(reason[reason != ""].tolist())),
    )


def counted(reason: str, count: int) -> str:
    """How many features or labelled pixels were dropped for a reason, in words.

    >>> counted("features without a class", 1), counted("conflict", 2000)
    ('1 feature without a class', '2,000 labelled pixels: conflict')
    """
    if not reason.startswith(_FEATURES):
        return f"{count:,} labelled pixels: {reason}"
    return f"{count:,} {reason if count != 1 else reason.replace(_FEATURES, 'feature', 1)}"


def tell_alike(where: object, names: Iterable[str], remedy: str) -> None:
    """Say which class names differ only in case, spaces or the way that letters are encoded.

    Args:
        where: the file or option that the names are from.
        remedy: what to do if they mean one class.
    """
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        key = "".join(unicodedata.normalize("NFKC", name).casefold().split())
        groups.setdefault(key, []).append(name)
    for alike in groups.values():
        if len(alike) > 1:
            listed = " and ".join(f"'{name}'" for name in alike)
            tell(
                f"note: {where}: the classes {listed} differ only in case or spaces and are "
                f"taken for {len(alike)} classes; {remedy}"
            )


def _word(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


def _singles(shapes: np.ndarray, feature: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The single geometries within those of `feature`, and the feature of each, in order."""
    import shapely

    parts = shapes[feature]
    while (shapely.get_type_id(parts) >= _FIRST_OF_SEVERAL).any():
        parts, whole = shapely.get_parts(parts, return_index=True)
        feature = feature[whole]
    filled = ~shapely.is_empty(parts)
    return parts[filled], feature[filled]


def _finite(shapes: np.ndarray) -> np.ndarray:
    """Mask of the geometries without a coordinate that is NaN or infinite."""
    import shapely

    coordinates, feature = shapely.get_coordinates(shapes, return_index=True)
    finite = np.ones(len(shapes), bool)
    finite[feature[~np.isfinite(coordinates).all(axis=1)]] = False
    return finite


def _without(feature: Sequence[int] | np.ndarray, among: np.ndarray) -> np.ndarray:
    """Mask of the features among some that do not occur in `feature`."""
    left = among.copy()
    left[feature] = False
    return left
