"""The guard, which stays outside, and the keeper, the first process inside the namespaces, where there are any.

It fails closed: what the spec demands and the system then refuses is reported on REPORT as `refused WHY`, and the
command does not run. In the end it reports `ended EXIT_CODE`. A byte on CONTROL, or its end because the worker died,
ends everything; after a worker's death the guard removes the run's folder too.
"""

from __future__ import annotations

import marshal
import os
import select
import sys
import time

from . import START
from .confine import become_command
from .kernel import LINUX, PR, SIGKILL, SIGSTOP, RefusedError, demand, process_control
from .namespaces import build_root, enter_namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from playhead_tool_workers.confinement import Spec

__all__ = ["main"]

REFUSED_CODE = 125
REPORT_BYTES_MAX = 2048
KILL_ROUND_SECONDS = 0.002
"""Between two rounds of ending what is left. How many rounds there are is limited by the worker's patience."""
POLL_SECONDS = 0.01
"""How often to look after the command where the system has no file that tells of its end."""


def main() -> None:
    """Be the guard; with a fourth argument, the keeper that a wrapper has started inside its namespaces."""
    spec_file, report, control, *status = map(int, sys.argv[1:])
    try:
        spec: Spec = marshal.loads(os.pread(spec_file, os.fstat(spec_file).st_size, 0))
        for file in (report, control, *status):
            os.set_inheritable(file, False)
        if status:
            keep(spec, report, status[0])
        code = guard(spec, (spec_file, report, control))
    except (OSError, RefusedError, ValueError, MemoryError) as error:
        refuse(report, error)
    os.write(report, f"ended {code}\n".encode())


def guard(spec: Spec, files: tuple[int, int, int]) -> int:
    """Start the command, or its keeper. At its end, or at the worker's word, end what is left. Return the exit code."""
    spec_file, report, control = files
    if LINUX:
        demand("PR_SET_CHILD_SUBREAPER", process_control(PR.SET_CHILD_SUBREAPER, 1))
    if spec["level"] in ("landlock", "limits"):
        spec["processes"] += count_tasks(spec["user"] if spec["user"] >= 0 else os.geteuid())
    if spec["level"] == "namespaces":
        enter_namespaces(spec)
    status_read, status_write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if spec["wrapper"]:
                wrap(spec, (spec_file, report, control, status_write))
            os.close(control)
            os.close(status_read)
            if spec["level"] == "namespaces":
                keep(spec, report, status_write)
            become_command(spec, report)
        except BaseException as error:  # noqa: BLE001 - whatever it is, this process must not go on as a second guard
            refuse(report, error)
    os.close(status_write)
    leave_streams()
    codes: dict[int, int] = {}
    wait(child, control, codes)
    end_all(child, codes)
    status = os.read(status_read, 64)
    if select.select([control], [], [], 0)[0] and not os.read(control, 1):
        remove(spec["base"])
    if spec["wrapper"] and not status:
        raise RefusedError(f"{spec['wrapper'][0]} ended with {codes[child]} before the command began")
    return int(status[1:] or codes[child])


def wait(child: int, control: int, codes: dict[int, int]) -> None:
    """Return when the child has ended, or is to be ended."""
    try:
        ended = os.pidfd_open(child)
    except (AttributeError, OSError):
        while child not in codes and not select.select([control], [], [], POLL_SECONDS)[0]:
            reap(codes)
        return
    select.select([ended, control], [], [])
    os.close(ended)


def end_all(child: int, codes: dict[int, int]) -> None:
    """Kill whatever descends from us until nothing is left, and collect the exit codes."""
    while not reap(codes):
        # What is stopped starts nothing that the killing, which takes its time, would miss.
        for signal in (SIGSTOP, SIGKILL):
            for process in descendants(os.getpid()) if LINUX else (child, -child):
                try:  # noqa: SIM105 - see the package: no contextlib
                    os.kill(process, signal)
                except ProcessLookupError:
                    pass  # it has just ended by itself
        time.sleep(KILL_ROUND_SECONDS)


def reap(codes: dict[int, int]) -> bool:
    """Collect those that have ended. Return whether no child is left."""
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if process == 0:
            return False
        codes[process] = os.waitstatus_to_exitcode(status)


def descendants(ancestor: int) -> list[int]:
    """Find the processes that descend from one. Those whose parents ended are children of the guard: it adopts them."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb") as stat:
                    parent = int(stat.read().rpartition(b")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(name))
    found = [ancestor]
    for process in found:
        found += children.get(process, ())
    return found[1:]


def count_tasks(user: int) -> int:
    """Count the processes and threads of a user: the system's limit counts them all, not the command's alone."""
    tasks = 0
    for name in os.listdir("/proc") if LINUX else ():
        try:
            if name.isdecimal() and os.stat(f"/proc/{name}").st_uid == user:
                tasks += len(os.listdir(f"/proc/{name}/task"))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return tasks


def remove(base: str) -> None:
    """Remove a run's folder, as far as that goes, in the place of a worker that is no more."""
    import shutil  # noqa: PLC0415 - seldom needed, and not light

    shutil.rmtree(base, ignore_errors=True)


def wrap(spec: Spec, files: tuple[int, ...]) -> None:
    """Become the wrapper, which starts the keeper inside of the namespaces that it makes."""
    for file in files:
        os.set_inheritable(file, True)
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    keeper = [sys.executable, "-I", "-S", "-c", START, folder, *map(str, files)]
    os.execve(spec["wrapper"][0], [*spec["wrapper"], *keeper], {})


def keep(spec: Spec, report: int, status: int) -> None:
    """Be the keeper: see to it that the namespaces end with the command, and pass on how it ended. Does not return."""
    demand("PR_SET_DUMPABLE", process_control(PR.SET_DUMPABLE, 0))
    demand("PR_SET_PDEATHSIG", process_control(PR.SET_PDEATHSIG, SIGKILL))
    os.write(status, b"+")  # fails if the guard ended before we asked to end with it
    if not spec["wrapper"]:
        build_root(spec)
    child = os.fork()
    if child == 0:
        try:
            become_command(spec, report)
        except BaseException as error:  # noqa: BLE001 - this process must not go on as a second keeper
            refuse(report, error)
    leave_streams()
    codes: dict[int, int] = {}
    while child not in codes:
        process, ended = os.waitpid(-1, 0)
        codes[process] = os.waitstatus_to_exitcode(ended)
    os.write(status, str(codes[child]).encode())
    os._exit(0)


def leave_streams() -> None:
    """Let go of the command's streams, so that whoever is at their other end sees when the command does."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)


def refuse(report: int, error: BaseException) -> NoReturn:
    """Say why the command does not run, and end this process."""
    why = f"{type(error).__name__}: {error}" if not isinstance(error, RefusedError) else str(error)
    os.write(report, f"refused {why}\n".encode(errors="replace")[:REPORT_BYTES_MAX])
    os._exit(REFUSED_CODE)
