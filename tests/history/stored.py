"""The stored bytes and the folded state of a session, against its events (L3, L6, L7, L8, S3, and the audit as O4)."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Sequence
from typing import Any

from playhead.accept import Record, advance, genesis
from playhead.codec import Codec, record_of
from playhead.errors import PlayheadError, Undecodable
from playhead.events import OwnerChanged, SessionStarted, Stamped, wire_name
from playhead.ids import SessionId
from playhead.session import empty, fold

from tests.history.folding import Folded
from tests.history.judge import brief
from tests.history.report import UNREADABLE, Report
from tests.history.told import Log
from tests.session.invariants import audit

__all__ = ["hold_state", "hold_stored"]

CODEC = Codec()


def hold_stored(log: Log, found: Folded, report: Report) -> None:
    """Follow the chain over the stored values, and hold what it accepts against the events that readers were shown."""
    if log.records is None:
        return
    accepted = _accepted(log, report)
    ids = [str(record.cursor) for record in accepted]
    report.checked["S3"] += len(ids)
    for place, (said, stored) in enumerate(zip(log.ids, ids, strict=False), 1):
        if said != stored:
            report.object("S3", f"{log.session} seq {place}: the stored value has the id {stored}; found {said}")
    text = f"{log.session} seq {len(ids) + 1}: all {len(log.ids)} events are stored on one chain; found {len(ids)}"
    report.hold("S3", len(ids) == len(log.ids), text)
    stamped = _decoded(log, accepted, report)
    _hold_epochs(log.session, stamped, report)
    report.checked["L3"] += len(stamped)
    for place, (one, event) in enumerate(zip(stamped, log.events, strict=False), 1):
        kind = wire_name(type(one.event))
        if (one.stamp.seq, kind) != (event.get("seq"), event.get("type")):
            report.object("L3", f"{log.session} seq {place}: a {kind} is stored; found {brief(event)}")
    if stamped and len(stamped) == len(log.events):
        _hold_machine(log, found, stamped, report)


def hold_state(log: Log, found: Folded, report: Report) -> None:
    """Hold what the gateway says of a session against what its events come to."""
    state = log.state
    if state is None:
        return
    said = [message["content"] for message in state["messages"] if message["role"] == "assistant"]
    asked = [message["content"] for message in state["messages"] if message["role"] == "user"]
    usage = {name: count for name, count in state["usage"].items() if count}
    _same(report, log.session, "last_seq", state["last_seq"], len(log.events))
    _same(report, log.session, "what was said", said, [message["content"] for message in found.messages])
    _same(report, log.session, "what was asked", asked, [found.asked[run]["content"] for run in found.started])
    _same(report, log.session, "usage", usage, {name: count for name, count in found.speech.usage.items() if count})
    if "cursor" in state and log.ids:
        _same(report, log.session, "cursor", state["cursor"], log.ids[-1])
    if found.going is None and not found.waiting:
        _same(report, log.session, "status", state["status"], "closed" if found.is_closed else "idle")
        _same(report, log.session, "pending", state["pending"], [])


def _accepted(log: Log, report: Report) -> Sequence[Record]:
    stored: list[Record] = []
    for place, text in enumerate(log.records or (), 1):
        try:
            stored.append(record_of(b64decode(text, validate=True)))
        except (Undecodable, binascii.Error):
            # Void for every reader; if it was to be an event, one is missing from the chain.
            report.checked["L6"] += 1
        except UNREADABLE as error:
            report.object("H", f"{log.session} record {place} cannot be read: {type(error).__name__}: {error}")
    _, accepted = advance(genesis(SessionId(log.session)), stored)
    report.checked["L6"] += len(stored) - len(accepted)
    return accepted


def _decoded(log: Log, accepted: Sequence[Record], report: Report) -> list[Stamped]:
    stamped: list[Stamped] = []
    for record in accepted:
        try:
            stamped.append(CODEC.event(record.value))
        except PlayheadError as error:
            report.object("S3", f"{log.session} seq {record.seq}: what is stored can be decoded; found {error}")
            break
    return stamped


def _hold_epochs(session: str, stamped: Sequence[Stamped], report: Report) -> None:
    epoch = 0
    for one in stamped:
        stamp = one.stamp
        if isinstance(one.event, OwnerChanged):
            epoch = one.event.epoch
        elif isinstance(one.event, SessionStarted):
            epoch = stamp.epoch  # the first owner names itself in the next event
        if stamp.epoch != epoch:
            report.object("L6", f"{session} seq {stamp.seq}: epoch {epoch} writes; found {stamp.epoch}")
        if stamp.session != session:
            report.object("L3", f"{session} seq {stamp.seq}: it is of this session; found {stamp.session}")
    report.checked["L6"] += len(stamped)


def _hold_machine(log: Log, found: Folded, stamped: Sequence[Stamped], report: Report) -> None:
    """Fold with the product's machine, and have the audit of the machine's own tests read the log."""
    state = empty(SessionId(log.session))
    for one in stamped:
        state = fold(state, one)
    first = stamped[0].event
    if not isinstance(first, SessionStarted):
        report.object("O4", f"{log.session} seq 1: a session begins; found a {wire_name(type(first))}")
        return
    events, causes = [one.event for one in stamped], [one.stamp.cause for one in stamped]
    try:
        audit(events, state, first.budget, causes)
    except UNREADABLE as error:
        report.object("O4", f"{log.session}: the audit of the log objects: {error}")
    report.checked["O4"] += len(events)
    runs = {run: f"run_{end.status}" for run, end in state.runs.items()}
    text = f"{log.session}: folded twice, it comes to the same; found {brief(runs)} and {brief(found.ends)}"
    report.hold("L7", runs == found.ends, text)


def _same(report: Report, session: str, what: str, said: Any, folded: Any) -> None:
    report.hold("L8", said == folded, f"{session}: the state's {what} is {brief(folded)}; found {brief(said)}")
