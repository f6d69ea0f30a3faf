"""The commands. Each is a typed function: parse, call, print."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from outcrop.cli.commands.data import audit, coast, cube, locate, patches, split
from outcrop.cli.commands.maps import assess, map, sample
from outcrop.cli.commands.pictures import generate
from outcrop.cli.commands.training import compare, evaluate, export, models, reproduce, train
from outcrop.cli.commands.whole import demo, experiment, report

COMMANDS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        demo,
        experiment,
        coast,
        cube,
        patches,
        locate,
        split,
        audit,
        models,
        train,
        generate,
        evaluate,
        compare,
        map,
        sample,
        assess,
        export,
        report,
        reproduce,
    )
}
