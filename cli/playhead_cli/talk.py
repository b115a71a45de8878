"""The commands that talk to a gateway: `send`, `tail`, `ls`, `show`, `cancel`. Pure HTTP clients.

Each is a coroutine that returns the exit code; what goes wrong is raised, and `main` says it in one line.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from playhead.client import Client, Dropped, Ended, Event, Lost, Opened, Patience, Seen
from playhead.errors import Unavailable
from playhead.ids import parse_cursor

from playhead_cli.asking import client_of
from playhead_cli.render import Object, Piece, Renderer, clean, compact, text_of
from playhead_cli.terminal import Terminal

__all__ = ["Follow", "Message", "cancel", "ls", "send", "show", "tail", "when"]

RUN_ENDS = {"run_completed": 0, "run_failed": 1, "run_cancelled": 1}
"""What ends a run, and the exit code that `send` gives for it."""


@dataclass
class Follow:
    """How to show a stream, and (to resume by) how far it was shown."""

    terminal: Terminal
    as_json: bool = False
    echo_user: bool = True
    session: str | None = None
    cursor: str | None = None
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        self._renderer = Renderer(echo_user=self.echo_user)

    async def events(self, client: Client) -> AsyncGenerator[Seen, None]:
        """Yield what the stream tells, each after it was shown."""
        assert self.session is not None
        watching = client.session(self.session).watch(self.cursor, patience=self.patience)
        try:
            async with aclosing(watching):
                async for seen in watching:
                    self._show(seen)
                    yield seen
        except Lost as lost:
            again = f"playhead tail {lost.session}" + (f" --after {lost.cursor}" if lost.cursor else "")
            raise Unavailable(f"{lost}, with `{again}`") from lost
        self.end()

    def end(self) -> None:
        """End the line that is open."""
        self.terminal.show(self._renderer.close())

    def _show(self, seen: Seen) -> None:
        match seen:
            case Event():
                self.cursor = seen.cursor
                if self.as_json:
                    self.terminal.show([Piece("text", seen.raw + "\n")])
                else:
                    self.terminal.show(self._renderer.feed(seen.data))
            case Dropped():
                self.end()
                since = f"after {seen.cursor}" if seen.cursor else "from the beginning"
                self.terminal.note(f"connection lost ({seen.reason}); resuming {since}")
            case Opened() | Ended():
                pass


@dataclass(frozen=True, slots=True)
class Message:
    """What `send` says, and to whom: a session that exists, or a new one of an agent."""

    text: str
    session: str | None = None
    agent: str | None = None
    mode: str | None = None


async def send(url: str, message: Message, follow: Follow, *, wait: bool) -> int:
    """Say something, and unless told otherwise show the answer. Returns 1 if its run fails or is cancelled."""
    async with client_of(url) as client:
        run = await _say(client, message, follow)
        if not wait:
            follow.terminal.line(follow.session or "")
            return 0
        async with aclosing(follow.events(client)) as stream:
            async for seen in stream:
                if isinstance(seen, Event) and seen.type in RUN_ENDS and seen.run_id == run:
                    follow.end()
                    if not follow.as_json:
                        follow.terminal.note(f"session {follow.session}")
                    return RUN_ENDS[seen.type]
        return 1


async def _say(client: Client, message: Message, follow: Follow) -> str:
    key = uuid.uuid4().hex
    if message.session is None:
        body: dict[str, Any] = {"input": message.text} | ({"agent": message.agent} if message.agent else {})
        made = await client.post("/v1/sessions", body, key=key)
        follow.session = str(made["id"])
        return str(made["run_id"])
    # What is told from here on is told after what is there now; the run's own events are all later.
    state = await client.get(f"/v1/sessions/{message.session}")
    follow.session, follow.cursor = message.session, str(state.get("cursor", state["last_seq"]))
    body = {"content": message.text} | ({"mode": message.mode} if message.mode else {})
    said = await client.post(f"/v1/sessions/{message.session}/messages", body, key=key)
    return str(said["run_id"])


async def tail(url: str, follow: Follow, *, until_idle: bool) -> int:
    """Show a session's stream, to its end or, with `until_idle`, until no run is going or waiting to go."""
    async with client_of(url) as client, aclosing(follow.events(client)) as stream:
        last_seq = 0
        async for seen in stream:
            match seen:
                case Opened():
                    last_seq = seen.last_seq
                    may_be_idle = 0 < last_seq <= (parse_cursor(follow.cursor).seq if follow.cursor else 0)
                case Event():
                    may_be_idle = seen.seq == last_seq or (seen.seq > last_seq and seen.type in RUN_ENDS)
                case _:
                    may_be_idle = False
            if until_idle and may_be_idle and await _is_idle(client, follow):
                break
        follow.end()
    return 0


