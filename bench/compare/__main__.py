"""Measures Playhead and its references beside other ways to the same end: `python -m bench.compare`, or `make compare`.

All systems are asked by the same client for the same work of the same fake model, round after round, every other round
the other way. Crashes come last, each system alone. What cannot be run here is named with the reason, and the others go
on. `bench/README.md` says what the rows mean.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from bench.compare.comparison import render
from bench.compare.measuring import PARTS, ROUNDS, SYSTEMS, compare
from bench.compare.peers import PEERS, versions
from bench.machine import machine, store
from bench.systems import ROOT

__all__ = ["lines", "main", "together"]

MERGED = ("versions", "commands", "skipped")


def lines(stored: Mapping[str, Any]) -> list[str]:
    """Write what was measured, and on what."""
    result = stored["result"]
    order = [name for name in SYSTEMS if name in result["figures"]]
    said = [", ".join(f"{name} {value}" for name, value in stored["machine"].items()), ""]
    said += [f"{name}: {versions}" for name, versions in stored["versions"].items()]
    said += ["", *(f"{name}$ {command}" for name, commands in stored["commands"].items() for command in commands)]
    said += ["", render({name: result["figures"][name] for name in order}), ""]
    said.append("median of the rounds (least–greatest); × is to plain, in the row of bursts to memory")
    said += result["notes"]
    said += [f"{name} could not be run here: {reason}" for name, reason in stored["skipped"].items()]
    return said + [f"PROBLEM: {problem}" for problem in result["problems"]]


def together(stored: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Make one of several results: parts that were measured one after another, on the first one's machine."""
    figures: dict[str, dict[str, list[float]]] = {}
    for each in stored:
        for name, rows in each["result"]["figures"].items():
            figures.setdefault(name, {}).update(rows)
    result = {key: [said for each in stored for said in each["result"][key]] for key in ("notes", "problems")}
    merged = {key: {name: value for each in stored for name, value in each[key].items()} for key in MERGED}
    return {**stored[0], **merged, "result": {**result, "figures": figures}}


def _end(_number: int, _frame: object) -> None:
    sys.exit(1)


def _versions(name: str) -> str:
    ours = {package: version(package) for package in ("playhead", "anthropic", "uvicorn")}
    return ", ".join(f"{package} {found}" for package, found in (versions(name) if name in PEERS else ours).items())


def main() -> int:
    """Compare; exit with 1 if a run was not whole."""
    signal.signal(signal.SIGTERM, _end)
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--systems", default=",".join(SYSTEMS), help=f"some of {','.join(SYSTEMS)}")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--show", nargs="+", type=Path, metavar="FILE", help="only show what is stored")
    arguments = parser.parse_args()
    if arguments.show:
        print("\n".join(lines(together([orjson.loads(path.read_bytes()) for path in arguments.show]))))
        return 0
    names, parts = arguments.systems.split(","), arguments.only.split(",")
    if unknown := (set(names) - set(SYSTEMS)) | (set(parts) - set(PARTS)):
        parser.error(f"{', '.join(sorted(unknown))}: choose from {', '.join((*SYSTEMS, *PARTS))}")
    where = machine()
    comparison = compare(names, parts, arguments.rounds)
    stored = {
        "machine": where,
        "rounds": arguments.rounds,
        "versions": {name: _versions(name) for name in comparison.running},
        "commands": comparison.commands,
        "skipped": comparison.skipped,
        "result": asdict(comparison.result),
    }
    path = store("compare", where, stored)
    print("\n".join(lines(stored)))
    print(f"stored in {path.relative_to(ROOT)}")
    return 1 if comparison.result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
