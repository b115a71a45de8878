"""What a sandboxed command can do and cannot, at every level that this system offers."""

from __future__ import annotations

import asyncio
import gc
import marshal
import os
import platform
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import uvloop
from playhead.errors import Misconfigured
from playhead.options import Sandbox
from playhead_tool_workers.confinement import JAIL, PATH, Command, Found, Spec, bubblewrap, spec_of
from playhead_tool_workers.jail import START
from playhead_tool_workers.sandbox import Level, Sandboxes
from playhead_tool_workers.seccomp import INTERNET, NONE, OWN_NETWORK, system_call_filter

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sandboxes confine on Linux")

SECONDS = 10.0
WAIT_SECONDS = 5.0
# Not the interpreter of the tests: that may be in a folder of root's own, where the user that root's commands become
# cannot go.
PYTHON = shutil.which("python3", path=PATH) or sys.executable
CONFINED = [level for level in Level if level is not Level.LIMITS]


async def at(level: Level) -> Sandboxes:
    sandboxes = Sandboxes(allowed=[level])
    if await sandboxes.level() is not level:
        pytest.skip(f"this system has no {level}")
    return sandboxes


@pytest.fixture(params=list(Level), ids=str)
async def any_level(request: pytest.FixtureRequest) -> Sandboxes:
    return await at(request.param)


@pytest.fixture(params=CONFINED, ids=str)
async def confined(request: pytest.FixtureRequest) -> Sandboxes:
    return await at(request.param)


@pytest.fixture
def outside() -> Generator[Path, None, None]:
    """A folder that everybody on the system may read and write, and no sandbox shows."""
    with tempfile.TemporaryDirectory(prefix="outside-") as name:
        Path(name).chmod(0o777)
        file = Path(name) / "file"
        file.write_text("secret\n")
        file.chmod(0o666)
        yield Path(name)


@pytest.fixture
async def tcp() -> AsyncGenerator[int, None]:
    """The port of a server that says hello."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def python(code: str, *arguments: object) -> list[str]:
    return [PYTHON, "-I", "-S", "-c", code, *map(str, arguments)]


def box(**options: object) -> Sandbox:
    return Sandbox(unconfined=True, **options)  # pyright: ignore[reportArgumentType] - the tests name real options


def marked(mark: str) -> list[psutil.Process]:
    """The processes, of whomever, that have the mark in their command line. Zombies have none."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if mark in process.cmdline():
                found.append(process)
    return found


def commands(mark: str) -> list[psutil.Process]:
    """Those of the marked processes that run the command, not what starts it."""
    return [process for process in marked(mark) if process.cmdline()[:1] == [PYTHON]]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not holds():  # noqa: ASYNC110 - nothing tells of the end of processes that are not ours
            await asyncio.sleep(0.01)


def mark() -> str:
    return f"mark-{os.getpid()}-{time.monotonic_ns()}"


async def test_it_returns_what_the_command_wrote_and_how_it_ended(any_level: Sandboxes):
    script = "cat; echo oops >&2; exit 3"
    completed = await any_level.run(["sh", "-c", script], box(), seconds=SECONDS, stdin=b"in")
    assert (completed.exit_code, completed.stdout, completed.stderr) == (3, "in", "oops\n")
    assert not completed.truncated
    assert not completed.timed_out
    killed = await any_level.run(["sh", "-c", "kill -TERM $$"], box(), seconds=SECONDS)
    assert killed.exit_code == -signal.SIGTERM


async def test_a_command_that_does_not_read_its_input_does_not_hang(any_level: Sandboxes):
    completed = await any_level.run(["true"], box(), seconds=SECONDS, stdin=b"x" * 1_000_000)
    assert completed.exit_code == 0


async def test_a_broken_pipe_inside_ends_quietly_because_signals_have_their_usual_meaning(any_level: Sandboxes):
    completed = await any_level.run(["sh", "-c", "yes | head -n 1"], box(), seconds=SECONDS)
    assert (completed.stdout, completed.stderr) == ("y\n", "")


