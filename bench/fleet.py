"""A deployment on Kafka with any number of processes of each role, started together and told to stop together.

It refuses to know what is measured on it.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal

from bench.stage import Broker
from bench.systems import Deployment, Process, Role, cpu_seconds_of, free_port

__all__ = ["READY", "ROLES", "Fleet", "RoleName", "Shape", "cpu_of"]

RoleName = Literal["orchestrator", "worker", "gateway"]
ROLES: Sequence[RoleName] = ("orchestrator", "worker", "gateway")
APP = "bench.app"
READY = "ready"


@dataclass(frozen=True, slots=True)
class Shape:
    """How many processes of each role."""

    orchestrators: int = 1
    workers: int = 1
    gateways: int = 1

    def __str__(self) -> str:
        return f"{self.orchestrators}/{self.workers}/{self.gateways}"

    def count(self, role: RoleName) -> int:
        """Give how many of one role."""
        return {"orchestrator": self.orchestrators, "worker": self.workers, "gateway": self.gateways}[role]


class Fleet:
    """The processes of one deployment. The stack ends them, all at once."""

    def __init__(self, stack: ExitStack, deployment: Deployment, app: str = APP) -> None:
        self._stack = stack
        self._deployment = deployment
        self._app = app
        self.processes: dict[RoleName, list[Process]] = {role: [] for role in ROLES}
        self.ports: list[int] = []
        """Where the gateways listen."""

    def start(self, shape: Shape) -> None:
        """Start processes and wait until all serve. Raises `NotStarted`."""
        for role in ROLES:
            # Role by role: to start a dozen at once takes two cores longer than any of them may take.
            begun = [self.begin(role) for _ in range(shape.count(role))]
            for process in begun:
                process.wait_until(READY)
        self._stack.callback(self._tell_all)

    def begin(self, role: RoleName) -> Process:
        """Start one more process of a role; whether it serves yet its own `wait_until(READY)` says."""
        port = free_port() if self.ports else self._deployment.port
        process = self._deployment.start(self._stack, self._named(role, port))
        self.processes[role].append(process)
        if role == "gateway":
            self.ports.append(port)
        return process

    @property
    def every(self) -> Sequence[Process]:
        """All processes."""
        return [process for processes in self.processes.values() for process in processes]

    def _named(self, role: RoleName, port: int) -> Role:
        found = next(one for one in self._deployment.roles(port) if one.name == role)
        return replace(found, command=[self._app if part == APP else part for part in found.command])

    def _tell_all(self) -> None:
        """Send the signal to all before anybody is waited for."""
        for process in self.every:
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGTERM)


def cpu_of(fleet: Fleet, broker: Broker) -> dict[str, float]:
    """Give the CPU seconds that each role, and a broker of ours, have used until now."""
    used: dict[str, float] = {role: sum(each.cpu_seconds for each in fleet.processes[role]) for role in ROLES}
    if broker.pid is not None:
        used["broker"] = cpu_seconds_of(broker.pid)
    return used
