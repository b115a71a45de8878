"""Values of every event and command type, derived from the classes' hints, so that no new field is forgotten."""

from __future__ import annotations

import json
from dataclasses import is_dataclass
from types import NoneType
from typing import Any, cast, get_args

from hypothesis import strategies as st
from playhead.codec import Context
from playhead.commands import Command, command_types
from playhead.events import Event, Hash, Json, event_types
from playhead.ids import SessionId
from playhead.schema import field_kinds

LONG = st.integers(-(2**63), 2**63 - 1)

JSON_TEXT = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
).map(lambda value: Json(json.dumps(value, ensure_ascii=False)))

PLAIN: dict[object, st.SearchStrategy[Any]] = {
    str: st.text(max_size=20),
    int: LONG,
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    bytes: st.binary(max_size=40),
    NoneType: st.none(),
}


def values(kind: type[object]) -> st.SearchStrategy[Any]:
    """Give values of a class, every field drawn by its hint."""
    return st.builds(kind, **{name: _of(hint) for name, _, hint, _ in field_kinds(kind)})


def _of(hint: Any) -> st.SearchStrategy[Any]:
    if hint is Json:
        return JSON_TEXT
    if hint is Hash:
        return st.binary(min_size=32, max_size=32)
    while hasattr(hint, "__supertype__"):
        hint = hint.__supertype__
    if hint in PLAIN:
        return PLAIN[hint]
    if is_dataclass(hint):
        return values(cast("type[object]", hint))
    arms = get_args(hint)
    if getattr(hint, "__origin__", None) is tuple:
        return st.lists(_of(arms[0]), max_size=4).map(tuple)
    return st.one_of(*map(_of, arms))


EVENTS: dict[type[Event], st.SearchStrategy[Event]] = {kind: values(kind) for kind in event_types()}
COMMANDS: dict[type[Command], st.SearchStrategy[Command]] = {kind: values(kind) for kind in command_types()}

ANY_EVENT: st.SearchStrategy[Event] = st.one_of(*EVENTS.values())
ANY_COMMAND: st.SearchStrategy[Command] = st.one_of(*COMMANDS.values())

SESSION_IDS = st.text("abcdefghij234567", min_size=26, max_size=26).map(lambda text: SessionId(f"ses_{text}"))
CONTEXTS = st.builds(
    Context,
    SESSION_IDS,
    LONG,
    st.none() | st.text(max_size=20),
    LONG,
    st.none() | st.text(max_size=20),
)