async def test_the_environment_is_its_own(any_level: Sandboxes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PLAYHEAD_CANARY", "sings")
    completed = await any_level.run(["env"], box(), seconds=SECONDS, env={"GIVEN": "yes"})
    variables = dict(line.split("=", 1) for line in completed.stdout.splitlines())
    home = variables["HOME"]
    assert variables == {"PATH": PATH, "HOME": home, "TMPDIR": home, "LANG": "C.UTF-8", "GIVEN": "yes"}
    assert "playhead-" in home


async def test_its_folder_is_writable_is_where_it_starts_and_is_gone_afterwards(any_level: Sandboxes):
    script = 'test "$PWD" = "$HOME" && echo x > file && mkdir -p locked/in && chmod 0 locked && pwd'
    completed = await any_level.run(["sh", "-c", script], box(), seconds=SECONDS)
    assert completed.exit_code == 0, completed
    assert not Path(completed.stdout.strip()).parent.exists()


async def test_files_outside_can_be_neither_read_nor_written_nor_cut_nor_removed(confined: Sandboxes, outside: Path):
    code = """
import os, sys
path = sys.argv[1]
for attempt in (
    lambda: open(path).read(), lambda: open(path, "a"), lambda: os.truncate(path, 0), lambda: os.unlink(path),
    lambda: os.listdir(os.path.dirname(path)), lambda: open(path + "2", "w"), lambda: os.rename(path, path + "3"),
    lambda: os.link(path, "here"), lambda: open("/etc/passwd").read(), lambda: os.listdir("/"),
    lambda: open("/usr/playhead", "w"), lambda: open("/proc/1/environ").read(),
):
    try:
        attempt()
    except OSError:
        print("no")
    else:
        print("yes")
"""
    completed = await confined.run(python(code, outside / "file"), Sandbox(), seconds=SECONDS)
    assert completed.stdout.split() == ["no"] * 12, completed
    assert (outside / "file").read_text() == "secret\n"
    assert os.listdir(outside) == ["file"]  # noqa: PTH208


async def test_folders_that_it_was_given_can_be_read_or_written_as_declared(confined: Sandboxes, outside: Path):
    script = 'cat "$1/file"; echo more >> "$1/file"; echo $?'
    command = ["sh", "-c", script, "sh", str(outside)]
    reading = await confined.run(command, Sandbox(read=[str(outside)]), seconds=SECONDS)
    assert reading.stdout.split() == ["secret", "2"], reading
    writing = await confined.run(command, Sandbox(write=[str(outside)]), seconds=SECONDS)
    assert writing.stdout.split() == ["secret", "0"], writing
    assert (outside / "file").read_text() == "secret\nmore\n"
    with pytest.raises(Misconfigured, match="read names folders that exist"):
        await confined.run(["true"], Sandbox(read=[str(outside / "none")]), seconds=SECONDS)


async def test_no_file_of_ours_is_open_in_it(any_level: Sandboxes, outside: Path):
    code = """
import os
for number in range(256):
    try:
        os.fstat(number)
    except OSError:
        continue
    print(number)
"""
    with (outside / "file").open() as ours:
        os.set_inheritable(ours.fileno(), True)
        completed = await any_level.run(python(code), box(), seconds=SECONDS)
    assert completed.stdout.split() == ["0", "1", "2"]


CONNECT = """
import socket, sys
kind, port = sys.argv[1], int(sys.argv[2])
try:
    if kind == "tcp":
        print(socket.create_connection(("127.0.0.1", port), 3).recv(5).decode())
    elif kind == "udp":
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"hello", ("127.0.0.1", port))
        print("sent")
    elif kind == "unix":
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"hello", sys.argv[3])
        print("sent")
    elif kind == "pair":
        socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b"hello", sys.argv[3])
        print("sent")
    else:
        socket.socket(getattr(socket, kind), socket.SOCK_RAW if kind == "AF_PACKET" else socket.SOCK_STREAM)
        print("made")
except OSError as error:
    print("refused")
"""


async def test_without_the_network_there_is_no_tcp_no_udp_and_nothing_else(
    confined: Sandboxes, tcp: int, outside: Path
):
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unix,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract,
    ):
        udp.bind(("127.0.0.1", 0))
        unix.bind(str(outside / "socket"))
        (outside / "socket").chmod(0o777)
        abstract.bind("\0" + mark())
        name = abstract.getsockname()[1:].decode()
        for kind, port, path in (
            ("tcp", tcp, ""),
            ("udp", udp.getsockname()[1], ""),
            ("unix", 0, str(outside / "socket")),
            ("pair", 0, str(outside / "socket")),
            ("AF_PACKET", 0, ""),
            ("AF_VSOCK", 0, ""),
        ):
            completed = await confined.run(python(CONNECT, kind, port, path), Sandbox(), seconds=SECONDS)
            if kind == "udp" and await confined.level() is Level.BUBBLEWRAP:
                assert completed.stdout == "sent\n", completed  # to a loopback of its own
            else:
                assert completed.stdout == "refused\n", (kind, completed)
        for receiver in (udp, unix, abstract):
            receiver.setblocking(False)
            with pytest.raises(BlockingIOError):
                receiver.recv(5)
        code = CONNECT.replace("sys.argv[3]", "chr(0) + sys.argv[3]")
        for kind in ("unix", "pair"):
            for network in (False, True):
                sandbox = Sandbox(network=network)
                completed = await confined.run(python(code, kind, 0, name), sandbox, seconds=SECONDS)
                assert completed.stdout == "refused\n", (kind, network, completed)


