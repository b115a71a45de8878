"""Three Kafka brokers as local Java processes, which keep each record three times and confirm it when two have it.

Each can be killed, frozen, stopped in order, and started again on the same ports with the same data; its disk can be
full if it has one of its own (a tmpfs, which takes root). Clients are told the addresses of `client_ports`, so that a
proxy can be between; what brokers say to each other does not go through it. Every broker is also a controller: one that
is lost takes its vote with it, and two that are lost take the cluster.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tests.support.java_kafka import JavaBroker, NoBroker, free_port, jars, storage_tool

__all__ = ["Cluster", "ClusterBroker", "can_mount"]

BROKERS = 3
HEAP_MEGABYTES = 320
WHOLE_SECONDS = 60.0
"""How long brokers that have come back may take to catch up."""

WHOLE_PAUSE_SECONDS = 0.2
ASK_SECONDS = 5.0
MOUNT_SECONDS = 10.0
UNKNOWN_TOPIC = 3
BALLAST_CHUNK = bytes(256 * 1024)

PROPERTIES = """process.roles=broker,controller
node.id={number}
controller.quorum.voters={voters}
listeners=CLIENTS://127.0.0.1:{clients},BROKERS://127.0.0.1:{brokers},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=CLIENTS://127.0.0.1:{advertised},BROKERS://127.0.0.1:{brokers}
listener.security.protocol.map=CLIENTS:PLAINTEXT,BROKERS:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=BROKERS
log.dirs={data}
metadata.log.dir={metadata}
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
offsets.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=300
replica.lag.time.max.ms=5000
log.index.size.max.bytes=262144
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=16777216
"""


class ClusterBroker:
    """One broker of a cluster. `port` is where it listens to clients, which may not be where clients are sent."""

    def __init__(self, number: int, folder: Path, port: int) -> None:
        self.number = number
        self.port = port
        self._folder = folder
        self._java = JavaBroker(folder, port, heap_megabytes=HEAP_MEGABYTES)

    @property
    def pid(self) -> int:
        return self._java.pid

    @property
    def is_running(self) -> bool:
        """Whether there is a process, frozen or not."""
        return self._java.is_running

    @property
    def data(self) -> Path:
        """Where its partitions are stored."""
        return self._folder / "data"

    def launch(self) -> None:
        self._java.launch()

    def await_port(self) -> None:
        self._java.await_port()

    def kill(self) -> None:
        """End it as a power failure would; its data stays."""
        self._java.end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order: it hands over what it leads."""
        self._java.end(signal.SIGTERM)

    def restart(self) -> None:
        """Kill it if it runs, and start it on the same ports with the same data."""
        self.kill()
        self._java.start()

    def freeze(self) -> None:
        self._java.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._java.signal(signal.SIGCONT)

    def fill(self) -> None:
        """Leave no room on its disk. Only for a cluster whose brokers have disks of their own."""
        with suppress(OSError), (self.data / "ballast").open("ab", buffering=0) as ballast:
            while True:
                ballast.write(BALLAST_CHUNK)

    def make_room(self) -> None:
        """Give it back what `fill` took. A broker that has met a full disk must be started again."""
        (self.data / "ballast").unlink(missing_ok=True)

    def last_words(self) -> str:
        return self._java.last_words()

    def close(self) -> None:
        self._java.close()


