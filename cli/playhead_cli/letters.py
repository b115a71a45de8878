"""`dlq ls`, `dlq show`, `dlq retry` and `dlq drop`: what operators do about dead letters. Pure HTTP clients.

Each is a coroutine that returns the exit code; what goes wrong is raised, and `main` says it in one line. Where several
letters are dealt with, one that is refused is said and holds up none of the others.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Literal
from urllib.parse import quote

from playhead.client import Client, Refused

from playhead_cli.asking import client_of
from playhead_cli.hand import show_members
from playhead_cli.render import Event, clean, compact
from playhead_cli.talk import when
from playhead_cli.terminal import Terminal

__all__ = ["handle", "list_letters", "show_letter"]

URL = "/v1/deadletters"

PAGE = 500
"""How many letters one question asks for, where all are wanted."""

ERROR_CHARACTERS_MAX = 80


async def list_letters(url: str, terminal: Terminal, params: dict[str, str | int], *, as_json: bool) -> int:
    """List dead letters, newest first."""
    async with client_of(url) as client:
        page = await client.get(URL, params)
    if as_json:
        terminal.line(json.dumps(page, ensure_ascii=False))
        return 0
    letters: list[Event] = page.get("letters", [])
    for letter in letters:
        what = str(letter.get("tool") or letter.get("type") or letter["topic"])
        who = str(letter.get("session", ""))
        terminal.line(
            clean(
                f"{letter['id']:<8} {when(letter['at'])}  {letter['state']:<8} {what:<20} {who:<30} "
                f"{compact(letter['error'], ERROR_CHARACTERS_MAX)}"
            )
        )
    if not letters:
        terminal.note("no such dead letters")
    elif page.get("next_cursor"):
        terminal.note(f"more: --cursor {page['next_cursor']}")
    return 0


async def show_letter(url: str, terminal: Terminal, name: str, *, as_json: bool) -> int:
    """Show one dead letter."""
    async with client_of(url) as client:
        letter = await client.get(f"{URL}/{quote(name, safe='')}")
    if as_json:
        terminal.line(json.dumps(letter, ensure_ascii=False))
    else:
        show_members(terminal, letter)
    return 0


async def handle(
    url: str, terminal: Terminal, names: Sequence[str], how: Literal["retry", "drop"], *, raw: bool = False
) -> int:
    """Send letters again or leave them be; without any named, all that are new. Returns 1 if one was refused."""
    code, count = 0, 0
    async with client_of(url) as client, aclosing(_named(client, names)) as wanted:
        async for name in wanted:
            count += 1
            query = "?raw=true" if raw and how == "retry" else ""
            try:
                done = await client.post(f"{URL}/{quote(name, safe='')}/{how}{query}", {}, key=uuid.uuid4().hex)
            except Refused as refused:
                terminal.note(clean(str(refused)))
                code = 1
            else:
                terminal.line(clean(f"{name} {done['state']}"))
    if not count:
        terminal.note("no new dead letters")
    return code


async def _named(client: Client, names: Sequence[str]) -> AsyncGenerator[str, None]:
    """Yield the letters that are meant: page by page, since a letter that is dealt with is new no more."""
    for name in names:
        yield name
    params: dict[str, str | int] = {"state": "new", "limit": PAGE}
    while not names:
        page = await client.get(URL, params)
        for letter in page["letters"]:
            yield str(letter["id"])
        if "next_cursor" not in page:
            return
        params["cursor"] = str(page["next_cursor"])
