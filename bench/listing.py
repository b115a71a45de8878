"""Fills the directory of a deployment with lines of sessions that are over, as a year of sessions would.

An orchestrator reads them all before it takes part: no hand-over may take as long as that takes.
"""

from __future__ import annotations

import asyncio
import os
import time

from playhead.adapters.kafka import KafkaConnection, open_kafka
from playhead.codec import Codec
from playhead.commands import ListSession
from playhead.ids import Seq, session_id
from playhead.queue import Topics

__all__ = ["fill"]

IN_FLIGHT_MAX = 1_000
"""How many lines wait for the broker at the same time."""


async def fill(address: str, topics: Topics, lines: int) -> None:
    """Publish so many lines, each of another session. Raises `Unavailable`."""
    codec, now = Codec(), time.time_ns() // 1000
    async with open_kafka(KafkaConnection(address), topics=topics, client_id="bench-listing") as store:
        for begun in range(0, lines, IN_FLIGHT_MAX):
            async with asyncio.TaskGroup() as group:
                for _ in range(min(IN_FLIGHT_MAX, lines - begun)):
                    session = session_id(os.urandom(16))
                    line = ListSession(session, "story", "closed", False, now, now, Seq(300), 1)
                    group.create_task(store.queue.publish(topics.sessions.name, session, codec.encode(line)))
