"""A session as AG-UI 1.0 has it: native JSON events in, AG-UI events out. Pure.

`Thread.take` is the whole translation. It gives the same events for the same log, and it keeps the messages that a
client has once it applied them, so that a snapshot can be given at any place. What the two protocols do not share:

* **Ids.** A user's message and a run have the ids of the log, and a run the client's own where that is known. A step's
  answer is one message, `msg-<run>-<step>-<attempt>`, its reasoning `think-<run>-<step>`, a result `result-<call>`, a
  call's progress `act-<call>`.
* **A run that waits for its user.** For AG-UI that is the end of a run, with the outcome `interrupt`, and the answer
  begins another. So one run of ours can be several of theirs: `<run>`, `<run>.2`, … It waits once no call of it can go
  on without the user (as the status `waiting` has it): an interrupt names all that is asked at that moment.
* **A lost attempt.** What it said is void. Its open items are ended, and a `MESSAGES_SNAPSHOT` without its text comes;
  the next attempt's answer is a new message. Its reasoning stays, emptied, and the next attempt fills it again: the
  stock client keeps a reasoning message that a snapshot leaves out, unless the snapshot has another one.
* **Each run begins with a `MESSAGES_SNAPSHOT`.** A client names its user's messages as it likes, and the log does not
  know how. From there on both have the same ids in the same order, so that every later snapshot fits.
* **A call's arguments** are given whole: `tool_input_delta` does not know the tool's name, which must come first.

An event without a counterpart is said as `CUSTOM` `playhead.<type>` while its run goes on, with itself as the value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import orjson

from playhead_gateway.projections.agui_content import parts_of
from playhead_gateway.projections.agui_state import (
    KINDS,
    Call,
    Growing,
    Messages,
    Run,
    Said,
    approval_of,
    end_of,
    patch,
    question_of,
    texts,
)

__all__ = ["ACTIVITY", "PROTOCOL_VERSION", "Thread"]

PROTOCOL_VERSION = "1.0"
ACTIVITY = "playhead.tool"
"""The `activityType` of a call's progress."""

FINE = ("ok", "fallback")

SILENT = frozenset({"session_started", "owner_changed", "tool_input_delta", "final_response", "session_closed"})
"""Has nothing to say to a client of AG-UI."""


