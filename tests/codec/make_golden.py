"""Write the golden files of a release: `python -m tests.codec.make_golden 0.1.0`, once, when it is released.

`v<version>.jsonl` holds every event and command type as that release stored it, `v<version>.session.jsonl` a whole
session's log, and `v<version>.state.json` what it folds to. They are read for ever and never written again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, cast

from playhead.accept import Head, genesis
from playhead.codec import Codec, Context
from playhead.commands import ReportChunk, ReportProgress, ReportRetry
from playhead.events import Failure, Json, OwnerChanged, TextDelta, Thinking, ToolInputDelta
from playhead.ids import RunId
from playhead.session import Expired, FellSilent, GaveUp, Reported, RetryDue, Session, Spoke, TakeOver

from tests.codec.samples import CONTEXT, SESSION, sample_commands, sample_events
from tests.session import driving
from tests.session.driving import SECOND, Driven, answers, asks, deferred, result, started

FOLDER = Path(__file__).parent / "golden"


def as_json(value: Any) -> Any:
    """Turn fields or a state into JSON: bytes as hex, sets in order, a dataclass without fields by its name."""
    if isinstance(value, bytes):
        return value.hex()
    if is_dataclass(value) and not isinstance(value, type):
        found = {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
        return found or type(value).__name__
    if isinstance(value, Mapping):
        return {str(key): as_json(one) for key, one in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, frozenset):
        return sorted(as_json(one) for one in cast("frozenset[Any]", value))
    if isinstance(value, (tuple, list)):
        return [as_json(one) for one in cast("list[Any]", value)]
    return value


def sample_lines() -> list[dict[str, Any]]:
    """Give every type's sample: its name, its bytes, its fields."""
    codec = Codec()
    values = [codec.seal(genesis(SESSION), [event], CONTEXT)[0].value for event in sample_events()]
    values += [codec.encode(command) for command in sample_commands()]
    lines: list[dict[str, Any]] = []
    for value in values:
        kind, found = codec.fields(value)
        lines.append({"name": kind.__name__, "value": value.hex(), "fields": as_json(found)})
    return lines


def a_session() -> tuple[Driven, list[bytes]]:
    """Let a session live: runs with tools, retries, an abandoned attempt, calls that are claimed, lost, promised, asked
    about and late; the last run is going when the log ends.
    """
    driven = Driven()
    driven.start("What is the weather in Bern?")
    _speak(driven, "Let me ", "look.")
    driven.now += SECOND
    driven.answer("Let me look.", calls=["weather", "map"], refused=["no_such_tool"])
    weather, area = driven.session.open_calls
    driven.give(started(weather.call_id, "w-started"))
    report = ("w-retry", driving.SESSION, weather.call_id, "lease")
    driven.give(Reported(ReportRetry(*report, 1, 200, Failure("timeout", "no answer within 5 s"))))
    driven.give(Reported(ReportProgress("a-half", driving.SESSION, area.call_id, "lease", 0.5, 1.0, "half way")))
    driven.give(Reported(ReportChunk("a-chunk", driving.SESSION, area.call_id, "lease", Json('["46.9,7.4"]'))))
    driven.result(1, output='{"tiles":[1,2]}')
    driven.result(0, status="timeout", output='"stopped after 5 s"')
    driven.break_("rate_limited", after=2000)
    driven.now += 3 * SECOND
    driven.give(RetryDue(driven.run.run_id, driven.run.step, driven.run.attempt))
    driven.say("And in Geneva?")
    driven.answer("I could not find out. ☂")
    _speak(driven, "Gen")
    driven.give(TakeOver("owner-2"))
    _speak(driven, "Rain")
    driven.say("Never mind. What is 6 * 7?", "interrupt", said="Rain")
    driven.say("And 7 * 8?")
    driven.say("Be quick!", "reject")
    driven.answer(calls=["once", "reconciled", "write", "after", "read"])
    _see_calls_through(driven)
    driven.answer(calls=["calculator", "once", "reconciled", "after"])
    sum_, sent, posted, _ = driven.session.open_calls
    driven.give(started(sum_.call_id, "c-started"))
    driven.give(deferred(sum_.call_id, "c-promise", seconds=3600))
    driven.give(asks(sent.call_id, "s-question", "q_2"))
    driven.give(started(posted.call_id, "p-claim", claim=True))
    driven.give(FellSilent(posted.call_id))
    return driven, _sealed(driven)


def _see_calls_through(driven: Driven) -> None:
    once, looked_into, write, after, read = driven.session.open_calls
    driven.give(started(once.call_id, "o-claim", "worker-1", claim=True))
    driven.give(FellSilent(once.call_id))
    driven.give(result(once.call_id, "o-late", output='"it was sent"'))
    driven.give(started(looked_into.call_id, "l-claim", claim=True))
    driven.give(FellSilent(looked_into.call_id))
    driven.give(result(looked_into.call_id, "l-found", output='"it was posted"'))
    driven.give(deferred(write.call_id, "w-promise", seconds=60))
    driven.now += 61 * SECOND
    driven.give(Expired(write.call_id))
    driven.give(asks(read.call_id, "r-question", "q_1"))
    driven.give(answers("q_1"))
    driven.give(result(read.call_id, "r-result"))
    driven.give(GaveUp(after.call_id, "no worker finished the call after 6 deliveries"))


def _speak(driven: Driven, *texts: str) -> None:
    run = driven.run
    place = (run.run_id, run.step, run.attempt)
    call = driving.call_id(driving.SESSION, RunId(run.run_id), run.step, 0)
    driven.give(Spoke((Thinking(*place, "hm"), *(TextDelta(*place, text) for text in texts))))
    driven.give(Spoke((ToolInputDelta(*place, call, '{"city":'),)))


def _sealed(driven: Driven) -> list[bytes]:
    codec, head, values, epoch = Codec(), genesis(driving.SESSION), list[bytes](), 1
    for event, at, cause in driven.log:
        epoch = event.epoch if isinstance(event, OwnerChanged) else epoch
        (record,) = codec.seal(head, [event], Context(driving.SESSION, epoch, cause, at))
        head = Head(record.seq, record.hash, int(record.seq))
        values.append(record.value)
    return values


def state_as_json(session: Session) -> Any:
    """Give all that a session's state says."""
    return as_json(session)


def main(version: str) -> int:
    """Write the files of a release, unless there are any."""
    FOLDER.mkdir(exist_ok=True)
    samples, log, state = (FOLDER / f"v{version}{end}" for end in (".jsonl", ".session.jsonl", ".state.json"))
    if any(path.exists() for path in (samples, log, state)):
        print(f"the golden files of {version} are there, and are never written again", file=sys.stderr)  # noqa: T201
        return 1
    driven, values = a_session()
    samples.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in sample_lines()), "utf-8")
    log.write_text("".join(json.dumps({"value": value.hex()}) + "\n" for value in values), "utf-8")
    state.write_text(json.dumps(state_as_json(driven.session), indent=1, ensure_ascii=False) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
