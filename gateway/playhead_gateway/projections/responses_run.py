"""One run as a response of the OpenAI Responses API: native JSON events in, stream events and the object out. Pure.

`Telling.take` is the whole translation. What the two protocols do not share:

* **Numbers.** `sequence_number` counts what is said from the run's first event, so whoever reads the run again counts
  the same, and `starting_after` is a suffix.
* **A run that waits for its user** has no equivalent. Once none of its calls can go on without an answer, the response
  ends as `incomplete`; its `metadata` say what is asked, where to answer, and the id of the response in which the run
  goes on (`playhead_next_response`). A call that is still open there is told again.
* **A cancelled run** ends with `response.incomplete`, the `status` being `cancelled`: there is no event of that name.
* **A lost attempt** leaves emptied items (see `responses_items`).
* **Progress, retries, partial results** are not told: typed clients fail on types that they do not know. The native
  stream has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import orjson

from playhead_gateway.projections.response_name import ResponseName
from playhead_gateway.projections.responses_items import Items, Said

__all__ = ["About", "Telling"]

Status = Literal["queued", "in_progress", "completed", "failed", "cancelled", "incomplete"]

STOPPED = ("interrupted", "cancelled")
CUT_SHORT = {"max_tokens": "max_output_tokens", "content_filter": "content_filter"}
"""The stop reasons of a message that is not whole, by what the API calls them."""

ERRORS = {"rate_limited": "rate_limit_exceeded", "invalid_request": "invalid_prompt", "refused": "invalid_prompt"}
"""The API's codes for failures; typed clients know no others. The run's own code is in the metadata."""

METADATA_CHARS_MAX = 512
MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class About:
    """What a response says of its session: the agent as `model`, and the metadata."""

    agent: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, agent: str | None, metadata: object) -> About:
        """Take metadata of any shape: the API's values are strings."""
        known = cast("dict[str, object]", metadata) if isinstance(metadata, dict) else {}
        return cls(agent or "", {name: _text(value) for name, value in known.items()})


@dataclass(slots=True)
class Part:
    """What of a run is one response."""

    number: int
    items: Items
    created_at: float
    status: Status = "queued"
    over_at: float | None = None
    error: Said | None = None
    incomplete: Said | None = None
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    usage: dict[str, int] = field(default_factory=dict[str, int])


