"""What the fake model is asked to do: a script is written as the name of a model, so it reaches the provider unaided.

`bench-f20-d40-r50` is: 20 ms until the first delta, then 40 deltas at 50 a second. `bench-tools2-w50-d5-r50` asks,
after its first five deltas, for two parallel tools of 50 ms each, and answers with five more once it has their results.
`h20` holds each delta back for 20 ms after stamping it: a known delay, for testing the harness itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["AGENTS", "SAMPLES", "TOOL_NAMES", "Script", "parse"]

TOOL_NAMES = ("look_up", "measure")
"""The tools that every agent of the benchmark has; each sleeps for as long as its input says."""

_FLAGS = {"d": "deltas", "r": "rate", "f": "first_ms", "h": "held_ms", "w": "wait_ms"}
_PART = re.compile(r"(tools|[drfhw])([0-9]{1,6})")


@dataclass(frozen=True, slots=True)
class Script:
    """What the model does in one run."""

    deltas: int = 40
    rate: int = 50
    """Deltas per second; 0 is as fast as the connection takes them."""
    first_ms: int = 20
    held_ms: int = 0
    tools: int = 0
    wait_ms: int = 50

    @property
    def steps(self) -> int:
        """How many model calls a run makes."""
        return 2 if self.tools else 1

    @property
    def deltas_of_run(self) -> int:
        """How many text deltas a client must receive."""
        return self.deltas * self.steps


def parse(model: str) -> Script:
    """Read a model's name. Raises `ValueError` if it is not one of the benchmark's."""
    head, *parts = model.split("-")
    if head != "bench":
        raise ValueError(f"{model!r} is not a model of the benchmark")
    given: dict[str, int] = {}
    for part in parts:
        found = _PART.fullmatch(part)
        if found is None:
            raise ValueError(
                f"{model!r}: {part!r} means nothing; the parts are tools, {', '.join(_FLAGS)} and a number"
            )
        given[_FLAGS.get(found[1], found[1])] = int(found[2])
    if given.get("tools", 0) > len(TOOL_NAMES):
        raise ValueError(f"{model!r}: there are {len(TOOL_NAMES)} tools")
    return Script(**given)


AGENTS = {
    "stream": "bench-f20-d100-r50",
    "crowd": "bench-f20-d40-r50",
    "tools": "bench-tools2-w50-f20-d5-r50",
    "flood": "bench-f20-d10000-r0",
    "burst": "bench-f20-d2000-r0",
    "crash": "bench-f20-d300-r100",
    "live": "bench-f20-d30-r2",
    "few": "bench-f20-d12-r2",
    "spate": "bench-f20-d5000-r0",
}
"""The agents that every system under test serves, and their models."""

SAMPLES = {
    "short": "bench-f20-d10-r50",
    "late": "bench-f120-d10-r50",
    "held": "bench-f20-d10-r50-h20",
    "paced": "bench-f20-d100-r200",
}
"""Agents that only the harness's own tests use; *plain* and *memory* serve them too."""
