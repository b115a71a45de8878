"""A cluster as the other modules see it: nodes to call, leaders to find, errors by what they mean.

It speaks through aiokafka's connections and protocol, but keeps no set of topics and refreshes nothing in the
background: a topic is asked for when somebody needs it, remembered while it is used, and never asked for again once
forgotten. It knows nothing of sessions, groups or records.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from aiokafka.conn import create_conn  # pyright: ignore[reportUnknownVariableType] - half annotated
from aiokafka.errors import KafkaError, SaslAuthenticationFailed
from aiokafka.protocol.api import Request
from aiokafka.protocol.metadata import MetadataRequest

from playhead.errors import Misconfigured, Unavailable

__all__ = ["Cluster", "KafkaConnection", "Lost", "NoTopic", "backoff", "is_open"]

CONNECT_SECONDS = 3.0
"""The longest wait for a connection to one node, its handshake included."""

OPEN_SECONDS = 4.5
"""The longest wait for any of the bootstrap addresses to answer when the store is opened."""

REQUEST_SECONDS = 10.0
"""The longest wait for an answer. After it whether the broker acted is unknown."""

PATIENCE_SECONDS = 75.0
"""How long an operation tries to reach a cluster that does not answer before it raises `Unavailable`."""

BACKOFF_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Pauses between tries; the last one repeats."""

TOPICS_KNOWN_MAX = 4096
"""The most topics whose leaders are remembered; the one unused for longest is forgotten first."""

UNKNOWN_ASKS = 3
"""How often a cluster must deny a topic before it is believed: a broker that has just started may not know it yet."""

UNKNOWN_PAUSE_SECONDS = 0.02
IDLE_MS = 540_000

UNKNOWN_TOPIC = 3
NOT_AUTHORIZED = (29, 30, 31)

T = TypeVar("T")


class Lost(Exception):
    """No answer, or one that says nothing: whether the broker acted is unknown, and trying again may help."""


class NoTopic(Exception):
    """The cluster says that there is no such topic."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        super().__init__(f"there is no topic {topic}")


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """How to reach a cluster, and what to ask of it for the topics that are made.

    `replication_factor` None is the broker's default. `session_timeout_ms` is how long a group waits for a silent
    member.
    """

    bootstrap: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    cafile: str | None = None
    replication_factor: int | None = None
    min_insync_replicas: int | None = None
    session_timeout_ms: int = 10_000

    def security(self) -> dict[str, Any]:  # Any: handed to aiokafka's constructors as keywords
        """Give the security settings by aiokafka's names. Raises `Misconfigured`."""
        settings: dict[str, Any] = {"security_protocol": self.security_protocol}
        if self.security_protocol.startswith("SASL_"):
            settings["sasl_mechanism"] = self.sasl_mechanism
            settings["sasl_plain_username"] = self.username
            settings["sasl_plain_password"] = self.password
        if self.security_protocol.endswith("SSL"):
            try:
                settings["ssl_context"] = ssl.create_default_context(cafile=self.cafile)
            except OSError as error:
                raise Misconfigured(f"the CA file {self.cafile} cannot be read: {error}") from error
        return settings


def backoff(tries: int) -> float:
    """Give the pause after so many failed tries, in seconds."""
    return BACKOFF_SECONDS[min(tries, len(BACKOFF_SECONDS) - 1)]


def is_open(connection: Any) -> bool:  # Any: aiokafka's connections
    """Tell whether a connection can be written to.

    aiokafka says that one is connected until its reader has noticed that it was reset. A write in between is lost, and
    with uvloop raises a `RuntimeError` that nobody expects.
    """
    return connection.connected() and not connection._writer.is_closing()


@dataclass(frozen=True, slots=True)
class Address:
    """Where a node listens."""

    host: str
    port: int


