"""Features of vector files: attributes as text, and the polygons and points with a class."""

from __future__ import annotations

import datetime
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from outcrop.progress import warn

MISSING = "(missing)"
_POINT, _POLYGON, _FIRST_OF_SEVERAL = 0, 3, 4
_EXACT = 2**53
_FEATURES = "features"


@dataclass(frozen=True)
class Parts:
    """The single polygons and points of the features that have a class.

    Attributes:
        frame: GeoDataFrame with one row per polygon or point, the attributes of its feature and an
            index from 0. A repaired polygon may be a MultiPolygon.
        names: object, as long as `frame`, the class name, without spaces at its ends.
        feature: int64, as long as `frame`, the index of the feature.
        dropped: number of features without a label, by reason.
    """

    frame: Any
    names: np.ndarray
    feature: np.ndarray
    dropped: dict[str, int]


def column_text(values: Any) -> np.ndarray:
    """The values of a column as text: object, None where a value is missing.

    Integers have no decimals, also where a missing value made the column one of floats. Dates are
    in ISO 8601, without a time if all times are midnight.

    >>> import pandas as pd
    >>> column_text(pd.Series([2019.0, None])).tolist()
    ['2019', None]
    >>> column_text(pd.Series([True, False])).tolist()
    ['True', 'False']
    >>> column_text(pd.Series(pd.to_datetime(["2019-05-01", None]))).tolist()
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
    """The class name of each value of a column: object, without outer spaces, None if empty."""
    named = column_text(values)
    return np.array([(name or "").strip() or None for name in named], object)


def sorted_names(names: Iterable[str]) -> list[str]:
    """The distinct names in alphabetical order; in numerical order if all are numbers.

    >>> sorted_names(["10", "9", "9"]), sorted_names(["b", "a", "10"])
    (['9', '10'], ['10', 'a', 'b'])
    """
    each = set(names)
    try:
        return sorted(each, key=float)
    except ValueError:
        return sorted(each)


def parts_of(frame: Any, column: str) -> Parts:
    """The single polygons and points of the features that have a class.

    Invalid polygons are repaired to the area that they enclose: holes stay holes. Spikes and lines
    are removed, because GDAL would rasterize them. Of a geometry collection the polygons are used,
    or its points if it has no polygons.

    Args:
        column: column with the class names.
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
    reason[(reason == "") & ~_finite(shapes)] = "features with a coordinate that is not a number"
    parts, feature = _single_parts(shapes, np.flatnonzero(reason == ""))
    kind = shapely.get_type_id(parts)
    has_polygons = np.zeros(len(frame), bool)
    has_polygons[feature[kind == _POLYGON]] = True
    kept = (kind == _POLYGON) | ((kind == _POINT) & ~has_polygons[feature])
    reason[_missing_from(feature[kept], reason == "")] = "features of lines only"
    parts, feature = parts[kept], feature[kept]
    invalid = ~shapely.is_valid(parts)
    parts[invalid] = shapely.make_valid(parts[invalid], method="structure", keep_collapsed=False)
    solid = ~shapely.is_empty(parts)
    reason[_missing_from(feature[solid], reason == "")] = "features without an area"
    parts, feature = parts[solid], feature[solid]
    single = frame.iloc[feature].reset_index(drop=True)
    return Parts(
        frame=single.set_geometry(parts, crs=frame.crs),
        names=names[feature],
        feature=feature,
        dropped=dict(Counter(reason[reason != ""].tolist())),
    )


def dropped_text(reason: str, count: int) -> str:
    """How many features or labelled pixels were dropped for a reason, as text.

    >>> dropped_text("features without a class", 1), dropped_text("conflict", 2000)
    ('1 feature without a class', '2,000 labelled pixels: conflict')
    """
    if not reason.startswith(_FEATURES):
        return f"{count:,} labelled pixels: {reason}"
    return f"{count:,} {reason if count != 1 else reason.replace(_FEATURES, 'feature', 1)}"


def note_similar_names(where: object, names: Iterable[str], remedy: str) -> None:
    """Print the class names that differ only in case, spaces or Unicode normalisation.

    Args:
        where: the file or option with the names, for the message.
        remedy: what to do if the names mean the same class.
    """
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        key = "".join(unicodedata.normalize("NFKC", name).casefold().split())
        groups.setdefault(key, []).append(name)
    for alike in groups.values():
        if len(alike) > 1:
            listed = " and ".join(f"'{name}'" for name in alike)
            warn(
                f"{where}: the class names {listed} differ only in case or spaces and count "
                f"as {len(alike)} classes; {remedy}"
            )


def _word(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


def _single_parts(shapes: np.ndarray, feature: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The single geometries of some features, and the index of the feature of each, in order."""
    import shapely

    parts = shapes[feature]
    while (shapely.get_type_id(parts) >= _FIRST_OF_SEVERAL).any():
        parts, whole = shapely.get_parts(parts, return_index=True)
        feature = feature[whole]
    filled = ~shapely.is_empty(parts)
    return parts[filled], feature[filled]


def _finite(shapes: np.ndarray) -> np.ndarray:
    """Mask of the geometries whose coordinates are all finite."""
    import shapely

    coordinates, feature = shapely.get_coordinates(shapes, return_index=True)
    finite = np.ones(len(shapes), bool)
    finite[feature[~np.isfinite(coordinates).all(axis=1)]] = False
    return finite


def _missing_from(feature: Sequence[int] | np.ndarray, among: np.ndarray) -> np.ndarray:
    """Mask of the features in `among` that do not occur in `feature`."""
    left = among.copy()
    left[feature] = False
    return left