class Thread:
    """One session's conversation. `names` are the ids by which a client knows runs of ours."""

    def __init__(self, thread_id: str, names: Mapping[str, str] | None = None) -> None:
        self.run: Run | None = None
        self.is_heard = True
        """Whether anybody hears what is said: else no snapshots are made."""
        self._thread_id = thread_id
        self._names = names or {}
        self._messages = Messages()
        self._waiting: dict[str, Said] = {}
        self._last: tuple[str, int, Said] | None = None  # the run, the part and the end of what ended last
        self._said: list[Said] = []
        self._handlers: Mapping[str, Callable[[Said], None]] = {
            "user_message": self._user_message,
            "run_started": self._run_started,
            "run_completed": self._run_ended,
            "run_failed": self._run_ended,
            "run_cancelled": self._run_ended,
            "model_call_started": self._attempt_started,
            "thinking": partial(self._delta, "thinking"),
            "text_delta": partial(self._delta, "text"),
            "model_call_completed": self._answered,
            "model_call_failed": self._lost,
            "model_call_abandoned": self._lost,
            "tool_call": self._called,
            "tool_progress": self._progressed,
            "tool_result": self._returned,
            "tool_pending": self._put_off,
            "question_asked": partial(self._ask, question_of),
            "question_answered": self._settled,
            "approval_requested": partial(self._ask, approval_of),
            "approval_given": self._settled,
        }

    @property
    def is_active(self) -> bool:
        """Whether an AG-UI run is open."""
        return self.run is not None and self.run.is_open

    @property
    def waits_for_user(self) -> bool:
        """Whether there is a run, and nothing of it goes on without the user."""
        return self.run is not None and not self.run.is_open

    @property
    def is_idle(self) -> bool:
        """Whether nothing goes on, nor will without the user."""
        return self.waits_for_user or (self.run is None and not self._waiting)

    def take(self, event: Said) -> list[Said]:
        """Give what a native event is in AG-UI. Takes the events of a session one by one, from its first."""
        handler = self._handlers.get(event["type"])
        if handler is not None:
            handler(event)
        elif self.is_active and event["type"] not in SILENT:
            self._say_custom(event)
        if self.run is not None and self.run.is_open and (interrupts := self.run.interrupts):
            outcome = {"type": "interrupt", "interrupts": interrupts}
            self._end(self.run, {"type": "RUN_FINISHED", "outcome": outcome})
        return self._told()

    def prelude(self) -> list[Said]:
        """Give what brings a client here that knows nothing: the open run and its open items, or how the last ended."""
        if self.run is not None and self.run.is_open:
            self._say_started(self.run.run_id, self.run.part)
            for name, growing in self.run.said.items():
                if growing.is_open:
                    self._say_all(KINDS[name].starts, growing)
        elif self._last is not None:
            run_id, part, end = self._last
            self._say_started(run_id, part)
            self._said.append(end)
        return self._told()

    def unbegun(self, event: Said) -> list[Said]:
        """Give the whole of a run that ended while it waited for another one."""
        run = Run(event["run_id"], part=1)
        self._say_started(run.run_id, run.part)
        self._end(run, end_of(event))
        return self._told()

    def _told(self) -> list[Said]:
        said, self._said = self._said, []
        return said

    def _say(self, kind: str, **members: Any) -> None:
        self._said.append({"type": kind, **members})

    def _say_custom(self, event: Said) -> None:
        self._say("CUSTOM", name=f"playhead.{event['type']}", value=event)

    def _say_all(self, kinds: tuple[str, ...], growing: Growing) -> None:
        for kind in kinds:
            role = {"role": growing.message["role"]} if kind.endswith("MESSAGE_START") else {}
            self._say(kind, messageId=growing.message["id"], **role)

    def _say_started(self, run_id: str, part: int) -> None:
        about = {"playhead": {"run_id": run_id}}
        self._say("RUN_STARTED", **self._ids(run_id, part), protocolVersion=PROTOCOL_VERSION, metadata=about)
        self._say_snapshot()

    def _say_snapshot(self) -> None:
        if not self.is_heard:
            return
        for growing in () if self.run is None else self.run.said.values():
            growing.message["content"] = growing.text
        # Written out at once: what follows within the same event changes the messages.
        self._say("MESSAGES_SNAPSHOT", messages=self._messages.written())

    def _ids(self, run_id: str, part: int) -> Said:
        name = self._names.get(run_id) or (run_id if part == 1 else f"{run_id}.{part}")
        return {"threadId": self._thread_id, "runId": name}

    def _going(self, event: Said) -> Run | None:
        """Give the run that an event is of, open, or None if it is of none that is going."""
        run = self.run
        if run is None or event["run_id"] != run.run_id:
            return None
        if not run.is_open:
            run.part, run.is_open, run.tokens = run.part + 1, True, {}
            self._say_started(run.run_id, run.part)
        return run

    def _user_message(self, event: Said) -> None:
        message = {"id": event["message_id"], "role": "user", "content": parts_of(event["content"])}
        self._waiting[event["run_id"]] = message

    def _run_started(self, event: Said) -> None:
        message = self._waiting.pop(event["run_id"], None)
        if message is not None:
            self._messages.add(message)  # as for the model: while it waits, it is not part of the conversation
        self.run = Run(event["run_id"])
        self._going(event)

    def _run_ended(self, event: Said) -> None:
        run = self._going(event)
        if run is not None:
            self._forget(run)
            self._end(run, end_of(event))
            self.run = None
        elif self._waiting.pop(event["run_id"], None) is None:
            pass
        elif self.is_active:
            self._say_custom(event)  # one run cannot be within another
        else:
            self._said += self.unbegun(event)

    def _end(self, run: Run, how: Said) -> None:
        """End a run, or this part of one."""
        ids = self._ids(run.run_id, run.part) if how["type"] == "RUN_FINISHED" else {}
        end = {**how, **ids, **run.usage}
        self._last = (run.run_id, run.part, end)
        self._said.append(end)
        run.is_open = False

    def _attempt_started(self, event: Said) -> None:
        run = self._going(event)
        if run is not None:
            run.attempt, run.model = (event["step"], event["attempt"]), (event["provider"], event["model"])

    def _delta(self, name: str, event: Said) -> None:
        run = self._going(event)
        if run is not None and run.attempt == (event["step"], event["attempt"]):
            self._grow(run, name, event["text"])

    def _grow(self, run: Run, name: str, text: str) -> None:
        if not text:
            return
        if name == "text" and "thinking" in run.said:
            self._close("thinking", run.said["thinking"])
        growing = run.said.get(name)
        if growing is None:
            identity = run.answer_id if name == "text" else f"think-{run.run_id}-{run.attempt[0]}"
            new = {"id": identity, "role": KINDS[name].role, "content": ""}
            growing = run.said[name] = Growing(self._messages.get(identity) or self._messages.add(new))
        if not growing.is_open:
            growing.is_open = True
            self._say_all(KINDS[name].starts, growing)
        growing.pieces.append(text)
        self._say(KINDS[name].grows, messageId=growing.message["id"], delta=text)

    def _close(self, name: str, growing: Growing) -> None:
        if growing.is_open:
            growing.is_open = False
            self._say_all(KINDS[name].ends, growing)

    def _answered(self, event: Said) -> None:
        """Take the whole message of a step: it is the truth, whatever its deltas said."""
        run = self._going(event)
        if run is None:
            return
        run.count(event["usage"])
        run.attempt = (event["step"], event["attempt"])
        whole = texts(event["message"])
        fits = all(whole.get(name, "").startswith(growing.text) for name, growing in run.said.items())
        for name, text in whole.items():
            said = run.said[name].text if name in run.said else ""
            if text.startswith(said):
                self._grow(run, name, text[len(said) :])
        for name, growing in run.said.items():
            self._close(name, growing)
            growing.message["content"] = whole.get(name, "")
            if name == "text" and name not in whole:
                self._messages.remove(growing.message)
        run.said = {}
        if not fits:
            self._say_snapshot()

    def _lost(self, event: Said) -> None:
        run = self._going(event)
        if run is not None:
            self._forget(run)
            self._say_custom(event)

    def _forget(self, run: Run) -> None:
        """Take back what an attempt said that came to nothing."""
        if not run.said:
            return
        for name, growing in run.said.items():
            self._close(name, growing)
            growing.message["content"] = ""
            if name == "text":
                self._messages.remove(growing.message)
        run.said = {}
        self._say_snapshot()

    def _called(self, event: Said) -> None:
        run = self._going(event)
        if run is None:
            return
        run.attempt = (event["step"], event["attempt"])  # a call by hand has no model call before it
        call, parent, arguments = event["call_id"], run.answer_id, orjson.dumps(event["input"]).decode()
        message = self._messages.get(parent) or self._messages.add({"id": parent, "role": "assistant"})
        function = {"name": event["name"], "arguments": arguments}
        message.setdefault("toolCalls", []).append({"id": call, "type": "function", "function": function})
        run.calls[call] = Call(frozenset(event.get("waits_for", ())))
        self._say("TOOL_CALL_START", toolCallId=call, toolCallName=event["name"], parentMessageId=parent)
        self._say("TOOL_CALL_ARGS", toolCallId=call, delta=arguments)
        self._say("TOOL_CALL_END", toolCallId=call)

    def _progressed(self, event: Said) -> None:
        if self._going(event) is None:
            return
        identity = f"act-{event['call_id']}"
        told = {name: event[name] for name in ("progress", "total", "message") if name in event}
        content = {"toolCallId": event["call_id"], **told}
        shown = self._messages.get(identity)
        if shown is None:
            self._messages.add({"id": identity, "role": "activity", "activityType": ACTIVITY, "content": content})
            self._say("ACTIVITY_SNAPSHOT", messageId=identity, activityType=ACTIVITY, content=content)
        elif changes := patch(shown["content"], content):
            shown["content"] = content
            self._say("ACTIVITY_DELTA", messageId=identity, activityType=ACTIVITY, patch=changes)

    def _returned(self, event: Said) -> None:
        run = self._going(event)
        if run is None or run.calls.pop(event["call_id"], None) is None:
            return
        call, output = event["call_id"], event["output"]
        content = output if isinstance(output, str) else orjson.dumps(output).decode()
        about = {} if event["status"] in FINE else {"metadata": {"playhead": {"status": event["status"]}}}
        members = {"toolCallId": call, "content": content, "role": "tool", **about}
        self._messages.add_result(call, {"id": f"result-{call}", **members})
        self._say("TOOL_CALL_RESULT", messageId=f"result-{call}", **members)

    def _put_off(self, event: Said) -> None:
        run = self._going(event)
        if run is not None and event["call_id"] in run.calls:
            run.calls[event["call_id"]].is_pending = True
            self._say_custom(event)

    def _ask(self, interrupt_of: Callable[[Said], Said], event: Said) -> None:
        run = self._going(event)
        if run is not None:
            asking = event["call_id"] if "call_id" in event else event["question_id"]
            run.calls.setdefault(asking, Call()).asks = interrupt_of(event)

    def _settled(self, event: Said) -> None:
        """Take what the user answered or decided: what asked for it goes on."""
        run = self._going(event)
        if run is None:
            return
        identity = event.get("question_id", event.get("call_id"))
        for key, call in tuple(run.calls.items()):
            if call.asks is not None and call.asks["id"] == identity:
                call.asks = None
                if key == event.get("question_id"):
                    del run.calls[key]  # no call asked it
        self._say_custom(event)
