"""One fixed, fully filled value of every event and command type: no chance, so that bytes can be compared for ever."""

from __future__ import annotations

from dataclasses import is_dataclass
from hashlib import sha256
from typing import Any, cast, get_args

from playhead.codec import Context
from playhead.commands import Command, command_types
from playhead.events import Event, Hash, Json, event_types
from playhead.ids import SessionId
from playhead.schema import field_kinds

SESSION = SessionId("ses_golden222222222222222222aa")
CONTEXT = Context(SESSION, 3, "req_1", 1_760_000_000_000_000, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


def sample(kind: type[Any]) -> Any:
    """Fill every field of a class, each differently."""
    given = {name: _filled(hint, wire, place) for place, (name, wire, hint, _) in enumerate(field_kinds(kind))}
    return kind(**given)


def sample_events() -> list[Event]:
    return [sample(kind) for kind in event_types()]


def sample_commands() -> list[Command]:
    return [sample(kind) for kind in command_types()]


def _filled(hint: Any, wire: str, place: int) -> Any:
    if hint is Json:
        return Json(f'{{"{wire}":[{place},"é \\u2028"]}}')
    if hint is Hash:
        return Hash(sha256(wire.encode()).digest())
    while hasattr(hint, "__supertype__"):
        hint = hint.__supertype__
    plain: dict[object, Any] = {
        str: f"{wire} {place} ü",
        int: 1_000_003 * (place + 1),
        float: place + 0.25,
        bool: True,
        bytes: bytes((0, 255, place)),
    }
    if hint in plain:
        return plain[hint]
    if is_dataclass(hint):
        return sample(cast("type[object]", hint))
    arms = get_args(hint)
    if getattr(hint, "__origin__", None) is tuple:
        return tuple(_filled(arms[0], wire, place + n) for n in range(3))
    return _filled(arms[0], wire, place)
