"""What is left after a storm: each session's log, read whole, by every gateway and as it is stored; and the figures."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import httpx2
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from playhead.adapters.kafka.connection import Cluster, KafkaConnection
from playhead.adapters.kafka.follow import catch_up
from playhead.adapters.kafka.wire import Place, Stored
from playhead.adapters.sqlite import open_sqlite
from playhead.ids import SessionId
from playhead.queue import Topics

from tests.chaos.crowd import client
from tests.history.folding import ENDS
from tests.history.lines import History, Line

__all__ = ["coverage", "drained", "noted_by_tools", "read_all", "read_embedded", "stalls"]

DRAINED_SECONDS = 60.0
POLL_SECONDS = 0.5

PHASES = {
    "model_call_started": "asked",
    "thinking": "speaking",
    "text_delta": "speaking",
    "tool_input_delta": "speaking",
    "model_call_completed": "said",
    "tool_call": "handed out",
    "tool_started": "running",
    "tool_progress": "running",
    "tool_retry": "running",
    "tool_result": "returned",
}
"""Where in its life a session was, by the last event that anybody had seen of it; `between` for all others."""


async def read_all(history: History, urls: Sequence[str], kafka: str, topics: Topics, sessions: Iterable[str]) -> None:
    """Note the log of every session as each gateway shows it, and as it is stored, void records and all."""
    cluster = Cluster(KafkaConnection(kafka), "reader")
    await cluster.open()
    try:
        lanes = await _lanes(cluster, topics)
        for session in sessions:
            records = lanes[session] if topics.lane_count else await _stored(cluster, topics.session(session))
            for number, url in enumerate(urls, 1):
                await _note_all(history, f"reader-{number}", url, session, records)
    finally:
        await cluster.close()


async def read_embedded(history: History, url: str, database: Path, sessions: Iterable[str]) -> None:
    """Note the log of every session as `playhead dev` shows it, and as it is stored."""
    async with open_sqlite(database) as store:
        for session in sessions:
            async with aclosing(store.log.read(SessionId(session))) as pages:
                records = [b64encode(record.value).decode() async for page in pages for record in page.records]
            await _note_all(history, "reader", url, session, records)


async def drained(kafka: str) -> int:
    """Wait until no consumer group has anything left to read, and give how many partitions the groups had read from.

    Raises:
        AssertionError: A group was stuck: it names each place where one had not come to the end.
    """
    admin: Any = AIOKafkaAdminClient(bootstrap_servers=kafka)  # Any: half annotated
    consumer: Any = AIOKafkaConsumer(bootstrap_servers=kafka)
    await admin.start()
    await consumer.start()
    behind: dict[str, int] = {}
    try:
        async with asyncio.timeout(DRAINED_SECONDS):
            while True:
                places = await _committed(admin)
                ends = await consumer.end_offsets([place for _, place in places])
                behind = {
                    f"{group} {at.topic}[{at.partition}]": ends[at] - place for (group, at), place in places.items()
                }
                if not any(behind.values()):
                    return len(places)
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise AssertionError(f"stuck: { ({name: left for name, left in behind.items() if left}) }") from None
    finally:
        await consumer.stop()
        await admin.close()


async def _committed(admin: Any) -> dict[tuple[str, TopicPartition], int]:
    """Give the next place of each consumer group in each partition that it has read from."""
    return {
        (group, place): commit.offset
        for group, _ in await admin.list_consumer_groups()
        for place, commit in (await admin.list_consumer_group_offsets(group)).items()
        if commit.offset >= 0
    }


def noted_by_tools(journal: Path, ahead: float) -> list[Line]:
    """Turn what tools noted into lines of a history, whose clock is so far ahead of theirs."""
    lines: list[Line] = []
    for text in journal.read_text().splitlines():
        one = json.loads(text)
        kept = {name: one[name] for name in ("what", "call", "key", "try", "given")} | {"process": one["pid"]}
        lines.append({"at": one["at"] + ahead, "node": f"tool-{one['pid']}", "op": "tool", **kept})
    return sorted(lines, key=lambda line: line["at"])


def stalls(lines: Iterable[Line]) -> list[tuple[float, str, str]]:
    """Give for each fault how long the session that waited longest was without a new event, whose run was going."""
    fresh: defaultdict[str, list[float]] = defaultdict(list)
    known: set[tuple[str, str]] = set()
    runs: dict[tuple[str, str], list[float]] = {}
    faults: list[Line] = []
    for line in lines:
        if line["op"] == "fault":
            faults.append(line)
        elif line["op"] == "seen" and (line["session"], line["id"]) not in known:
            known.add((line["session"], line["id"]))
            fresh[line["session"]].append(line["at"])
            event = line["event"]
            if event["type"] == "run_started":
                runs[line["session"], event["run_id"]] = [line["at"], float("inf")]
            elif event["type"] in ENDS and (line["session"], event["run_id"]) in runs:
                runs[line["session"], event["run_id"]][1] = line["at"]
    found: list[tuple[float, str, str]] = []
    for fault in faults:
        at = fault["at"]
        going = {session for (session, _), (start, end) in runs.items() if start <= at < end}
        later = [times[place] for one in going if (place := bisect_right(times := fresh[one], at)) < len(times)]
        if later:
            found.append((max(later) - at, fault["kind"], fault["target"]))
    return found


def coverage(lines: Iterable[Line]) -> dict[str, Counter[str]]:
    """Give for each kind of fault how often it met a session in each phase of its life."""
    last: dict[str, tuple[int, str]] = {}
    found: defaultdict[str, Counter[str]] = defaultdict(Counter[str])
    for line in lines:
        if line["op"] == "seen":
            seq, kind = line["event"]["seq"], line["event"]["type"]
            last[line["session"]] = max(last.get(line["session"], (0, "")), (seq, kind))
        elif line["op"] == "fault":
            going = [kind for _, kind in last.values() if kind != "session_closed"]
            found[line["kind"]].update(PHASES.get(kind, "between") for kind in going)
    return found


async def _note_all(history: History, reader: str, url: str, session: str, records: Sequence[str]) -> None:
    async with client(url) as http:
        events = await _shown(http, session)
        response = await http.get(f"/v1/sessions/{session}")
        state = response.json() if response.is_success else None
    history.note(reader, "log", session=session, events=events, state=state, records=records)


async def _shown(http: httpx2.AsyncClient, session: str) -> list[tuple[str, Any]]:
    headers = {"Accept": "text/event-stream"}
    events: list[tuple[str, Any]] = []
    last = -1
    async with http.stream("GET", f"/v1/sessions/{session}/events", headers=headers) as response:
        assert response.status_code == 200, (session, response.status_code, await response.aread())
        async for said in httpx2.EventSource(response):
            if said.event == "end":
                break
            if said.event == "ready":
                last = int(cast("dict[str, Any]", said.json())["last_seq"])
            elif said.event != "draining":
                events.append((str(said.id), said.json()))
            if len(events) == last:
                break
    return events


async def _stored(cluster: Cluster, topic: str) -> list[str]:
    return [b64encode(record.value).decode() for record in await _kept(cluster, (topic, 0))]


async def _lanes(cluster: Cluster, topics: Topics) -> dict[str, list[str]]:
    """Read all lanes once: what is stored under each session's name, in order."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for lane in range(topics.lane_count):
        for record in await _kept(cluster, (topics.lanes, lane)):
            found[(record.key or b"").decode()].append(b64encode(record.value).decode())
    return found


async def _kept(cluster: Cluster, place: Place) -> list[Stored]:
    async with aclosing(catch_up(cluster, place, 0)) as chunks:
        return [record async for chunk in chunks for record in chunk.records]