async def test_with_the_network_it_reaches_loopback(confined: Sandboxes, tcp: int):
    completed = await confined.run(python(CONNECT, "tcp", tcp), Sandbox(network=True), seconds=SECONDS)
    assert completed.stdout == "hello\n", completed
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(WAIT_SECONDS)
        command = python(CONNECT, "udp", udp.getsockname()[1])
        assert (await confined.run(command, Sandbox(network=True), seconds=SECONDS)).stdout == "sent\n"
        assert await asyncio.to_thread(udp.recv, 5) == b"hello"


async def test_it_cannot_make_namespaces_trace_or_gain_privileges(confined: Sandboxes):
    code = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for call in (
    lambda: libc.unshare(0x10000000), lambda: libc.ptrace(0, 0, 0, 0), lambda: libc.syscall(425, 8, bytes(120)),
    lambda: libc.mount(b"none", b".", b"tmpfs", 0, None), lambda: libc.setuid(0), lambda: libc.syscall(56, 0x10000011),
):
    print(call())
for line in open("/proc/self/status") if "proc" in __import__("sys").argv else ():
    if line.startswith(("CapEff", "CapPrm", "NoNewPrivs")):
        print(int(line.split()[1], 16))
"""
    arguments = () if await confined.level() is Level.LANDLOCK else ("proc",)
    completed = await confined.run(python(code, *arguments), Sandbox(), seconds=SECONDS)
    assert completed.stdout.split()[:6] == ["-1"] * 6, completed
    assert completed.stdout.split()[6:] == (["0", "0", "1"] if arguments else [])


async def test_memory_is_limited(any_level: Sandboxes):
    command = python("bytearray(200_000_000)")
    assert (await any_level.run(command, box(), seconds=SECONDS)).exit_code == 0
    completed = await any_level.run(command, box(memory_mb=100), seconds=SECONDS)
    assert completed.exit_code == 1
    assert "MemoryError" in completed.stderr


async def test_processor_time_is_limited(any_level: Sandboxes):
    completed = await any_level.run(python("while True: pass"), box(cpu_seconds=1), seconds=SECONDS)
    assert completed.exit_code == -signal.SIGXCPU
    assert not completed.timed_out


async def test_the_size_of_a_file_is_limited(any_level: Sandboxes):
    completed = await any_level.run(
        ["sh", "-c", "exec head -c 2000000 /dev/zero > file"], box(file_mb=1), seconds=SECONDS
    )
    assert completed.exit_code == -signal.SIGXFSZ


async def test_the_number_of_processes_is_limited(any_level: Sandboxes):
    code = """
import os, time
try:
    for number in range(16):
        if os.fork() == 0:
            time.sleep(60)
except BlockingIOError:
    pass
