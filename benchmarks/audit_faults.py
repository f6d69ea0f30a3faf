"""Does `outcrop audit` find planted faults, and keep quiet on clean sets?"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle, islice

import numpy as np
from scipy.stats import binomtest
from threadpoolctl import threadpool_limits

from benchmarks.faults import FAULTS, Fault
from benchmarks.ground_faults import GROUND_FAULTS
from benchmarks.worlds import WORLDS, World
from outcrop.auditing.audit import SEVERITIES, Audit, audit

ALL = FAULTS + GROUND_FAULTS


@dataclass(frozen=True)
class Told:
    """What an audit of one set said.

    Attributes:
        found: whether it found the planted fault.
        false: critical findings of other checks.
        severities: how many findings of each severity.
    """

    found: bool
    false: tuple[str, ...]
    severities: Counter[str]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=24, help="planted sets of each strength")
    options.add_argument("--clean", type=int, default=30, help="clean sets of each world")
    options.add_argument("--first", type=int, default=10_000, help="the first seed")
    options.add_argument("--processes", type=int, default=1)
    options.add_argument("--worlds", default=",".join(WORLDS), help="clean sets of these")
    options.add_argument("--faults", default="", help="only faults whose name holds this")
    chosen = options.parse_args()
    with ProcessPoolExecutor(chosen.processes, initializer=one_thread) as pool:
        if chosen.clean:
            seeds = range(chosen.first, chosen.first + chosen.clean)
            clean_table(pool, seeds, chosen.worlds.split(","))
        if chosen.seeds:
            faults = [fault for fault in ALL if chosen.faults in fault.name]
            fault_table(pool, range(chosen.first, chosen.first + chosen.seeds), faults)


def one_thread() -> None:
    threadpool_limits(1)


def clean_table(pool: ProcessPoolExecutor, seeds: range, worlds: Sequence[str]) -> None:
    print("| clean sets | number | with a critical finding | with a warning |")
    print("| --- | --- | --- | --- |")
    total = false = 0
    for name in worlds:
        told = list(pool.map(clean_one, [name] * len(seeds), seeds))
        alarms = Counter(check for one in told for check in set(one.false))
        warned = sum(one.severities["warning"] > 0 for one in told)
        total, false = total + len(seeds), false + sum(bool(one.false) for one in told)
        print(f"| {name} | {len(seeds)} | {counted(alarms)} | {warned} |", flush=True)
    print(f"| all | {total} | {rate(false, total)} | |\n")


def fault_table(pool: ProcessPoolExecutor, seeds: range, faults: Sequence[Fault]) -> None:
    print("| planted fault | severity | strength | stated | found | false criticals |")
    print("| --- | --- | --- | --- | --- | --- |")
    planted = found = false = 0
    for fault in faults:
        for strength in fault.strengths:
            worlds = list(islice(cycle(fault.worlds), len(seeds)))
            kinds = [fault.name] * len(seeds), [strength] * len(seeds)
            told = list(pool.map(planted_one, *kinds, worlds, seeds))
            hits = sum(one.found for one in told)
            wrong = Counter(check for one in told for check in one.false)
            false += wrong.total()
            if fault.is_stated(strength):
                planted, found = planted + len(seeds), found + hits
            print(
                f"| {fault.name} | {fault.severity} | {fault.unit}: {strength:g} | "
                f"{'yes' if fault.is_stated(strength) else ''} | {hits} of {len(seeds)} | "
                f"{counted(wrong)} |",
                flush=True,
            )
    print(f"\nat the stated strengths recall is {rate(found, planted)}, and precision", end=" ")
    print(rate(found, found + false))


def counted(checks: Counter[str]) -> str:
    return ", ".join(f"{check}: {times}" for check, times in checks.items()) or "0"


def clean_one(name: str, seed: int) -> Told:
    world = WORLDS[name](seed)
    return judge(audit(world.patches, world.split), None)


def planted_one(name: str, strength: float, world: str, seed: int) -> Told:
    fault = next(one for one in ALL if one.name == name)
    planted = fault.plant(clean_world(world, seed), strength, np.random.default_rng(seed))
    return judge(audit(planted.patches, planted.split), fault)


@lru_cache(maxsize=32)
def clean_world(name: str, seed: int) -> World:
    return WORLDS[name](seed)


def judge(told: Audit, fault: Fault | None) -> Told:
    """Count the fault as found at the expected severity; criticals of other checks are false."""
    checks, right = ((), ()) if fault is None else (fault.checks, fault.checks + fault.beside)
    bad = SEVERITIES[: 1 if fault is None else SEVERITIES.index(fault.severity) + 1]
    return Told(
        found=any(one.check in checks and one.severity in bad for one in told.findings),
        false=tuple(
            one.check
            for one in told.findings
            if one.severity == "critical" and one.check not in right
        ),
        severities=Counter(one.severity for one in told.findings),
    )


def rate(part: int, whole: int) -> str:
    ends = binomtest(part, whole).proportion_ci(method="wilson")
    share = f"{100 * part / whole:.1f} % [{100 * ends.low:.1f}, {100 * ends.high:.1f}]"
    return f"{part} of {whole}: {share}"


if __name__ == "__main__":
    main()
