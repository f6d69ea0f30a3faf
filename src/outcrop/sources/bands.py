"""Names of bands: what of a name identifies the band, and how two lists of names are matched."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from outcrop.errors import OutcropError

_CODE = re.compile(r"b(\d{1,2})([a-z]?)")
_QUANTITIES = {"sr", "st", "toa", "boa"}  # what is measured: SR_B4 is not the band that ST_B4 is
_RESOLUTION = re.compile(r"\d+m")
_DATE = re.compile(r"(19|20)\d{2}((0[1-9]|1[0-2])([0-3]\d(t\d{4,6}z?)?)?)?")
_ISO_DATE = re.compile(r"(19|20)\d{2}-[01]\d(-[0-3]\d)?(t[\d:.]+z?)?")
_WAVELENGTH = re.compile(r"\d+([.,]\d+)? ?(nm|um|µm|μm)\b")
_TILE = re.compile(r"t\d{2}[a-z]{3}|[hv]\d{2}([hv]\d{2})?")
_GENERIC = re.compile(r"(band|layer|channel|ch|gr[ae]y|undefined)?[ _\-.]?\d*")
_COLOURS = {
    "coastal", "aerosol", "violet", "blue", "green", "yellow", "red", "rededge", "nir", "vnir",
    "swir", "mir", "tir", "thermal", "pan", "panchromatic", "cirrus", "vv", "vh", "hh", "hv",
}  # fmt: skip


@dataclass(frozen=True)
class Matched:
    """How the bands of one list stand in for those of another.

    Attributes:
        order: for each wanted band the index of the band that is it.
        assumed: whether no name said so, and the order of the list was taken.
    """

    order: tuple[int, ...]
    assumed: bool


def identities(names: Sequence[str]) -> tuple[str | None, ...]:
    """What identifies each band among the names of its scene; None where nothing does.

    That is a band code (`B02`, `B8A`, `SR_B4`) or the name of a spectral range (`red`, `SWIR 1`) if
    a name has exactly one; else the words that not all names have. Dates, tiles and resolutions
    identify no band, and a plain number (`band 3`) does not either.

    >>> identities(["T33UUU_20170216T102101_B02", "T33UUU_20170216T102101_B8A"])
    ('B2', 'B8A')
    >>> identities(["Blue", "SWIR 1"]), identities(["band 1", "band 2"])
    (('blue', 'swir1'), (None, None))
    >>> identities(["lsat7_2000_10", "lsat7_2000_20"])
    ('10', '20')
    """
    lists = [words_of(name) for name in names]
    common = set.intersection(*map(set, lists)) if len(lists) > 1 else set()
    own = [" ".join(w for w in words if w not in common and not _idle(w)) for words in lists]
    found = [_known(name, words) for name, words in zip(names, lists, strict=True)]
    several = Counter(found)
    found = [one if several[one] == 1 else rest for one, rest in zip(found, own, strict=True)]
    found = [None if _is_number(name) else one for name, one in zip(names, found, strict=True)]
    several = Counter(found)
    return tuple(one if one and several[one] == 1 else None for one in found)


def group_of(name: str) -> str:
    """What a file name says besides the band and its resolution: tile, date, product.

    >>> group_of("T33UUU_20170216T102101_B02_10m"), group_of("LC08_20210622_SR_B4")
    ('t33uuu 20170216t102101', 'lc08 20210622')
    """
    words = words_of(name)
    code = _code(words)
    own = code.words if code else ()
    return " ".join(w for w in words if w not in own and not _RESOLUTION.fullmatch(w))


def is_known(name: str) -> bool:
    """Whether a name has a band code or names a spectral range."""
    return _known(name, words_of(name)) is not None


def code_in(name: str) -> str | None:
    """The band code of a name, as it is spelled there, if it has exactly one.

    >>> code_in("T33UUU_20170216T102101_B02_10m"), code_in("LC08_SR_B4"), code_in("elevation")
    ('B02', 'SR_B4', None)
    """
    code = _code(words_of(name))
    return None if code is None else "_".join(code.words).upper()


def match(have: Sequence[str], want: Sequence[str]) -> Matched | None:
    """Find the wanted bands among others: by name, by what identifies them, or by their number.

    Names that are the same, whatever their case, are the same band. Otherwise identities decide, if
    all bands of both lists have one. Where they have none, as many bands are taken by their numbers
    (`band 3`) or in their order, and this is `assumed`.

    Returns:
        None if the bands are others.

    >>> match(["red", "green", "blue"], ["blue", "green", "red"])
    Matched(order=(2, 1, 0), assumed=False)
    >>> match(["band 1", "band 2"], ["blue", "green"])
    Matched(order=(0, 1), assumed=True)
    """
    spelled, wanted = ([_plain(name) for name in names] for names in (have, want))
    numbered = all(map(_is_number, want))
    if all(spelled.count(name) == 1 for name in wanted) and (
        not numbered or len(have) == len(want)
    ):
        return Matched(tuple(map(spelled.index, wanted)), assumed=numbered)
    mine, theirs = identities(have), identities(want)
    if None in mine or None in theirs:
        return Matched(tuple(range(len(want))), assumed=True) if len(have) == len(want) else None
    if not set(theirs) <= set(mine):
        return None
    return Matched(tuple(mine.index(one) for one in theirs), assumed=False)


def order_of(
    have: Sequence[str], want: Sequence[str], where: str, other: str, remedy: str
) -> Matched:
    """`match`, or an error line that lists both.

    Args:
        where: what has the bands `have`, for the error line.
        other: what has the bands `want`.
        remedy: what to do.

    Raises:
        OutcropError: the bands are others.
    """
    found = match(have, want)
    if found is None:
        raise OutcropError(
            where,
            f"has {counted(have)} where {other} has {counted(want)}; {remedy}",
        )
    return found


def chosen(names: Sequence[str], wanted: Sequence[int | str], where: str) -> tuple[int, ...]:
    """Indices of the bands that a user names, by number from 1 or by name.

    A name may be spelled as `identities` has it: `B2` for `T33UUU_20170216T102101_B02`.

    Raises:
        OutcropError: there is no such band, or several have the name; a band is named twice.
    """
    found = tuple(_chosen(names, str(one).strip(), where) for one in wanted)
    twice = [str(one) for i, one in enumerate(wanted) if found[i] in found[:i]]
    if twice:
        raise OutcropError("--bands", f"names band {twice[0]} twice; name each band once")
    return found


def counted(names: Sequence[str]) -> str:
    """How many bands there are, and their names.

    >>> counted(["red", "nir"]), counted(["grey"])
    ('2 bands (red, nir)', '1 band (grey)')
    """
    return f"{len(names)} band{'s'[: len(names) != 1]} ({listed(names)})"


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names with commas between, of a long list the first and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def words_of(name: str) -> list[str]:
    """The words of a name, without case, punctuation and ISO dates."""
    return re.findall(r"[^\W_]+", _ISO_DATE.sub(" ", name.casefold()))


def _chosen(names: Sequence[str], wanted: str, where: str) -> int:
    if re.fullmatch(r"[+-]?\d+", wanted):
        number = int(wanted)
        if not 1 <= number <= len(names):
            raise OutcropError(where, f"has no band {number}; it has bands 1 to {len(names)}")
        return number - 1
    same = [i for i, name in enumerate(names) if name.strip() == wanted]
    key = identities([wanted])[0] or " ".join(words_of(wanted))
    same = same or [i for i, one in enumerate(identities(names)) if one == key]
    if len(same) == 1:
        return same[0]
    if same:
        raise OutcropError(where, f"has {len(same)} bands '{wanted}'; pass their numbers")
    raise OutcropError(where, f"has no band '{wanted}'; it has {listed(names, 30)}")


def _plain(name: str) -> str:
    """A name without its case, and with single spaces."""
    return " ".join(name.casefold().split())


def _is_number(name: str) -> bool:
    """Whether a name is no more than the number of a band, as `band 3`."""
    return _GENERIC.fullmatch(name.strip().casefold()) is not None


def _known(name: str, words: Sequence[str]) -> str | None:
    """The band code or spectral range that a name has, in one spelling."""
    code = _code(words)
    if code:
        return code.spelling
    return _colour(words_of(_WAVELENGTH.sub(" ", name.casefold())))


@dataclass(frozen=True)
class _Code:
    words: tuple[str, ...]
    spelling: str


def _code(words: Sequence[str]) -> _Code | None:
    """The only band code of a name, with what it measures: `B2`, `SR_B4`."""
    found = [(i, hit) for i, word in enumerate(words) if (hit := _CODE.fullmatch(word))]
    if len(found) != 1:
        return None
    ((at, hit),) = found
    quantity = [word for word in words[max(at - 1, 0) : at] if word in _QUANTITIES]
    spelling = "_".join([*quantity, f"b{int(hit[1])}{hit[2]}"]).upper()
    return _Code((*quantity, words[at]), spelling)


def _colour(words: Sequence[str]) -> str | None:
    """The only spectral range that a name names, with its number: `red`, `rededge2`, `swir1`."""
    text = re.sub(r"\bred edge\b", "rededge", " ".join(words))
    text = re.sub(r"\bshort ?wave infra ?red\b", "swir", text)
    text = re.sub(r"\bnear infra ?red\b", "nir", text)
    found = re.findall(r"\b([a-z]+?)(?: ?(\d{1,2}))?\b", text)
    known = [(name, number) for name, number in found if name in _COLOURS]
    if len(known) != 1:
        return None
    return known[0][0] + (known[0][1] or "")


def _idle(word: str) -> bool:
    """Whether a word is a date, a tile or a resolution."""
    return any(kind.fullmatch(word) for kind in (_DATE, _TILE, _RESOLUTION))