print(number)
"""
    completed = await any_level.run(python(code), box(processes=8), seconds=SECONDS)
    # Where the system counts all processes of the user, others come and go meanwhile.
    assert 5 <= int(completed.stdout) <= 10, completed


async def test_output_is_bounded_and_never_blocks_the_command(any_level: Sandboxes):
    script = "head -c 3000000 /dev/zero | tr '\\0' x; echo end >&2"
    completed = await any_level.run(["sh", "-c", script], box(output_bytes=1000), seconds=SECONDS)
    assert completed.exit_code == 0
    assert completed.stdout == "x" * 1000
    assert completed.stderr == "end\n"
    assert completed.truncated


# Two generations, each in a session of its own, that ignore every signal that can be ignored.
DETACHED = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
for generation in range(2):
    if os.fork():
        break
    os.setsid()
print("up", flush=True)
time.sleep(60) if sys.argv[2] == "stay" or generation else os._exit(0)
"""


async def test_when_its_time_is_up_everything_it_started_is_ended(any_level: Sandboxes):
    sign = mark()
    # Long enough for three processes to begin on a machine that is busy.
    completed = await any_level.run(python(DETACHED, sign, "stay"), box(), seconds=3.0)
    assert completed.timed_out
    assert completed.exit_code == -signal.SIGKILL
    assert completed.stdout.split() == ["up"] * 3
    assert marked(sign) == []


async def test_what_it_leaves_running_ends_with_it(any_level: Sandboxes):
    sign = mark()
    completed = await any_level.run(python(DETACHED, sign, "leave"), box(), seconds=SECONDS)
    assert completed.exit_code == 0
    assert not completed.timed_out
    assert marked(sign) == []


async def test_cancelled_it_ends_everything_first(any_level: Sandboxes, outside: Path):
    sign = mark()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(any_level.run(python(DETACHED, sign, "stay"), box(), seconds=SECONDS))
        await until(lambda: len(commands(sign)) == 3)
        homes = {one.environ()["HOME"] for one in commands(sign)}
        cancelled_at = time.monotonic()
        running.cancel()
        running.cancel()
    assert running.cancelled()
    assert time.monotonic() - cancelled_at < WAIT_SECONDS < SECONDS
    assert marked(sign) == []
    assert len(homes) == 1
    assert not await asyncio.to_thread(Path(homes.pop()).exists)


async def test_when_the_worker_is_killed_the_command_ends_and_its_folder_goes(any_level: Sandboxes):
    sign = mark()
    code = """
import asyncio, sys
from playhead.options import Sandbox
from playhead_tool_workers.sandbox import Level, Sandboxes
sandboxes = Sandboxes(allowed=[Level(sys.argv[1])])
asyncio.run(sandboxes.run(sys.argv[2:], Sandbox(unconfined=True), seconds=60))
"""
    level = await any_level.level()
    command = python(DETACHED, sign, "stay")
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, level, *command, stdout=asyncio.subprocess.DEVNULL
    )
    await until(lambda: len(commands(sign)) == 3)
    home = commands(sign)[0].environ()["HOME"]
    worker.kill()
    await worker.wait()
    await until(lambda: marked(sign) == [] and not Path(home).parent.exists())


async def test_no_zombies_and_no_open_files_are_left(any_level: Sandboxes):
    def state() -> tuple[int, int]:
        gc.collect()
        return len(os.listdir("/proc/self/fd")), len(psutil.Process().children(recursive=True))  # noqa: PTH208

    await any_level.run(["true"], box(), seconds=SECONDS)
    before = state()
    for _ in range(3):
        await any_level.run(["sh", "-c", "sleep 60 & true"], box(), seconds=SECONDS)
        await any_level.run(["sleep", "60"], box(), seconds=0.1)
    await until(lambda: state() == before)


async def test_many_run_at_once(any_level: Sandboxes):
    async with asyncio.TaskGroup() as group:
        running = [
            group.create_task(any_level.run(["sh", "-c", f"echo {number} > file; cat file"], box(), seconds=SECONDS))
            for number in range(12)
        ]
    assert [int(one.result().stdout) for one in running] == list(range(12))


async def test_a_program_that_is_not_there_is_a_misconfiguration(any_level: Sandboxes, outside: Path):
    for argv in ([], ["no-such-program"], ["./here"], [str(outside / "none")], [str(outside / "file")]):
        with pytest.raises(Misconfigured, match="program"):
            await any_level.run(argv, box(), seconds=SECONDS)