class Cluster:
    """The three brokers. With `disk_megabytes`, each has a disk of that size for its partitions."""

    def __init__(self, *, client_ports: Sequence[int] = (), disk_megabytes: int = 0) -> None:
        self._client_ports = client_ports
        self._disk = disk_megabytes
        self._folder: Path | None = None
        self.brokers: tuple[ClusterBroker, ...] = ()
        self.bootstrap = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def prepare(self) -> None:
        """Choose ports and format the stores. Raises `NoBroker`."""
        jars()
        self._folder = Path(tempfile.mkdtemp(prefix="playhead-cluster-"))
        atexit.register(self.close)
        ports = [(free_port(), free_port(), free_port()) for _ in range(BROKERS)]
        advertised = list(self._client_ports) or [clients for clients, _, _ in ports]
        self.bootstrap = ",".join(f"127.0.0.1:{port}" for port in advertised)
        voters = ",".join(f"{number}@127.0.0.1:{ports[number - 1][2]}" for number in range(1, BROKERS + 1))
        cluster = "A" + base64.urlsafe_b64encode(os.urandom(16)).decode()[1:22]
        brokers: list[ClusterBroker] = []
        for number, (clients, between, controller) in enumerate(ports, 1):
            folder = self._folder / str(number)
            (folder / "data").mkdir(parents=True)
            if self._disk:
                _mount(folder / "data", self._disk)
            properties = PROPERTIES.format(
                number=number,
                voters=voters,
                clients=clients,
                brokers=between,
                controller=controller,
                advertised=advertised[number - 1],
                data=folder / "data",
                metadata=folder / "metadata",
            )
            (folder / "server.properties").write_text(properties)
            storage_tool("format", f"--cluster-id={cluster}", "-c", str(folder / "server.properties"))
            brokers.append(ClusterBroker(number, folder, clients))
        self.brokers = tuple(brokers)

    def start(self) -> None:
        """Start all brokers and wait until each accepts connections. Raises `NoBroker`."""
        if not self.brokers:
            self.prepare()
        for broker in self.brokers:
            broker.launch()
        for broker in self.brokers:
            broker.await_port()

    async def whole(self, seconds: float = WHOLE_SECONDS) -> None:
        """Wait until every broker has every record that it should have. Raises `NoBroker` if that does not come."""
        deadline = time.monotonic() + seconds
        while (lacking := await self._lacking()) is None or lacking:
            if time.monotonic() > deadline:
                raise NoBroker(f"not every replica was in sync after {seconds:.0f} s: {lacking}")
            await asyncio.sleep(WHOLE_PAUSE_SECONDS)

    async def topics(self) -> list[str]:
        """Name all topics."""
        async with _admin(self.bootstrap) as admin:
            return list(await admin.list_topics())

    async def delete(self, topic: str) -> None:
        """Delete a topic behind everybody's back. Tries until the brokers say that it is gone."""
        deadline = time.monotonic() + WHOLE_SECONDS
        while True:
            with suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(ASK_SECONDS), _admin(self.bootstrap) as admin:
                    answer: Any = await admin.delete_topics([topic])
                    if answer.topic_error_codes[0][1] in (0, UNKNOWN_TOPIC):
                        return
            if time.monotonic() > deadline:
                raise NoBroker(f"{topic} could not be deleted")
            await asyncio.sleep(WHOLE_PAUSE_SECONDS)

    async def _lacking(self) -> list[str] | None:
        """Name the partitions that some broker lacks; None if nobody can tell."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return await _lacking(self.bootstrap)
        except (KafkaError, OSError, TimeoutError):
            return None

    def close(self) -> None:
        """End all brokers and remove their data."""
        for broker in self.brokers:
            broker.close()
            if self._disk:
                subprocess.run(["umount", "-l", broker.data], timeout=MOUNT_SECONDS, check=False, capture_output=True)
        self.brokers = ()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def can_mount() -> bool:
    """Tell whether this process may give brokers disks of their own."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        try:
            _mount(Path(folder), 1)
        except NoBroker:
            return False
        subprocess.run(["umount", "-l", folder], timeout=MOUNT_SECONDS, check=True, capture_output=True)
    return True


def _mount(folder: Path, megabytes: int) -> None:
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "playhead-test", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=MOUNT_SECONDS, check=False)
    if done.returncode:
        raise NoBroker(f"no disk of its own for {folder}: {done.stderr.strip()}")


@asynccontextmanager
async def _admin(bootstrap: str) -> AsyncGenerator[Any, None]:
    admin: Any = AIOKafkaAdminClient(bootstrap_servers=bootstrap)  # Any: half annotated
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def _lacking(bootstrap: str) -> list[str]:
    async with _admin(bootstrap) as admin:
        nodes = (await admin.describe_cluster())["brokers"]
        if len(nodes) < BROKERS:
            return [f"{BROKERS - len(nodes)} brokers"]
        return [
            f"{topic['topic']}[{partition['partition']}] is on {partition['isr']}"
            for topic in await admin.describe_topics()
            for partition in topic["partitions"]
            if len(partition["isr"]) < len(partition["replicas"])
        ]
