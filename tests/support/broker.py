"""A real Apache Kafka for tests, benchmarks and manual runs, however this machine can have one.

Tried in order: the address in `PLAYHEAD_TEST_KAFKA`; Docker, by testcontainers, if an engine answers; Apache Kafka from
Maven Central on the local Java 17 or later. The third needs nothing but `java` and `mvn`: the jars are fetched once
into a cache folder (`PLAYHEAD_CACHE`, or `.cache` in the repository). `python -m tests.support.broker` prints the
address of a broker and keeps it until it is told to end.
"""

from __future__ import annotations

import atexit
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

__all__ = ["Broker", "NoBroker"]

KAFKA_VERSION = "4.1.0"
JAVA_MINIMUM = 17
FETCH_SECONDS = 300.0
START_SECONDS = 60.0
STOP_SECONDS = 15.0
DOCKER_SECONDS = 3.0
HEAP = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
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

PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
offsets.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
controller.quorum.append.linger.ms=0
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=300
log.index.size.max.bytes=262144
"""


class NoBroker(Exception):
    """No Kafka can be had here; the message says what was tried and what would help."""


class Broker:
    """A broker, started in whichever way is there.

    One of `own` is always a local process, so that a test may kill, freeze and restart it on the same port with the
    same data; what was found elsewhere cannot be.
    """

    def __init__(self, *, own: bool = False) -> None:
        self._own = own
        self._container: Any = None
        self._jars: Path | None = None
        self._folder: Path | None = None
        self._port = 0
        # the JVM dies with the thread that started it, so that thread is the broker's own
        self._launcher = ThreadPoolExecutor(max_workers=1)
        self._process: subprocess.Popen[bytes] | None = None
        self.bootstrap = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the broker and wait until it accepts connections. Raises `NoBroker`."""
        if not self._own and self._folder is None:
            given = os.environ.get("PLAYHEAD_TEST_KAFKA", "")
            self._container = None if given else _container()
            if given or self._container is not None:
                self.bootstrap = given or str(self._container.get_bootstrap_server())
                return
        if self._folder is None:
            self._prepare()
        self._launch()

    def stop(self) -> None:
        """End the broker in order; its data stays."""
        if self._container is not None:
            self._container.stop()
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the broker as a power failure would; its data stays."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill the broker if it runs, and start it on the same port with the same data."""
        self.kill()
        self._launch()

    def close(self) -> None:
        """End the broker and remove its data."""
        if self._container is not None:
            self._container.stop()
        self.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        self._launcher.shutdown()

    def freeze(self) -> None:
        """Stop the broker from running, its connections still open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen broker run on."""
        self._signal(signal.SIGCONT)

    def _prepare(self) -> None:
        self._jars = _jars()
        self._folder = Path(tempfile.mkdtemp(prefix="playhead-kafka-"))
        atexit.register(self.close)
        self._port = _free_port()
        self.bootstrap = f"127.0.0.1:{self._port}"
        properties = PROPERTIES.format(port=self._port, controller=_free_port(), data=self._folder / "data")
        (self._folder / "server.properties").write_text(properties)
        cluster = self._java("kafka.tools.StorageTool", "random-uuid").strip()
        # with `=`, because an id may begin with a dash
        path = str(self._folder / "server.properties")
        self._java("kafka.tools.StorageTool", "format", "--standalone", f"--cluster-id={cluster}", "-c", path)

    def _launch(self) -> None:
        if self._folder is None:
            raise NoBroker("this broker is not ours to restart")
        with (self._folder / "broker.log").open("ab") as log:
            launching = self._launcher.submit(
                subprocess.Popen[bytes],
                ["java", *HEAP, "-cp", f"{self._jars}/*", "kafka.Kafka", str(self._folder / "server.properties")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # what it calls needs no lock of Python's, and a JVM left behind is worse
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
            self._process = launching.result()
        deadline = time.monotonic() + START_SECONDS
        while not _accepts(self._port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                tail = (self._folder / "broker.log").read_text(errors="replace")[-2000:]
                raise NoBroker(f"Apache Kafka did not start:\n{tail}")
            time.sleep(0.05)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _end(self, number: int) -> None:
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

    def _java(self, *arguments: str) -> str:
        command = ["java", *HEAP, "-cp", f"{self._jars}/*", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
        if done.returncode:
            raise NoBroker(f"{' '.join(arguments[:2])} failed: {done.stderr[-1000:]}")
        return done.stdout


def _container() -> Any:  # Any: testcontainers' Kafka module comes untyped
    if shutil.which("docker") is None:
        return None
    try:
        answer = subprocess.run(["docker", "version"], capture_output=True, timeout=DOCKER_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return None
    if answer.returncode:
        return None
    from testcontainers.community.kafka import KafkaContainer  # noqa: PLC0415 - only where an engine is

    try:
        container: Any = KafkaContainer().with_kraft().with_env("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")
        return container.start()
    except Exception as error:  # noqa: BLE001 - an engine without the image, or without rights: the next way may do
        print(f"docker answers but gives no Kafka: {error}", file=sys.stderr)  # noqa: T201
        return None


def _jars() -> Path:
    tried = "tried: PLAYHEAD_TEST_KAFKA (unset), Docker (no engine answers)"
    version = _java_version()
    if version < JAVA_MINIMUM:
        found = f"Java {version}" if version else "no Java"
        raise NoBroker(f"{tried}, a local Java ({found}; install Java {JAVA_MINIMUM} or later)")
    root = Path(os.environ.get("PLAYHEAD_CACHE") or Path(__file__).parents[2] / ".cache")
    folder = root / "kafka" / KAFKA_VERSION
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


def _java_version() -> int:
    if shutil.which("java") is None:
        return 0
    answer = subprocess.run(["java", "-version"], capture_output=True, text=True, timeout=START_SECONDS, check=False)
    found = re.search(r'version "(\d+)', answer.stderr)
    return int(found[1]) if found else 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _main() -> None:
    def end(_number: int, _frame: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    with Broker() as broker:
        print(broker.bootstrap, flush=True)  # noqa: T201
        while True:
            signal.pause()


if __name__ == "__main__":
    _main()
