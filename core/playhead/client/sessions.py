"""A gateway and its sessions, as Python code has them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Literal, Self, cast
from urllib.parse import quote

from playhead.client.asking import Asking, Token, text_in
from playhead.client.watching import Event, Patience, Seen, View, watch
from playhead.errors import PlayheadError
from playhead.ids import parse_session_id

__all__ = ["RUN_ENDS", "Client", "NoAnswer", "Session"]

RUN_ENDS = ("run_completed", "run_failed", "run_cancelled")

Content = str | Sequence[dict[str, Any]]
"""What a message says: a text, or content blocks, each with a `type`."""


class NoAnswer(PlayheadError):
    """A run ended without an answer: `event` is its `run_failed` or `run_cancelled`."""

    def __init__(self, event: Event) -> None:
        self.event = event
        if event.type == "run_failed":
            given: object = event.data.get("error")
            error: Mapping[str, object] = cast("Mapping[str, object]", given) if isinstance(given, Mapping) else {}
            super().__init__(f"{event.run_id} failed: {error.get('code')}: {error.get('message')}")
        else:
            super().__init__(f"{event.run_id} was cancelled ({event.data.get('reason')})")


class Client(Asking):
    """A client of one gateway: close it, or use it in an `async with`.

    `token` is sent as `Authorization: Bearer`; a supplier is awaited before each request and each reconnect, and its
    errors are raised to whoever asked. `patience` is what streams have with a gateway that is away.
    """

    def __init__(self, url: str, token: Token | None = None, *, patience: Patience | None = None) -> None:
        super().__init__(url, token)
        self.patience = Patience() if patience is None else patience

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def start(
        self,
        agent: str | None = None,
        input: Content | None = None,  # noqa: A002 - the protocol's word
        *,
        metadata: dict[str, Any] | None = None,
        key: str | None = None,
    ) -> Session:
        """Begin a session, with `input` also its first run. Without `agent` it is the deployment's default.

        The same `key` again is the same session. Raises `Unavailable`, `Refused`.
        """
        given = {"agent": agent, "input": input, "metadata": metadata}
        body = {name: value for name, value in given.items() if value is not None}
        made = await self.post("/v1/sessions", body, key=key or _new_key())
        return Session(self, parse_session_id(text_in(made, "id")), made.get("run_id"))

    def session(self, id: str) -> Session:  # noqa: A002 - the protocol's word
        """Give a session that exists. Raises `InvalidId`."""
        return Session(self, parse_session_id(id))


class Session:
    """One session. `run_id` is the last run that was begun through this object.

    What changes something takes a `key`: with the same key it is done once. All raise `Unavailable` and `Refused`.
    """

    def __init__(self, client: Client, id: str, run_id: str | None = None) -> None:  # noqa: A002 - the protocol's word
        self.id = id
        self.run_id = run_id
        self._client = client
        self._path = f"/v1/sessions/{id}"

    async def events(
        self, after: str | None = None, *, types: Sequence[str] = (), deltas: Literal["all", "final"] = "all"
    ) -> AsyncGenerator[Event, None]:
        """Yield the events after a cursor, then those that come, each once and in order, until the session is closed.

        It resumes by itself; leave it with `break` or `aclosing`. `types` are the only ones to be shown; without
        deltas messages come whole. Raises `Lost` when there was no stream for too long, and `Refused`.
        """
        async with aclosing(self.watch(after, types=types, deltas=deltas)) as watching:
            async for seen in watching:
                if isinstance(seen, Event):
                    yield seen

    def watch(
        self,
        after: str | None = None,
        *,
        types: Sequence[str] = (),
        deltas: Literal["all", "final"] = "all",
        patience: Patience | None = None,
    ) -> AsyncGenerator[Seen, None]:
        """Yield events as `events` does, and between them what becomes of the connection."""
        view = View(self.id, after, tuple(types), deltas)
        return watch(self._client.http, view, patience=patience or self._client.patience)

    async def say(
        self,
        content: Content,
        *,
        mode: Literal["queue", "interrupt", "reject"] | None = None,
        key: str | None = None,
    ) -> str:
        """Send a message, and give the id of the run that will answer it. `mode` is for while a run is going."""
        body = {"content": content} | ({} if mode is None else {"mode": mode})
        said = await self._client.post(f"{self._path}/messages", body, key=key or _new_key())
        self.run_id = text_in(said, "run_id")
        return self.run_id

    async def cancel(self, run_id: str | None = None, *, key: str | None = None) -> None:
        """Ask for a run, or for all that is going or waiting, to be stopped."""
        await self._client.post(
            f"{self._path}/cancel", {} if run_id is None else {"run_id": run_id}, key=key or _new_key()
        )

    async def answer(self, question_id: str, content: Any, *, key: str | None = None) -> None:  # any JSON
        """Answer a question that a call asked."""
        path = f"{self._path}/answers/{quote(question_id, safe='')}"
        await self._client.post(path, {"content": content}, key=key or _new_key())

    async def close(self, *, key: str | None = None) -> None:
        """Cancel everything and end the session."""
        await self._client.post(f"{self._path}/close", {}, key=key or _new_key())

    async def state(self) -> dict[str, Any]:
        """Give the session as it stands (protocol P48, P49)."""
        return await self._client.get(self._path)

    async def result(self, run_id: str | None = None) -> str:
        """Wait for the end of a run (the last that was begun here), and give its answer's text.

        Raises `NoAnswer` if it failed or was cancelled, `Lost` if there was no stream for too long.
        """
        run = run_id or self.run_id
        if run is None:
            raise PlayheadError("no run was begun here: name the one whose result you want")
        text = ""
        async with aclosing(self.events(types=("final_response", *RUN_ENDS))) as events:
            async for event in events:
                if event.run_id != run:
                    continue
                match event.type:
                    case "final_response":
                        text = text_in(event.data, "text")
                    case "run_completed":
                        return text
                    case _:
                        raise NoAnswer(event)
        raise PlayheadError(f"{self.id} is closed, and there was no {run} in it")


def _new_key() -> str:
    return uuid.uuid4().hex
