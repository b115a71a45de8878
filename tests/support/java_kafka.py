"""Apache Kafka as local Java processes: its jars from Maven Central, and a broker that can be killed and frozen.

Needs nothing but `java` (17 or later) and, once, `mvn`: the jars are kept in a cache folder (`PLAYHEAD_CACHE`, or
`.cache` in the repository). Who wants a broker, from wherever, asks `broker.py`; who wants several, `cluster.py`.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

__all__ = ["JavaBroker", "NoBroker", "free_port", "jars", "storage_tool"]

KAFKA_VERSION = "4.1.0"
JAVA_MINIMUM = 17
FETCH_SECONDS = 300.0
START_SECONDS = 60.0
STOP_SECONDS = 15.0
LOG_TAIL = 2000
JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
PR_SET_PDEATHSIG = 1

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>playhead</groupId><artifactId>test-broker</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""


class NoBroker(Exception):
    """No Kafka can be had here; the message says what was tried and what would help."""


class JavaBroker:
    """One broker whose folder has a formatted store and `server.properties`. What it stores outlives its processes."""

    def __init__(self, folder: Path, port: int, *, heap_megabytes: int = 512) -> None:
        self._folder = folder
        self._port = port
        self._heap = heap_megabytes
        # the JVM dies with the thread that started it, so that thread is the broker's own
        self._launcher = ThreadPoolExecutor(max_workers=1)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        return 0 if self._process is None else self._process.pid

    def launch(self) -> None:
        """Start its process, without waiting for anything."""
        properties = str(self._folder / "server.properties")
        with (self._folder / "broker.log").open("ab") as log:
            launching = self._launcher.submit(
                subprocess.Popen[bytes],
                [*_java(self._heap), "kafka.Kafka", properties],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # what it calls needs no lock of Python's, and a JVM left behind is worse
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
            self._process = launching.result()

    def await_port(self) -> None:
        """Wait until it accepts connections. Raises `NoBroker`."""
        deadline = time.monotonic() + START_SECONDS
        while not _accepts(self._port):
            if not self.is_running or time.monotonic() > deadline:
                self.end(signal.SIGKILL)
                raise NoBroker(f"Apache Kafka did not start:\n{self.last_words()}")
            time.sleep(0.05)

    def start(self) -> None:
        """Start it and wait until it accepts connections. Raises `NoBroker`."""
        self.launch()
        self.await_port()

    def end(self, number: int) -> None:
        """End its process by a signal, frozen or not, and wait until it is gone."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def signal(self, number: int) -> None:
        """Send a signal, if there is a process."""
        if self._process is not None:
            self._process.send_signal(number)

    def close(self) -> None:
        """End its process; nothing starts it again."""
        self.end(signal.SIGKILL)
        self._launcher.shutdown()

    def last_words(self) -> str:
        """Give the end of what it logged."""
        return (self._folder / "broker.log").read_text(errors="replace")[-LOG_TAIL:]


def storage_tool(*arguments: str) -> str:
    """Run Kafka's storage tool and give what it printed. Raises `NoBroker`."""
    command = [*_java(128), "kafka.tools.StorageTool", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
    if done.returncode:
        raise NoBroker(f"StorageTool {arguments[0]} failed: {done.stderr[-1000:]}")
    return done.stdout


def jars() -> Path:
    """Give the folder with Kafka's jars; fetch them if they are not there. Raises `NoBroker`."""
    tried = "tried: PLAYHEAD_TEST_KAFKA (unset), Docker (no engine answers)"
    version = _java_version()
    if version < JAVA_MINIMUM:
        found = f"Java {version}" if version else "no Java"
        raise NoBroker(f"{tried}, a local Java ({found}; install Java {JAVA_MINIMUM} or later)")
    folder = _folder()
    if folder.is_dir():
        return folder
    if shutil.which("mvn") is None:
        raise NoBroker(
            f"{tried}, Apache Kafka from Maven Central (no `mvn`: install Maven, or put the jars in {folder})"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as fetching:
        (Path(fetching) / "pom.xml").write_text(POM)
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={fetching}/jars"]
        done = subprocess.run(command, cwd=fetching, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
        if done.returncode:
            raise NoBroker(f"{tried}, Apache Kafka from Maven Central: {(done.stdout + done.stderr)[-1000:]}")
        try:
            (Path(fetching) / "jars").rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was quicker
                raise
    return folder


def free_port() -> int:
    """Find a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _folder() -> Path:
    root = Path(os.environ.get("PLAYHEAD_CACHE") or Path(__file__).parents[2] / ".cache")
    return root / "kafka" / KAFKA_VERSION


def _java(heap_megabytes: int) -> Sequence[str]:
    return ("java", f"-Xmx{heap_megabytes}m", *JVM, "-cp", f"{_folder()}/*")


def _java_version() -> int:
    if shutil.which("java") is None:
        return 0
    answer = subprocess.run(["java", "-version"], capture_output=True, text=True, timeout=START_SECONDS, check=False)
    found = re.search(r'version "(\d+)', answer.stderr)
    return int(found[1]) if found else 0


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
