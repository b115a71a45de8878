"""Scenarios: files that say what the scripted model says. Reading one is the only I/O; the rest is pure.

A scenario is a JSON list of turns, each `{"steps": […]}`, or `{"when": "…", "steps": […]}`. The last text that a user
sent is answered by the first turn whose `when` is in it (in any case); without one, texts take the turns that have no
`when` in order, each text one. When those have run out, the model makes up an answer (`improvise`).

A step is an object with one key:

    {"think": "…"}                         reasoning
    {"say": "…"}                           text
    {"use": {"tool": "…", "input": {…}}}   a tool use; `"json": "…"` in place of `input` gives its text, broken or not
    {"pause": 0.5}                         nothing, for so many seconds
    {"delta_characters": 3}                how long each delta is from here on in this message
    {"fail": {"code": "overloaded", "message": "…", "retryable": true, "after": 2, "times": 1, "retry_after": 0.1}}

`fail` breaks the call off once `after` deltas (0) have been said, in the first `times` attempts (1); all but `code` may
be left out. Tool uses end a message: what follows them is said when their results are there. So a turn with one group
of uses is two model calls. A model called more often than its turn has messages says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from playhead.errors import Misconfigured

__all__ = ["DeltaCharacters", "Fail", "Pause", "Say", "Scenario", "Step", "Think", "Use", "load"]

SCENARIO_BYTES_MAX = 16 * 1024 * 1024
NOTHING_MORE = "(The scenario has nothing more to say here.)"


@dataclass(frozen=True, slots=True)
class Think:
    """Reason."""

    text: str


@dataclass(frozen=True, slots=True)
class Say:
    """Say a text."""

    text: str


@dataclass(frozen=True, slots=True)
class Use:
    """Use a tool; `json` is its input."""

    tool: str
    json: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Say nothing for a while."""

    seconds: float


@dataclass(frozen=True, slots=True)
class DeltaCharacters:
    """Say it in deltas of this length from here on."""

    characters: int


@dataclass(frozen=True, slots=True)
class Fail:
    """Break off after some deltas, in the first attempts."""

    code: str
    message: str
    retryable: bool = True
    after: int = 0
    times: int = 1
    retry_after: float | None = None


Step = Think | Say | Use | Pause | DeltaCharacters | Fail
Message = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """The answer to one text of a user, as the messages that it takes."""

    when: str | None
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a model is to say."""

    turns: tuple[Turn, ...] = ()

    def message(self, texts: Sequence[str], answered: int) -> Message | None:
        """Give the message that comes after `answered` messages to the last of a user's texts; `None` to improvise."""
        turn = self._turn(texts)
        if turn is None:
            return None
        return turn.messages[answered] if answered < len(turn.messages) else (Say(NOTHING_MORE),)

    def _turn(self, texts: Sequence[str]) -> Turn | None:
        named = self._named(texts[-1]) if texts else None
        if named is not None or not texts:
            return named
        place = sum(self._named(text) is None for text in texts) - 1
        in_order = [turn for turn in self.turns if turn.when is None]
        return in_order[place] if place < len(in_order) else None

    def _named(self, text: str) -> Turn | None:
        return next((turn for turn in self.turns if turn.when is not None and turn.when in text.casefold()), None)


class _Wrong(Exception):
    """What is wrong in a scenario; the place is its message's beginning."""


def load(path: Path) -> Scenario:
    """Read a scenario. Raises `Misconfigured`, which names the file and the place in it."""
    try:
        with path.open("rb") as file:
            data = file.read(SCENARIO_BYTES_MAX + 1)
        if len(data) > SCENARIO_BYTES_MAX:
            raise _Wrong(f"has more than {SCENARIO_BYTES_MAX} bytes")
        turns = _list("the scenario", json.loads(data))
        return Scenario(tuple(_turn(f"turn {place}", turn) for place, turn in enumerate(turns, 1)))
    except OSError as error:
        raise Misconfigured(f"scenario {path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Misconfigured(f"scenario {path}: is not UTF-8 text: {error}") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Misconfigured(f"scenario {path}: is not JSON: {where}: {error.msg}") from error
    except _Wrong as error:
        raise Misconfigured(f"scenario {path}: {error}") from error


def _turn(place: str, value: object) -> Turn:
    fields = _object(place, value, {"when", "steps"})
    if "steps" not in fields:
        raise _Wrong(f"{place}: `steps` is missing")
    when = _text(f"{place}, `when`", fields["when"]) if "when" in fields else None
    steps = _list(f"{place}, `steps`", fields["steps"])
    made = [_step(f"{place}, step {number}", step) for number, step in enumerate(steps, 1)]
    return Turn(None if when is None else when.casefold(), tuple(_messages(made)))


def _messages(steps: Iterable[Step]) -> Iterable[Message]:
    """Split a turn where its tool uses end."""
    message: list[Step] = []
    for step in steps:
        if message and isinstance(message[-1], Use) and not isinstance(step, Use):
            yield tuple(message)
            message = []
        message.append(step)
    if message:
        yield tuple(message)


def _step(place: str, value: object) -> Step:
    step = _object(place, value, {"think", "say", "use", "pause", "delta_characters", "fail"})
    if len(step) != 1:
        raise _Wrong(f"{place}: a step has one key, not {len(step)}")
    kind, given = next(iter(step.items()))
    place = f"{place}, `{kind}`"
    match kind:
        case "think":
            return Think(_text(place, given))
        case "say":
            return Say(_text(place, given))
        case "use":
            return _use(place, given)
        case "pause":
            return Pause(_number(place, given))
        case "delta_characters":
            return DeltaCharacters(max(1, _count(place, given)))
        case _:
            return _fail(place, given)


def _use(place: str, value: object) -> Use:
    fields = _object(place, value, {"tool", "input", "json"})
    if "tool" not in fields or {"input", "json"} <= fields.keys():
        raise _Wrong(f"{place}: give `tool`, and `input` or `json`")
    if "json" in fields:
        return Use(_text(place, fields["tool"]), _text(place, fields["json"]))
    given = fields.get("input", {})
    if not isinstance(given, dict):
        raise _Wrong(f"{place}: `input` is an object")
    return Use(_text(place, fields["tool"]), json.dumps(given, ensure_ascii=False))


def _fail(place: str, value: object) -> Fail:
    fields = _object(place, value, {"code", "message", "retryable", "after", "times", "retry_after"})
    code = _text(f"{place}: `code`", fields.get("code"))
    retryable = fields.get("retryable", True)
    if not isinstance(retryable, bool):
        raise _Wrong(f"{place}: `retryable` is true or false")
    retry_after = fields.get("retry_after")
    return Fail(
        code,
        _text(place, fields.get("message", f"the scenario says that this call fails: {code}")),
        retryable,
        _count(f"{place}: `after`", fields.get("after", 0)),
        _count(f"{place}: `times`", fields.get("times", 1)),
        None if retry_after is None else _number(f"{place}: `retry_after`", retry_after),
    )


def _object(place: str, value: object, known: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _Wrong(f"{place}: an object belongs here")
    fields = cast("dict[str, Any]", value)
    unknown = fields.keys() - known
    if unknown:
        raise _Wrong(f"{place}: no such key: {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    return fields


def _list(place: str, value: object) -> list[object]:
    if not isinstance(value, list):
        raise _Wrong(f"{place}: a list belongs here")
    return cast("list[object]", value)


def _text(place: str, value: object) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"{place}: a text belongs here")
    return value


def _number(place: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise _Wrong(f"{place}: a number from 0 belongs here")
    return float(value)


def _count(place: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _Wrong(f"{place}: a whole number from 0 belongs here")
    return value
