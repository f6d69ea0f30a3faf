"""Words that findings share."""

from __future__ import annotations

from collections.abc import Sequence

_MOST = 5


def listed(names: Sequence[str]) -> str:
    """Names as one writes them in a sentence, the first few of many.

    >>> listed(["rice"]), listed(["rice", "mud"]), listed(list("abcdefg"))
    ("'rice'", "'rice' and 'mud'", "'a', 'b', 'c', 'd', 'e' and 2 more")
    """
    quoted = [f"'{name}'" for name in names[:_MOST]]
    if len(names) > _MOST:
        quoted.append(f"{len(names) - _MOST} more")
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def plural(number: int, one: str, many: str = "") -> str:
    """A number with its noun.

    >>> plural(1, "patch", "patches"), plural(1200, "class", "classes"), plural(2, "pair")
    ('1 patch', '1,200 classes', '2 pairs')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def share(part: float) -> str:
    """A fraction in per cent.

    >>> share(0.254), share(0.004)
    ('25 %', '0.4 %')
    """
    return f"{100 * part:.0f} %" if part >= 0.1 or part == 0 else f"{100 * part:.1f} %"