class Telling:
    """Tells one response. `about` is what is known of the session before its first event comes by; `asked_at` the time,
    in seconds since the epoch, of a response that is not in the log yet.
    """

    def __init__(self, name: ResponseName, about: About | None = None, asked_at: float = 0.0) -> None:
        self.name = name
        self.is_over = False
        """Whether all is said."""
        self._about = about or About()
        self._asked_at = asked_at
        self._part: Part | None = None
        self._has_ended = False
        self._open: dict[str, Said] = {}  # calls without a result
        self._asked: dict[str, Said] = {}  # what the user is asked, by call or question
        self._stop_reason = ""
        self._number = 0
        self._said: list[Said] = []
        self._handlers: Mapping[str, Callable[[Part, Said], None]] = {
            "user_message": self._user_message,
            "run_started": self._run_started,
            "run_completed": self._run_completed,
            "run_failed": self._run_failed,
            "run_cancelled": self._run_cancelled,
            "model_call_started": self._called,
            "text_delta": self._text,
            "thinking": self._thinking,
            "model_call_completed": self._completed,
            "model_call_failed": self._lost,
            "model_call_abandoned": self._lost,
            "tool_call": self._tool_call,
            "tool_result": self._tool_result,
            "question_asked": self._asks,
            "question_answered": self._answered,
            "approval_requested": self._asks,
            "approval_given": self._answered,
        }

    @property
    def is_begun(self) -> bool:
        """Whether the log has this response."""
        return self._part is not None and self._part.number == self.name.part

    @property
    def is_missing(self) -> bool:
        """Whether the run has ended without it."""
        return self._has_ended and not self.is_begun

    def take(self, event: Said) -> list[Said]:
        """Give what a native event is here. Takes the events of a session in order, at least all those of the run."""
        if event["type"] == "session_started":
            self._about = About.of(event.get("agent"), event.get("metadata"))
        if event.get("run_id") != self.name.run:
            return []
        part, handler = self._part, self._handlers.get(event["type"])
        if part is not None and event["type"] == "guardrail_tripped" and "withdraws" in event:
            # Also after the end: who asks for the response from then on is not shown it.
            part.items.withdraw(event["withdraws"]["first"], event["withdraws"]["last"])
        if handler is None or self.is_over or self._has_ended:
            return self._taken()
        if part is None or part.over_at is not None:
            part = self._begin(event, 1 if part is None else part.number + 1)
        handler(part, event)
        self._wait_for_user(part, event)
        self.is_over = self._has_ended or (self.is_begun and part.over_at is not None)
        return self._taken()

    def _taken(self) -> list[Said]:
        said, self._said = self._said, []
        return said if self.is_begun else []

    def response(self) -> Said:
        """Give the response as it stands."""
        part = self._part
        if part is None or part.number != self.name.part:
            part = Part(self.name.part, Items("", "mcp", self._say), self._asked_at)
        return self._view(part)

    def _view(self, part: Part) -> Said:
        about = self._about
        return {
            "id": str(self.name),
            "object": "response",
            "created_at": part.created_at,
            "status": part.status,
            "background": True,
            "completed_at": part.over_at if part.status == "completed" else None,
            "error": part.error,
            "incomplete_details": part.incomplete,
            "instructions": None,
            "metadata": {**about.metadata, **part.metadata},
            "model": about.agent,
            "output": part.items.view(),
            "parallel_tool_calls": True,
            "conversation": {"id": self.name.session},
            "store": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": None if part.over_at is None else _usage(part.usage),
        }

    # --- what is said ----------------------------------------------------------------------------------------------

    def _say(self, kind: str, **members: Any) -> None:
        self._said.append({"type": kind, "sequence_number": self._number, **members})
        self._number += 1

    def _say_status(self, part: Part, kind: str) -> None:
        self._say(f"response.{kind}", response=self._view(part))

    def _begin(self, event: Said, number: int) -> Part:
        name = self.name.run.removeprefix("run_") + (f"_{number}" if number > 1 else "")
        self._number, self._said = 0, []
        part = self._part = Part(number, Items(name, self.name.tool_items, self._say), event["at"] / MICROSECONDS)
        part.status = "queued" if event["type"] == "user_message" else "in_progress"
        self._say_status(part, "created")
        if part.status == "queued":
            self._say_status(part, "queued")
        elif number > 1:
            self._say_status(part, "in_progress")
        if self.name.tool_items == "mcp":
            for call in self._open.values():
                part.items.call(call)
        return part

    def _wait_for_user(self, part: Part, event: Said) -> None:
        """End the part if only the user can have the run go on."""
        ready = [call for call, made in self._open.items() if not self._open.keys() & made.get("waits_for", ())]
        if part.over_at is not None or not self._asked or any(call not in self._asked for call in ready):
            return
        asked, session = next(iter(self._asked.values())), self.name.session
        where: dict[str, str] = {"playhead_session": session, "playhead_run": self.name.run}
        if "call_id" in asked:
            where["playhead_call"] = asked["call_id"]
        if asked["type"] == "question_asked":
            where["playhead_question"] = asked["question_id"]
            where["playhead_asks"] = _text(asked["content"])[:METADATA_CHARS_MAX]
            where["playhead_answer"] = f"POST /v1/sessions/{session}/answers/{asked['question_id']}"
        else:
            where["playhead_asks"] = asked["reason"][:METADATA_CHARS_MAX]
            where["playhead_answer"] = f"POST /v1/sessions/{session}/approvals/{asked['call_id']}"
        part.metadata = {**where, "playhead_next_response": str(self.name.next)}
        part.incomplete = {}
        self._end(part, event, "incomplete", "incomplete")

    def _end(self, part: Part, event: Said, status: Status, kind: str) -> None:
        part.items.close()
        part.status, part.over_at = status, event["at"] / MICROSECONDS
        self._say_status(part, kind)

    # --- the run ---------------------------------------------------------------------------------------------------

    def _user_message(self, part: Part, event: Said) -> None:
        pass  # with it the first part begins

    def _run_started(self, part: Part, event: Said) -> None:
        part.status = "in_progress"
        self._say_status(part, "in_progress")

    def _run_completed(self, part: Part, event: Said) -> None:
        self._has_ended = True
        reason = CUT_SHORT.get(self._stop_reason)
        if reason is None:
            self._end(part, event, "completed", "completed")
        else:
            part.incomplete = {"reason": reason}
            self._end(part, event, "incomplete", "incomplete")

    def _run_failed(self, part: Part, event: Said) -> None:
        self._has_ended = True
        error = event["error"]
        part.error = {"code": ERRORS.get(error["code"], "server_error"), "message": error["message"]}
        part.metadata = {"playhead_error": error["code"]}
        self._end(part, event, "failed", "failed")

    def _run_cancelled(self, part: Part, event: Said) -> None:
        self._has_ended = True
        part.incomplete = {}
        part.metadata = {"playhead_cancelled": event["reason"][:METADATA_CHARS_MAX]}
        self._end(part, event, "cancelled", "incomplete")

    # --- its model calls -------------------------------------------------------------------------------------------

    def _called(self, part: Part, event: Said) -> None:
        part.items.take_back()
        self._stop_reason = ""

    def _text(self, part: Part, event: Said) -> None:
        part.items.grow("text", event["text"], event["seq"])

    def _thinking(self, part: Part, event: Said) -> None:
        part.items.grow("thinking", event["text"], event["seq"])

    def _completed(self, part: Part, event: Said) -> None:
        self._stop_reason = event["stop_reason"]
        is_cut = self._stop_reason in STOPPED or self._stop_reason in CUT_SHORT
        part.items.settle(event["message"], event["seq"], "incomplete" if is_cut else "completed")
        for name, count in event["usage"].items():
            part.usage[name] = part.usage.get(name, 0) + count

    def _lost(self, part: Part, event: Said) -> None:
        part.items.take_back()

    # --- its calls -------------------------------------------------------------------------------------------------

    def _tool_call(self, part: Part, event: Said) -> None:
        self._open[event["call_id"]] = event
        part.items.call(event)

    def _tool_result(self, part: Part, event: Said) -> None:
        self._open.pop(event["call_id"], None)
        self._asked.pop(event["call_id"], None)
        part.items.result(event)

    def _asks(self, part: Part, event: Said) -> None:
        self._asked[event.get("call_id") or event["question_id"]] = event

    def _answered(self, part: Part, event: Said) -> None:
        is_it = "question_id" if event["type"] == "question_answered" else "call_id"
        self._asked = {key: asked for key, asked in self._asked.items() if asked.get(is_it) != event[is_it]}


def _usage(counts: Mapping[str, int]) -> Said:
    """Give the tokens as the API counts them: those of the cache are among those of the input."""
    cached, written = counts.get("cache_read_tokens", 0), counts.get("cache_write_tokens", 0)
    given, made = counts.get("input_tokens", 0) + cached + written, counts.get("output_tokens", 0)
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": given + made,
    }


def _text(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
