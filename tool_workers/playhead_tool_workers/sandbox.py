"""Runs the commands of tools, as confined as this system allows: finds out how far that is, starts, bounds, ends them.

What confines is set up by a program of its own (`jail`), between us and the command: nothing of it could be done safely
in a process with threads. This module knows that program by its three files: what it is told, what it reports,
and the one that tells it to end everything. It knows nothing of tools and calls.
"""

from __future__ import annotations

import asyncio
import ctypes
import marshal
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from playhead.content import Completed
from playhead.errors import Misconfigured
from playhead.options import Sandbox
from playhead.telemetry import logger

from playhead_tool_workers.confinement import JAIL, PATH, Command, Found, Level, Spec, spec_of
from playhead_tool_workers.jail import START
from playhead_tool_workers.seccomp import supports

__all__ = ["ALL", "Level", "Sandboxes"]

ALL = tuple(Level)

NOBODY = 65_534
PROBE_SECONDS = 10.0
END_SECONDS = 5.0
"""How long the jail may take to end everything before it is killed itself."""
DRAIN_SECONDS = 1.0
"""How long to wait for the end of the output when nothing is left that could write. Only what escaped keeps it open."""
REPORT_BYTES_MAX = 8_192
STDERR_SHOWN = 500

LANDLOCK_VERSION_LEAST = 3
"""Before it (Linux 6.2) files outside could be cut to nothing."""
LANDLOCK_CREATE_RULESET, LANDLOCK_VERSION = 444, 1

log = logger(__name__)


class RefusedError(Exception):
    """The jail did not run the command, and says why."""


