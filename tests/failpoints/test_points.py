"""How a failpoint is named, and what each action does at a boundary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import pytest
from playhead.accept import genesis
from playhead.adapters.archive import MemoryArchive
from playhead.adapters.failing import FailingArchive, FailingLog, FailingQueue
from playhead.adapters.memory import MemoryQueue, MemorySessionLog
from playhead.codec import Codec, Context
from playhead.errors import Misconfigured, Unavailable
from playhead.events import OwnerChanged
from playhead.failpoints import (
    BOUNDARIES,
    POINTS,
    Action,
    Faults,
    actions_at,
    armed,
    nowhere,
    on_the_nth,
    read_failpoint,
)
from playhead.queue import Assigned, Message, Topics
from playhead.settings import Settings
from playhead_cli.compose import Deployment
from playhead_orchestrator.adapters.failing import FailingModel
from playhead_orchestrator.model import Finished, ModelFailed, ModelRequest, Said, TextSaid, Usage

DELAY_SECONDS = 0.05
TOPICS = Topics()
REQUEST = ModelRequest("any", "", [])


def failing(point: str, action: Action, nth: int = 1) -> tuple[Faults, list[Action]]:
    """Give faults of one action, and what they had the process do."""
    halted = list[Action]()
    return Faults(on_the_nth(point, nth, action), halted.append, DELAY_SECONDS), halted


async def queue_of(faults: Faults) -> tuple[FailingQueue, MemoryQueue]:
    queue = MemoryQueue()
    await queue.prepare(*TOPICS.fixed, TOPICS.tools("default"))
    return FailingQueue(queue, TOPICS, "worker", faults), queue


async def kept(queue: MemoryQueue, topic: str) -> list[bytes]:
    async with aclosing(queue.replay(topic)) as batches:
        return [message.value async for batch in batches for message in batch]


async def published(action: Action, side: str) -> list[bytes]:
    queue, beneath = await queue_of(failing(f"worker.publish.results.{side}", action)[0])
    try:
        await queue.publish(TOPICS.results.name, "key", b"said")
    except Unavailable:
        return [*await kept(beneath, TOPICS.results.name), b"unavailable"]
    return await kept(beneath, TOPICS.results.name)


@pytest.mark.parametrize(
    "text", ["owner.append", "owner.append.before:0", "owner.append.before:x", "worker.taken:1:twice"]
)
def test_a_wrong_failpoint_is_refused_with_what_there_is(text: str) -> None:
    with pytest.raises(Misconfigured, match=r"PLAYHEAD_FAILPOINT is NAME\[:NTH\[:ACTION\]\]") as caught:
        armed(text)
    assert any(point in str(caught.value) for point in POINTS)


def test_a_failpoint_kills_the_first_time_unless_it_says_otherwise() -> None:
    assert read_failpoint("worker.taken") == ("worker.taken", 1, Action.KILL)
    assert read_failpoint("owner.append.after:3:twice") == ("owner.append.after", 3, Action.TWICE)
    assert read_failpoint("worker.ran::stop") == ("worker.ran", 1, Action.STOP)


def test_nothing_is_done_at_other_points_nor_another_time() -> None:
    decide = on_the_nth("worker.ran", 2, Action.DELAY)
    assert [decide(point) for point in ("worker.ran", "worker.taken", "worker.ran", "worker.ran")] == [
        None,
        None,
        Action.DELAY,
        None,
    ]


def test_every_point_can_kill_stop_and_more() -> None:
    for point in POINTS:
        assert {Action.KILL, Action.STOP} < set(actions_at(point)), point


@dataclass(frozen=True)
class Store:
    """A store in memory."""

    log: MemorySessionLog
    queue: MemoryQueue


@pytest.mark.parametrize("role", BOUNDARIES)
def test_without_a_failpoint_a_role_is_handed_the_ports_as_they_are(role: str) -> None:
    store, archive = Store(MemorySessionLog(), MemoryQueue()), MemoryArchive()
    ports = Deployment(Settings.model_validate({}), store, archive=archive).ports(role)
    assert (ports.log, ports.queue, ports.archive, ports.reach) == (store.log, store.queue, archive, nowhere)
    assert ports.models({"parrot": (parrot := Parrot())}) == {"parrot": parrot}


@pytest.mark.parametrize("role", BOUNDARIES)
def test_with_a_failpoint_all_roles_of_a_process_count_together(role: str) -> None:
    store = Store(MemorySessionLog(), MemoryQueue())
    deployment = Deployment(Settings.model_validate({"failpoint": "worker.ran:2"}), store, archive=MemoryArchive())
    ports = deployment.ports(role)
    assert isinstance(ports.log, FailingLog)
    assert isinstance(ports.queue, FailingQueue)
    assert isinstance(ports.archive, FailingArchive)
    assert isinstance(ports.models({"parrot": Parrot()})["parrot"], FailingModel)
    assert ports.faults is deployment.faults


def test_a_process_with_a_wrong_failpoint_does_not_begin() -> None:
    with pytest.raises(Misconfigured, match=r"there is no failpoint 'worker\.walked'"):
        Deployment(Settings.model_validate({"failpoint": "worker.walked"}), Store(MemorySessionLog(), MemoryQueue()))


async def test_what_is_refused_is_not_done() -> None:
    assert await published(Action.REFUSED, "before") == [b"unavailable"]


async def test_what_is_lost_is_done_and_not_known_to_be() -> None:
    assert await published(Action.LOST, "after") == [b"said", b"unavailable"]


async def test_what_is_done_twice_is_told_of_once() -> None:
    assert await published(Action.TWICE, "after") == [b"said", b"said"]


@pytest.mark.parametrize("side", ["before", "after"])
async def test_what_is_delayed_is_done_and_lets_others_go_on(side: str) -> None:
    queue, beneath = await queue_of(failing(f"worker.publish.results.{side}", Action.DELAY)[0])
    publishing = asyncio.create_task(queue.publish(TOPICS.results.name, "key", b"late"))
    await asyncio.sleep(0)
    await queue.publish(TOPICS.results.name, "key", b"other")
    assert not publishing.done()
    await publishing
    in_order = [b"late", b"other"]
    assert await kept(beneath, TOPICS.results.name) == (in_order[::-1] if side == "before" else in_order)


@pytest.mark.parametrize("side", ["before", "after"])
async def test_who_is_killed_where_that_is_not_the_end_of_the_process_waits_for_ever(side: str) -> None:
    faults, halted = failing(f"worker.publish.results.{side}", Action.KILL)
    queue, beneath = await queue_of(faults)
    publishing = asyncio.create_task(queue.publish(TOPICS.results.name, "key", b"said"))
    await asyncio.wait((publishing,), timeout=DELAY_SECONDS)
    assert (publishing.done(), halted) == (False, [Action.KILL])
    assert await kept(beneath, TOPICS.results.name) == ([] if side == "before" else [b"said"])
    publishing.cancel()


async def test_a_batch_that_is_appended_twice_is_in_the_log_once() -> None:
    beneath = MemorySessionLog()
    log = FailingLog(beneath, "owner", failing("owner.append.after", Action.TWICE)[0])
    session = await beneath.create()
    head = genesis(session)
    records = Codec().seal(head, (OwnerChanged(1, "me"),), Context(session, 1, None, 0))
    assert await log.append(session, head, records) == await beneath.end(session)
    assert (await beneath.end(session)).seq == 1


async def test_an_operation_without_a_failpoint_is_a_bug() -> None:
    log = FailingLog(MemorySessionLog(), "owner", failing("owner.append.after", Action.KILL)[0])
    with pytest.raises(AssertionError, match=r"owner\.delete has no failpoint"):
        await log.delete(await log._log.create())  # pyright: ignore[reportPrivateUsage] - to have one to delete


async def test_a_thing_whose_keeping_was_lost_is_kept() -> None:
    beneath, session = MemoryArchive(), await MemorySessionLog().create()
    archive = FailingArchive(beneath, "worker", failing("worker.put.after", Action.LOST)[0])
    with pytest.raises(Unavailable):
        await archive.put(session, "name", b"data")
    assert await archive.get(session, "name", 10) == b"data"


async def received(queue: FailingQueue, values: Sequence[bytes]) -> tuple[list[bytes], bool]:
    """Take part in the group until so much has come, or the queue is lost; acknowledge all; tell whether it was."""
    came, topic = list[Message](), TOPICS.results.name
    try:
        async with asyncio.timeout(5), queue.join("group", topic) as member:
            while len(came) < len(values):
                match await member.receive():
                    case tuple() as messages:
                        came += messages
                        member.acknowledge(*messages)
                    case _:
                        pass
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(2 * DELAY_SECONDS):
                    await member.receive()
    except Unavailable:
        return [message.value for message in came], True
    return [message.value for message in came], False


async def deliveries(point: str, action: Action) -> tuple[list[bytes], bool, list[bytes]]:
    """Give what a member with a fault was delivered, whether it was lost, and what the member after it was."""
    queue, beneath = await queue_of(failing(point, action)[0])
    await beneath.publish(TOPICS.results.name, "key", b"said")
    expected = [b"said"] * (2 if point.endswith("receive.after") and action is Action.TWICE else 1)
    first, lost = await received(queue, expected)
    again = list[bytes]()
    async with beneath.join("group", TOPICS.results.name) as member:
        assert isinstance(await member.receive(), Assigned)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(DELAY_SECONDS):
                again += [message.value for message in await member.receive() if isinstance(message, Message)]  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType]
                await asyncio.get_running_loop().create_future()
    return first, lost, again


NONE = list[bytes]()


@pytest.mark.parametrize(
    ("point", "action", "outcome"),
    [
        ("receive.before", Action.REFUSED, (NONE, True, [b"said"])),
        ("receive.after", Action.LOST, (NONE, True, [b"said"])),
        ("receive.after", Action.TWICE, ([b"said", b"said"], False, NONE)),
        ("receive.after", Action.DELAY, ([b"said"], False, NONE)),
        ("acknowledge.before", Action.REFUSED, ([b"said"], True, [b"said"])),
        ("acknowledge.before", Action.DELAY, ([b"said"], False, NONE)),
        ("acknowledge.after", Action.LOST, ([b"said"], True, NONE)),
        ("acknowledge.after", Action.TWICE, ([b"said"], False, NONE)),
    ],
)
async def test_what_a_member_loses_the_next_one_is_given(
    point: str, action: Action, outcome: tuple[list[bytes], bool, list[bytes]]
) -> None:
    assert await deliveries(f"worker.{point}", action) == outcome


class Parrot:
    """A model that says one thing, and counts how often it was asked."""

    provider = "parrot"

    def __init__(self) -> None:
        self.asked = 0

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[Said], None]:
        self.asked += 1
        yield (TextSaid("Hello"),)
        yield (Finished(({"type": "text", "text": "Hello"},), Usage(1, 1), "end_turn"),)

    async def close(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize(
    ("side", "action", "asked", "said"),
    [
        ("before", Action.REFUSED, 0, ["unavailable"]),
        ("before", Action.DELAY, 1, ["TextSaid", "Finished"]),
        ("after", Action.LOST, 1, ["TextSaid", "stream_broken"]),
        ("after", Action.TWICE, 2, ["TextSaid", "Finished"]),
    ],
)
async def test_a_model_call_goes_wrong_as_calls_do(side: str, action: Action, asked: int, said: list[str]) -> None:
    parrot, heard = Parrot(), list[str]()
    model = FailingModel(parrot, failing(f"owner.model.{side}", action)[0])
    try:
        async with aclosing(model.stream(REQUEST)) as stream:
            async for pieces in stream:
                heard += [type(one).__name__ for one in pieces]
    except ModelFailed as error:
        assert error.retryable
        heard.append(error.code)
    assert (parrot.asked, heard) == (asked, said)
