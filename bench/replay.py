"""The part about the past: 10,000 events read from the beginning by one client, by a process that never read them, and
by one in which another viewer has them open.

The sessions are written first. Then another process serves them: `playhead dev` started again on the same folder, a
second `playhead gateway` beside the first. `memory` has no second process; its figures are what the client can take.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench.scenarios import AGENTS, parse
from bench.stage import Broker, Stage, ask, in_turn, say
from bench.systems import Process, free_port, start_deployment

__all__ = ["measure"]

AGAIN = 5
"""How often a session is read while the first reader stays; its figure is the median."""


@dataclass(frozen=True, slots=True)
class Library:
    """What a system serves: its port, and sessions that nobody has read from it. The first is for warming up."""

    port: int
    sessions: Sequence[tuple[str, int]]


def measure(stage: Stage, names: Sequence[str]) -> None:
    """Write sessions, and read a new one from each system in each round."""
    with stage.broker() as broker, ExitStack() as stack:
        libraries = {name: _written(stage, stack, name, broker) for name in names}
        for name in names:
            _read(stage, name, libraries[name], 0)
        for number in range(1, stage.plan.rounds + 1):
            say(f"replay: round {number} of {stage.plan.rounds}")
            for name in in_turn(number, names):
                said = _read(stage, name, libraries[name], number)
                if said is not None:
                    cold, warm = said
                    stage.result.add(name, "replay_cold", cold / 1000)
                    stage.result.add(name, "replay_warm", warm / 1000)


def _read(stage: Stage, name: str, library: Library, number: int) -> tuple[float, float] | None:
    """Read one session; give events per second, cold and warm."""
    if number >= len(library.sessions):
        return None  # it could not be written, which was said
    session, last = library.sessions[number]
    which = ["--session", session, "--last", str(last), "--again", str(AGAIN)]
    said = ask("taking", "--port", str(library.port), *which)
    stage.problem(name, "replay", *said["problems"])
    return None if said["problems"] else (last / said["cold_seconds"], last / said["warm_seconds"])


def _written(stage: Stage, stack: ExitStack, name: str, broker: Broker | None) -> Library:
    say(f"replay: {name} writes")
    deployment = stage.deployment(name, broker)
    with ExitStack() as first:
        # A deployment on Kafka goes on running; `playhead dev` ends, and is started again.
        system = start_deployment(stack if name != "embedded" else first, deployment)
        sessions: list[tuple[str, int]] = []
        for _ in range(stage.plan.rounds + 1):
            taken = ask("taking", "--port", str(system.port), "--agent", "flood")
            expected = parse(AGENTS["flood"]).deltas_of_run
            if taken["problem"] or taken["deltas"] != expected:
                stage.problem(name, "replay, writing", taken["problem"] or f"{taken['deltas']} of {expected} deltas")
            else:
                sessions.append((taken["session"], taken["last_seq"]))
    if name == "memory":
        return Library(system.port, sessions)
    port = free_port()
    role = deployment.roles(port)[-1]
    process: Process = deployment.start(stack, role)
    process.wait_until(role.ready)
    process.wait_until(port)
    return Library(port, sessions)