class Sandboxes:
    """Runs commands in sandboxes. `allowed` are the levels that may be used; `Level.LIMITS` always may."""

    def __init__(self, *, allowed: Collection[Level] = ALL) -> None:
        self._allowed = frozenset({*allowed, Level.LIMITS})
        self._found: Found | None = None
        self._probing = asyncio.Lock()

    async def level(self) -> Level:
        """Tell the best level that works here. The first time, this tries it out by running a command."""
        return (await self._best()).level

    async def run(
        self,
        argv: Sequence[str],
        sandbox: Sandbox,
        *,
        seconds: float,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        """Run a command to its end, or for so many seconds. Cancelled, it ends the command first.

        `env` is added to the command's environment, which has nothing of ours. Raises `Misconfigured` if there is no
        such program, or if the system cannot confine it and the sandbox does not put up with that.
        """
        found = await self._best()
        if found.level is Level.LIMITS and not sandbox.unconfined:
            raise Misconfigured(
                "this system offers nothing that keeps a command from the network and from our files: install "
                "bubblewrap, allow user namespaces or use Linux 6.2 or later with Landlock; or declare the tool with "
                "Sandbox(unconfined=True) to run its commands all the same"
            )
        command = _command(argv, dict(env or {}))
        try:
            return await _surely(Run(found, sandbox, command, stdin, seconds))
        except RefusedError as refused:
            raise Misconfigured(f"the sandbox ({found.level}) did not run {argv[0]!r}: {refused}") from refused

    async def _best(self) -> Found:
        async with self._probing:
            if self._found is None:
                self._found = await self._probe()
            return self._found

    async def _probe(self) -> Found:
        refused: dict[str, str] = {}
        for found in await asyncio.to_thread(_offers):
            if found.level in self._allowed:
                why = await _try(found)
                if why is None:
                    log.info("sandbox level reached", level=found.level.value, landlock=found.landlock, refused=refused)
                    return found
                refused[found.level.value] = why
        raise Misconfigured(f"commands cannot even be run with limits here: {refused}")


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One command, with all that it needs."""

    found: Found
    sandbox: Sandbox
    command: Command
    stdin: bytes
    seconds: float
    stop: asyncio.Event = field(default_factory=asyncio.Event)


class Capture(asyncio.Protocol):
    """What came through a pipe, up to a bound. The rest is read and dropped, so that nobody waits to write."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._data = bytearray()
        self.truncated = False
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """Keep what there is room for."""
        room = self._bytes_max - len(self._data)
        self._data += data[:room]
        self.truncated = self.truncated or len(data) > room

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that nobody can write any more."""
        self.ended.set()

    def text(self) -> str:
        """Decode what was kept."""
        return self._data.decode(errors="replace")


def _command(argv: Sequence[str], env: Mapping[str, str]) -> Command:
    """Find the program. Raises `Misconfigured` if there is none."""
    if os.name != "posix":
        raise Misconfigured("tools can run commands on Linux and other Unix systems only")
    if not argv:
        raise Misconfigured("a command has at least a program")
    program = shutil.which(argv[0], path=env.get("PATH", PATH))
    if program is None or not Path(program).is_absolute():
        raise Misconfigured(f"there is no program {argv[0]!r}: name one on {PATH}, or one by its whole path")
    return Command(program, argv, env)


def _offers() -> list[Found]:
    """List what this system may offer, best first. Whether it does is found out by trying."""
    machine = platform.machine()
    if sys.platform != "linux":
        return [Found(Level.LIMITS, machine)]
    landlock = max(0, ctypes.CDLL(None).syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_VERSION))
    user = NOBODY if os.geteuid() == 0 else -1
    offers: list[Found] = []
    bwrap = shutil.which("bwrap")
    if bwrap is not None:
        offers.append(Found(Level.BUBBLEWRAP, machine, landlock, user, bwrap))
    offers.append(Found(Level.NAMESPACES, machine, landlock, user))
    if landlock >= LANDLOCK_VERSION_LEAST and supports(machine):
        offers.append(Found(Level.LANDLOCK, machine, landlock, user))
    offers.append(Found(Level.LIMITS, machine, user=user))
    if user >= 0:
        offers.append(Found(Level.LIMITS, machine))  # where root may not change users
    return offers


async def _try(found: Found) -> str | None:
    """Run a command that sees whether its folder is writable and a file outside is not readable. Say what is wrong."""
    with tempfile.TemporaryDirectory(prefix="playhead-") as folder:
        outside = Path(folder) / "outside"
        await asyncio.to_thread(outside.write_text, "not to be read in a sandbox")
        await asyncio.to_thread(os.chmod, folder, 0o755)
        test = ": >inside" if found.level is Level.LIMITS else ': >inside && ! (: <"$1") 2>/dev/null'
        command = Command("/bin/sh", ("sh", "-c", test, "sh", str(outside)), {})
        try:
            completed = await _surely(Run(found, Sandbox(unconfined=True), command, b"", PROBE_SECONDS))
        except RefusedError as refused:
            return str(refused)
    if completed.timed_out:
        return f"a command took more than {PROBE_SECONDS} s"
    return (
        None if completed.exit_code == 0 else f"it does not confine: {completed.exit_code} {completed.stderr}".strip()
    )


async def _surely(run: Run) -> Completed:
    """Carry out a run. When we are cancelled, it is stopped, and we wait for that, for `END_SECONDS` or so."""
    running = asyncio.create_task(_carry_out(run))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        run.stop.set()
        while not running.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({running})
        if not running.cancelled():
            running.exception()  # how it ended is of no interest any more
        raise


async def _carry_out(run: Run) -> Completed:
    base = await asyncio.to_thread(_make_base, run.found.user)
    try:
        return await _in_jail(run, await asyncio.to_thread(spec_of, run.found, run.sandbox, run.command, base))
    finally:
        await asyncio.to_thread(_remove, base)


async def _in_jail(run: Run, spec: Spec) -> Completed:
    bytes_max = run.sandbox.output_bytes
    captures = out, err, report = Capture(bytes_max), Capture(bytes_max), Capture(REPORT_BYTES_MAX)
    with ExitStack() as ours, ExitStack() as theirs:
        spec_file = await asyncio.to_thread(_file, theirs, marshal.dumps(dict(spec)))
        heard, control = _pipe(theirs, ours)
        # Not the subprocess module's own pipes: uvloop's are sockets, which cannot be opened as /dev/stdout.
        writers = [await _captured(capture, ours, theirs) for capture in captures]
        stdin = await _fed(run.stdin, ours, theirs)
        if run.found.user >= 0:
            for stream in (stdin, *writers[:2]):
                os.fchown(stream, run.found.user, -1)
        files = (spec_file.fileno(), writers[2], heard)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", START, str(Path(JAIL).parent), *map(str, files)),
            stdin=stdin,
            stdout=writers[0],
            stderr=writers[1],
            cwd="/",
            env={},
            pass_fds=files,
            start_new_session=True,
        )
        theirs.close()
        timed_out = await _wait(process, run, control)
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                for capture in captures:
                    await capture.ended.wait()
    exit_code = _exit_code(report.text(), process.returncode, run, timed_out=timed_out, stderr=err.text())
    return Completed(exit_code, out.text(), err.text(), out.truncated or err.truncated, timed_out)


async def _wait(process: asyncio.subprocess.Process, run: Run, control: int) -> bool:
    """Wait for the end, and bring it about when the time is up or the run is stopped. Return whether time was up."""
    async with asyncio.TaskGroup() as group:
        ended, stopped = group.create_task(process.wait()), group.create_task(run.stop.wait())
        await asyncio.wait({ended, stopped}, timeout=run.seconds, return_when=asyncio.FIRST_COMPLETED)
        timed_out = not ended.done() and not stopped.done()
        if not ended.done():
            with suppress(BrokenPipeError):
                os.write(control, b".")
            await asyncio.wait({ended}, timeout=END_SECONDS)
        if not ended.done():
            log.warning("a sandbox did not end what ran in it", program=run.command.program, seconds=END_SECONDS)
            with suppress(ProcessLookupError):
                process.kill()
        stopped.cancel()
    return timed_out


def _exit_code(report: str, returncode: int | None, run: Run, *, timed_out: bool, stderr: str) -> int:
    """Read the jail's report: how the command ended, or why it did not run. Raises `RefusedError`."""
    for line in report.splitlines():
        word, _, rest = line.partition(" ")
        if word == "refused":
            raise RefusedError(f"{rest} {stderr[-STDERR_SHOWN:]}".strip())
        if word == "ended":
            return int(rest)
    if timed_out or run.stop.is_set() or (returncode is not None and returncode < 0):
        return returncode or -9  # the jail was killed, by us or by a system short of memory, and the command with it
    raise RefusedError(f"the jail itself failed with {returncode}: {stderr[-STDERR_SHOWN:]}")


async def _captured(capture: Capture, ours: ExitStack, theirs: ExitStack) -> int:
    """Capture what is written to the file that is returned."""
    read, write = os.pipe()
    theirs.callback(os.close, write)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: capture, os.fdopen(read, "rb", 0))
    ours.callback(transport.close)
    return write