async def _is_idle(client: Client, follow: Follow) -> bool:
    # The end of one run is not the end of work: messages may be queued behind it. The gateway folds them all.
    state = await client.get(f"/v1/sessions/{follow.session}")
    return state["status"] in {"idle", "closed"}


async def ls(url: str, terminal: Terminal, params: dict[str, str | int], *, as_json: bool) -> int:
    """List sessions, newest first."""
    async with client_of(url) as client:
        page = await client.get("/v1/sessions", params)
    if as_json:
        terminal.line(json.dumps(page, ensure_ascii=False))
        return 0
    sessions: list[Object] = page.get("sessions", [])
    for session in sessions:
        terminal.line(
            f"{session['id']}  {session['status']:<8} {session.get('last_seq', 0):>7}  "
            f"{when(session.get('updated_at'))}  "
            f"{clean(str(session.get('agent', '')))}"
        )
    if not sessions:
        terminal.note('no sessions yet: start one with `playhead send "…"`')
    elif page.get("next_cursor"):
        terminal.note(f"more: --cursor {page['next_cursor']}")
    return 0


async def show(url: str, terminal: Terminal, session: str, *, as_json: bool) -> int:
    """Show a session as it stands: its state, its messages and what it took."""
    async with client_of(url) as client:
        state = await client.get(f"/v1/sessions/{session}")
    if as_json:
        terminal.line(json.dumps(state, ensure_ascii=False))
        return 0
    terminal.line(
        f"{session}  {state['status']}  {state['last_seq']} events  {clean(str(state.get('agent', '')))}", "note"
    )
    for message in state.get("messages", []):
        _show_message(terminal, message)
    usage: dict[str, int] = state.get("usage") or {}
    took = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in usage.items() if count)
    if took:
        terminal.line(took, "note")
    return 0


def _show_message(terminal: Terminal, message: Object) -> None:
    for block in _blocks(message["content"]):
        match block.get("type"):
            case "tool_use":
                terminal.line(clean(f"→ {block['name']} {compact(block['input'])}"), "tool")
            case "tool_result":
                terminal.line(clean(f"← {compact(block['content'])}"), "tool")
            case "thinking":
                terminal.line(clean(block["text"]), "thinking")
            case "text" if message["role"] == "user":
                terminal.line(clean(f"› {block['text']}"), "user")
            case "text":
                terminal.line(clean(text_of([block])))
            case _:
                terminal.line(clean(compact(block)), "note")


def _blocks(content: Any) -> list[Object]:
    match content:
        case str():
            return [{"type": "text", "text": content}]
        case list():
            return cast("list[Object]", content)
        case _:
            return [content]


async def cancel(url: str, terminal: Terminal, session: str, run: str | None) -> int:
    """Ask for a run, or everything that a session does, to stop."""
    async with client_of(url) as client:
        body = {} if run is None else {"run_id": run}
        await client.post(f"/v1/sessions/{session}/cancel", body, key=uuid.uuid4().hex)
    terminal.note(f"asked {session} to stop")
    return 0


def when(at: object) -> str:
    """Write a time, given in microseconds since the epoch, as it is here."""
    if not isinstance(at, int):
        return f"{at or '':<19}"[:19]
    return datetime.fromtimestamp(at / 1e6, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
