"""The Python client of a gateway: start sessions, talk to them, and follow their streams over a network that breaks.

    async with Client("http://127.0.0.1:4141") as client:
        session = await client.start("support", "What time is it in Oslo?")
        async for event in session.events():
            print(event.cursor, event.type, event.data)

It speaks the native protocol (`docs/protocol.md`) through httpx2, and knows nothing of logs, queues or models.
"""

from playhead.client.asking import Refused, Token
from playhead.client.sessions import Client, NoAnswer, Session
from playhead.client.watching import Dropped, Ended, Event, Lost, Opened, Patience, Seen

__all__ = [
    "Client",
    "Dropped",
    "Ended",
    "Event",
    "Lost",
    "NoAnswer",
    "Opened",
    "Patience",
    "Refused",
    "Seen",
    "Session",
    "Token",
]
