"""Tables of a story on standard output."""

from __future__ import annotations

from collections.abc import Sequence

from outcrop.cli.console import console, say, table_of
from outcrop.cli.tables import in_points
from outcrop.synthetic.trainings import Outcome


def outcome_table(outcomes: Sequence[Outcome]) -> None:
    """One row a training: what it promised, what it kept on new cubes, and the difference."""
    table = table_of("split", "way", "promised", "kept", "too much", "seconds")
    table.columns[1].justify = "left"
    for one in outcomes:
        promised, kept = str(one.promised.balanced), str(one.kept.balanced)
        table.add_row(
            one.split, one.way, promised, kept, in_points(one.excess), f"{one.seconds:.1f}"
        )
    console.print(table)
    say("promised: balanced accuracy on the validation side, in %, with 95 % intervals")
    say("kept: the same on new cubes; too much: the difference in points")