async def test_a_program_that_the_sandbox_may_not_see_is_a_misconfiguration(confined: Sandboxes, outside: Path):
    program = outside / "program"
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)
    with pytest.raises(Misconfigured, match="has to be where the sandbox may read"):
        await confined.run([str(program)], Sandbox(), seconds=SECONDS)
    completed = await confined.run([str(program)], Sandbox(read=[str(outside)]), seconds=SECONDS)
    assert completed.stdout == "ran\n"


async def test_with_limits_only_a_command_is_refused_unless_told_otherwise(outside: Path):
    sandboxes = Sandboxes(allowed=[])
    assert await sandboxes.level() is Level.LIMITS
    with pytest.raises(Misconfigured, match="unconfined=True"):
        await sandboxes.run(["touch", str(outside / "ran")], Sandbox(), seconds=SECONDS)
    assert not (outside / "ran").exists()
    completed = await sandboxes.run(["touch", str(outside / "ran")], Sandbox(unconfined=True), seconds=SECONDS)
    assert completed.exit_code == 0
    assert (outside / "ran").exists()


async def jail(spec: Spec) -> str:
    """Run the jail by hand, and return what it reports."""
    report, report_write = os.pipe()
    control, control_write = os.pipe()
    with tempfile.TemporaryFile() as file:
        file.write(marshal.dumps(dict(spec)))
        file.flush()
        files = (file.fileno(), report_write, control)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", START, str(Path(JAIL).parent), *map(str, files)), env={}, pass_fds=files
        )
        os.close(report_write)
        await process.wait()
    text = os.read(report, 4096).decode()
    for number in (report, control, control_write):
        os.close(number)
    return text


@pytest.mark.parametrize(
    ("level", "broken"),
    [
        (Level.NAMESPACES, None),
        (Level.NAMESPACES, {"filter": bytes(8)}),
        (Level.NAMESPACES, {"binds": [("/usr", False), ("/none", False)]}),
        (Level.NAMESPACES, {"root": "/none"}),
        (Level.LANDLOCK, None),
        (Level.LANDLOCK, {"filter": bytes(8)}),
        (Level.LANDLOCK, {"binds": [("/none", False)]}),
        (Level.LANDLOCK, {"home": "/none"}),
        (Level.BUBBLEWRAP, {"wrapper": ["/bin/false"]}),
        (Level.BUBBLEWRAP, {"wrapper": ["/none"]}),
    ],
)
async def test_a_protection_that_fails_keeps_the_command_from_running(
    level: Level, broken: dict[str, object] | None, outside: Path
):
    """What was found at the start may be gone later: then nothing runs."""
    if level is not Level.BUBBLEWRAP:
        await at(level)
    user = 65_534 if os.geteuid() == 0 else -1
    found = Found(level, platform.machine(), landlock=3, user=user, bwrap="/none")
    (outside / "root").mkdir()
    (outside / "home").mkdir()
    (outside / "home").chmod(0o777)
    spec = spec_of(found, Sandbox(), Command("/usr/bin/touch", ["touch", "ran"], {}), str(outside))
    spec.update(broken or {})  # pyright: ignore[reportArgumentType, reportCallIssue] - broken on purpose
    report = await jail(spec)
    if broken is None:
        assert report == "ended 0\n"
        assert (outside / "home" / "ran").exists()
    else:
        assert report.startswith("refused "), report
        assert not (outside / "home" / "ran").exists()


def test_it_works_on_uvloop_and_with_streams_that_can_be_opened_by_name():
    async def main() -> None:
        sandboxes = Sandboxes()
        if await sandboxes.level() in (Level.NAMESPACES, Level.BUBBLEWRAP):
            script = "cat < /dev/stdin; echo named > /dev/stderr"
            completed = await sandboxes.run(["sh", "-c", script], Sandbox(), seconds=SECONDS, stdin=b"in")
            assert (completed.stdout, completed.stderr) == ("in", "named\n")
        late = await sandboxes.run(["sleep", "60"], box(), seconds=0.2)
        assert late.timed_out

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def options(argv: Sequence[str], name: str) -> list[tuple[str, ...]]:
    width = 2 if name in ("--bind", "--ro-bind", "--dev-bind", "--symlink") else 1
    return [tuple(argv[at + 1 : at + 1 + width]) for at, word in enumerate(argv) if word == name]