class Cluster:
    """The brokers of one cluster and the leaders of the topics in use."""

    def __init__(self, connection: KafkaConnection, client_id: str) -> None:
        self.connection = connection
        self.client_id = client_id
        self._security = connection.security()
        self._bootstrap = _addresses(connection.bootstrap)
        self._nodes: dict[int, Address] = {}
        self._connections: dict[tuple[int | Address, str], Any] = {}  # Any: aiokafka's connections
        self._connecting: dict[tuple[int | Address, str], asyncio.Task[Any]] = {}
        self._leaders: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        self._turn = 0

    @property
    def nodes(self) -> tuple[int, ...]:
        """The ids of the brokers that there were when last asked."""
        return tuple(self._nodes)

    async def open(self) -> None:
        """Find the cluster. Raises `Unavailable`."""
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await self.metadata(())
        except (TimeoutError, Lost) as error:
            raise Unavailable(
                f"no Kafka at {self.connection.bootstrap}: start one, or check --kafka ({error or 'no answer'})"
            ) from error

    async def close(self) -> None:
        """Close every connection."""
        connecting = tuple(self._connecting.values())
        for task in connecting:
            task.cancel()
        await asyncio.gather(*connecting, return_exceptions=True)
        connections = tuple(self._connections.values())
        self._connections.clear()
        closing = [closed for connection in connections if (closed := connection.close()) is not None]
        if closing:
            await asyncio.wait(closing, timeout=CONNECT_SECONDS)

    async def call(self, node: int, request: Request[Any], purpose: str) -> Any:  # Any: aiokafka's response structs
        """Ask a node over the connection that serves this purpose. Raises `Lost`."""
        address = self._nodes.get(node)
        if address is None:
            raise Lost(f"node {node} is not in the cluster")
        return await self._ask(node, address, request, purpose)

    async def call_any(self, request: Request[Any], purpose: str) -> Any:  # Any: aiokafka's response structs
        """Ask whichever node answers. Raises `Lost`."""
        failure: Lost | None = None
        self._turn += 1
        known: list[tuple[int | Address, Address]] = list(self._nodes.items())
        turn = self._turn % len(known) if known else 0
        places = known[turn:] + known[:turn] + [(address, address) for address in self._bootstrap]
        for place, address in places:
            try:
                return await self._ask(place, address, request, purpose)
            except Lost as error:
                failure = error
        raise failure or Lost("no address to ask")

    async def metadata(self, topics: Iterable[str]) -> dict[str, tuple[int, tuple[int, ...]]]:
        """Ask for topics by name: each one's error code, and the leader of each of its partitions. Raises `Lost`."""
        response = await self.call_any(MetadataRequest(list(topics), allow_auto_topic_creation=False), "metadata")
        return self._read_metadata(response)

    async def metadata_from(self, node: int, topics: Iterable[str]) -> dict[str, tuple[int, tuple[int, ...]]]:
        """Ask one node, which may know less than others yet. Raises `Lost`."""
        request = MetadataRequest(list(topics), allow_auto_topic_creation=False)
        return self._read_metadata(await self.call(node, request, "metadata"))

    async def leaders(self, topic: str) -> tuple[int, ...]:
        """Give the node that leads each partition of a topic, in order; -1 for one without a leader now.

        Raises `NoTopic`, `Lost`.
        """
        found = self._leaders.get(topic)
        if found is None:
            return await self._learned(topic)
        self._leaders.move_to_end(topic)
        return found

    async def _learned(self, topic: str) -> tuple[int, ...]:
        for _ in range(UNKNOWN_ASKS):
            code, leaders = (await self.metadata([topic]))[topic]
            if code == UNKNOWN_TOPIC:
                await asyncio.sleep(UNKNOWN_PAUSE_SECONDS)
                continue
            if code in NOT_AUTHORIZED:
                raise Misconfigured(f"the cluster does not let this user use topic {topic}")
            if code or not leaders:
                raise Lost(f"topic {topic} has no leader now (code {code})")
            self.learn(topic, leaders)
            return leaders
        raise NoTopic(topic)

    async def leader(self, topic: str, partition: int) -> int:
        """Give the node that leads one partition. Raises `NoTopic`, `Lost`."""
        leaders = await self.leaders(topic)
        if partition >= len(leaders) or leaders[partition] < 0:
            leaders = await self._learned(topic)  # it may have got more since it was asked for, or another leader
        if partition >= len(leaders):
            raise NoTopic(f"{topic}[{partition}]")
        if leaders[partition] < 0:
            raise Lost(f"{topic}[{partition}] has no leader now")
        return leaders[partition]

    def learn(self, topic: str, leaders: tuple[int, ...]) -> None:
        """Remember who leads a topic."""
        self._leaders[topic] = leaders
        while len(self._leaders) > TOPICS_KNOWN_MAX:
            self._leaders.popitem(last=False)

    def forget(self, topic: str) -> None:
        """Forget who leads a topic: it moved, or it is gone."""
        self._leaders.pop(topic, None)

    @property
    def topics_known(self) -> frozenset[str]:
        """The topics whose leaders are remembered."""
        return frozenset(self._leaders)

    async def patiently(self, work: Callable[[], Awaitable[T]], seconds: float = PATIENCE_SECONDS) -> T:
        """Try until the cluster answers, or for so long. Raises `Unavailable`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        tries = 0
        while True:
            try:
                return await work()
            except Lost as error:
                if loop.time() >= deadline:
                    raise Unavailable(f"no answer from Kafka in {seconds:.0f} s: {error}") from error
            await asyncio.sleep(backoff(tries))
            tries += 1

    def _read_metadata(self, response: Any) -> dict[str, tuple[int, tuple[int, ...]]]:
        if response.brokers:
            self._nodes = {node: Address(host, port) for node, host, port, _ in response.brokers}
        found: dict[str, tuple[int, tuple[int, ...]]] = {}
        for code, topic, _, partitions in response.topics:
            leaders = {number: leader for _, number, leader, *_ in partitions}
            found[topic] = code, tuple(leaders.get(number, -1) for number in range(len(leaders)))
        return found

    async def _ask(self, place: int | Address, address: Address, request: Request[Any], purpose: str) -> Any:
        try:
            connection = await self._connected(place, address, purpose)
            # aiokafka's future of the answer; its own time limit is the connection's
            return await connection.send(request)
        except SaslAuthenticationFailed as error:
            raise Misconfigured(f"Kafka refused the user {self.connection.username!r}: {error}") from error
        except (OSError, KafkaError, TimeoutError) as error:
            if isinstance(error, TimeoutError):
                self._drop(place, purpose)
            reason = str(error) or type(error).__name__
            raise Lost(f"{address.host}:{address.port}: {reason}") from error

    async def _connected(self, place: int | Address, address: Address, purpose: str) -> Any:
        key = place, purpose
        found = self._connections.get(key)
        if found is not None and is_open(found):
            return found
        connecting = self._connecting.get(key)
        if connecting is None:
            # One try for all who wait for it: a host that swallows packets must not be tried by each in turn.
            connecting = asyncio.get_running_loop().create_task(self._connect(place, address, purpose))
            self._connecting[key] = connecting
            connecting.add_done_callback(partial(self._connect_ended, key))
        try:
            made = await asyncio.shield(connecting)
        except asyncio.CancelledError:
            waiter = asyncio.current_task()
            if connecting.cancelled() and waiter is not None and not waiter.cancelling():
                raise Lost("the store is closing") from None
            raise
        if not is_open(made):  # reset while word of it came here
            raise Lost(f"{address.host}:{address.port}: the connection was closed at once")
        return made

    async def _connect(self, place: int | Address, address: Address, purpose: str) -> Any:
        self._drop(place, purpose)
        async with asyncio.timeout(CONNECT_SECONDS):
            made = await create_conn(
                address.host,
                address.port,
                client_id=self.client_id,
                request_timeout_ms=int(REQUEST_SECONDS * 1000),
                max_idle_ms=IDLE_MS,
                **self._security,
            )
        self._connections[place, purpose] = made
        return made

    def _connect_ended(self, key: tuple[int | Address, str], task: asyncio.Task[Any]) -> None:
        del self._connecting[key]
        if not task.cancelled():
            task.exception()  # those who wait hear of it; there may be none any more

    def _drop(self, place: int | Address, purpose: str) -> None:
        old = self._connections.pop((place, purpose), None)
        if old is not None:
            old.close()


def _addresses(bootstrap: str) -> tuple[Address, ...]:
    found: list[Address] = []
    for part in bootstrap.split(","):
        host, colon, port = part.strip().rpartition(":")
        if not colon or not host or not port.isdigit():
            raise Misconfigured(f"{part.strip()!r} is not HOST:PORT: check --kafka")
        found.append(Address(host.strip("[]"), int(port)))
    return tuple(found)
