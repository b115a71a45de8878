"""A real Apache Kafka for tests, benchmarks and manual runs, however this machine can have one.

Tried in order: the address in `PLAYHEAD_TEST_KAFKA`; Docker, by testcontainers, if an engine answers; Apache Kafka from
Maven Central on the local Java 17 or later (`java_kafka.py`). `python -m tests.support.broker` prints the address of a
broker and keeps it until it is told to end.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

from tests.support.java_kafka import JavaBroker, NoBroker, free_port, jars, storage_tool

__all__ = ["Broker", "NoBroker"]

DOCKER_SECONDS = 3.0

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


BATCH_HEAD_BYTES = 12
"""A batch's first offset and the length of what follows."""


class Broker:
    """A broker, started in whichever way is there.

    One of `own` is always a local process, so that a test may kill, freeze and restart it on the same port with the
    same data; what was found elsewhere cannot be.
    """

    def __init__(self, *, own: bool = False) -> None:
        self._own = own
        self._container: Any = None
        self._folder: Path | None = None
        self._java: JavaBroker | None = None
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
        if self._java is None:
            self._java = self._prepared()
        self._java.start()

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
        if self._java is None:
            raise NoBroker("this broker is not ours to restart")
        self.kill()
        self._java.start()

    def lose(self, topic: str, partition: int, batches: int) -> None:
        """Take the last batches of a partition from a killed broker's disk: what a power failure does to one alone."""
        if self._folder is None:
            raise NoBroker("this broker's disk is not ours")
        (segment,) = (self._folder / "data" / f"{topic}-{partition}").glob("*.log")
        data = segment.read_bytes()
        starts, at = list[int](), 0
        while at < len(data):
            starts.append(at)
            at += BATCH_HEAD_BYTES + int.from_bytes(data[at + 8 : at + BATCH_HEAD_BYTES], "big")
        os.truncate(segment, starts[-batches])

    def close(self) -> None:
        """End the broker and remove its data."""
        if self._container is not None:
            self._container.stop()
        if self._java is not None:
            self._java.close()
            self._java = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def freeze(self) -> None:
        """Stop the broker from running, its connections still open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen broker run on."""
        self._signal(signal.SIGCONT)

    def _prepared(self) -> JavaBroker:
        jars()
        folder = self._folder = Path(tempfile.mkdtemp(prefix="playhead-kafka-"))
        atexit.register(self.close)
        port = free_port()
        self.bootstrap = f"127.0.0.1:{port}"
        properties = folder / "server.properties"
        properties.write_text(PROPERTIES.format(port=port, controller=free_port(), data=folder / "data"))
        cluster = storage_tool("random-uuid").strip()
        # with `=`, because an id may begin with a dash
        storage_tool("format", "--standalone", f"--cluster-id={cluster}", "-c", str(properties))
        return JavaBroker(folder, port)

    def _signal(self, number: int) -> None:
        if self._java is not None:
            self._java.signal(number)

    def _end(self, number: int) -> None:
        if self._java is not None:
            self._java.end(number)


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