def test_the_command_line_for_bubblewrap_shows_what_was_declared_and_unshares_the_rest(outside: Path):
    found = Found(Level.BUBBLEWRAP, "x86_64", bwrap="/usr/bin/bwrap")
    command = Command("/bin/true", ["true"], {})
    (outside / "w").mkdir()
    given = str(outside / "w")
    spec = spec_of(found, Sandbox(write=[given]), command, "/tmp/playhead-x")
    argv = bubblewrap(spec, "/usr/bin/bwrap")
    assert argv == spec["wrapper"]
    assert argv[0] == "/usr/bin/bwrap"
    assert argv[-1] == "--"
    assert {"--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-net", "--die-with-parent"} <= set(argv)
    assert options(argv, "--cap-drop") == [("ALL",)]
    assert (given, given) in options(argv, "--bind")
    assert ("/usr/bin", "/usr/bin") in options(argv, "--ro-bind")
    assert ("/usr/bin",) not in options(argv, "--dir")
    assert (str(outside),) in options(argv, "--dir")
    assert options(argv, "--remount-ro") == [("/",)]
    networked = bubblewrap(spec_of(found, Sandbox(network=True), command, "/tmp/playhead-x"), "bwrap")
    assert "--unshare-net" not in networked
    as_root = spec_of(Found(Level.BUBBLEWRAP, "x86_64", user=65_534, bwrap="b"), Sandbox(), command, "/tmp/playhead-x")
    assert "--unshare-user" not in as_root["wrapper"]
    assert options(as_root["wrapper"], "--cap-add") == [("CAP_SETUID",), ("CAP_SETGID",)]


ALLOW, KILL, NOT_PERMITTED, NOT_IMPLEMENTED = 0x7FFF0000, 0x80000000, 0x50001, 0x50026


def verdict(program: bytes, architecture: int, number: int, *arguments: int) -> int:
    """Run a filter program as the kernel would."""
    given = [*arguments, 0, 0]
    data = {0: number, 4: architecture, 16: given[0], 24: given[1]}
    steps = list(struct.iter_unpack("=HBBI", program))
    at = value = 0
    while True:
        code, yes, no, operand = steps[at]
        at += 1
        match code:
            case 0x20:
                value = data[operand]
            case 0x54:
                value &= operand
            case 0x15:
                at += yes if value == operand else no
            case 0x35:
                at += yes if value >= operand else no
            case 0x45:
                at += yes if value & operand else no
            case _:
                assert code == 0x06
                return operand


@pytest.mark.parametrize(
    ("machine", "architecture", "numbers"),
    [
        ("x86_64", 0xC000003E, {"read": 0, "ptrace": 101, "clone": 56, "socket": 41, "socketpair": 53}),
        ("aarch64", 0xC00000B7, {"read": 63, "ptrace": 117, "clone": 220, "socket": 198, "socketpair": 199}),
    ],
)
def test_the_filter_refuses_what_it_should_on_both_machines(machine: str, architecture: int, numbers: dict[str, int]):
    program = system_call_filter(machine, NONE)
    assert verdict(program, architecture, numbers["read"]) == ALLOW
    assert verdict(program, architecture, numbers["ptrace"]) == NOT_PERMITTED
    assert verdict(program, architecture, 425) == NOT_IMPLEMENTED
    assert verdict(program, architecture, 435) == NOT_IMPLEMENTED
    assert verdict(program, architecture, numbers["clone"], 0x11) == ALLOW
    assert verdict(program, architecture, numbers["clone"], 0x10000011) == NOT_PERMITTED
    assert verdict(program, 0x40000003, 0) == KILL
    assert [verdict(program, architecture, numbers["socket"], family) for family in range(45)] == [NOT_PERMITTED] * 45
    assert verdict(program, architecture, numbers["socketpair"], 1, 0o2000001) == ALLOW
    assert verdict(program, architecture, numbers["socketpair"], 1, 0o2000002) == NOT_PERMITTED
    for families in (INTERNET, OWN_NETWORK):
        program = system_call_filter(machine, families)
        allowed = {one for one in range(45) if verdict(program, architecture, numbers["socket"], one) == ALLOW}
        assert allowed == families
    if machine == "x86_64":
        assert verdict(program, architecture, 0x40000000) == NOT_PERMITTED