async def _fed(content: bytes, ours: ExitStack, theirs: ExitStack) -> int:
    """Write the content to the file that is returned, as it is read."""
    read, write = os.pipe()
    theirs.callback(os.close, read)
    transport, _ = await asyncio.get_running_loop().connect_write_pipe(asyncio.BaseProtocol, os.fdopen(write, "wb", 0))
    # A transport that has written all and closed itself must not be closed again.
    ours.callback(lambda: transport.abort() if transport.get_write_buffer_size() else None)
    transport.write(content)
    transport.close()
    return read


def _pipe(reader: ExitStack, writer: ExitStack) -> tuple[int, int]:
    read, write = os.pipe()
    reader.callback(os.close, read)
    writer.callback(os.close, write)
    return read, write


def _file(stack: ExitStack, content: bytes) -> BinaryIO:
    """Make a file without a name, to be read from its start."""
    file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    file.write(content)
    file.seek(0)
    return file


def _make_base(user: int) -> str:
    """Make the run's folder, with the private folder in it, for the user that the command becomes."""
    base = Path(tempfile.mkdtemp(prefix="playhead-")).resolve()
    for name in ("home", "root"):
        (base / name).mkdir(mode=0o700)
    if user >= 0:
        base.chmod(0o711)
        os.chown(base / "home", user, user)
    return str(base)


def _remove(base: str) -> None:
    """Remove the run's folder, also where the command has locked us out of its own folders."""
    try:
        shutil.rmtree(base)
    except OSError:
        for folder, names, _ in os.walk(base):
            for name in names:
                path = Path(folder) / name
                if not path.is_symlink():
                    path.chmod(0o700)
        shutil.rmtree(base, ignore_errors=True)
    if Path(base).exists():
        log.warning("a sandbox's folder could not be removed", folder=base)
