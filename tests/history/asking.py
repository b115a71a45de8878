"""What users asked and were told of it, against the logs (L1, L2, L4, O1, O2, O5, LV1, LV4)."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from tests.history.folding import Folded
from tests.history.judge import brief
from tests.history.report import MALFORMED, Report
from tests.history.told import Asked, Told

__all__ = ["hold_users"]

KILL = "kill"


def hold_users(told: Told, found: Mapping[str, Folded], report: Report) -> None:
    """Hold what users were told against the final logs, folded by session."""
    messages = told.of("message")
    for asked in messages:
        with report.reading(f"message {asked.key}"):
            _hold_message(asked, found, report)
    with report.reading("messages"):
        _hold_one_run_each(messages, report)
        _hold_origin(messages, found, report)
        _hold_order(messages, found, report)
    for asked in told.of("cancel"):
        with report.reading(f"cancel {asked.key}"):
            _hold_cancel(asked, found, report)
    for asked in told.of("answer"):
        with report.reading(f"answer {asked.key}"):
            _hold_answer(asked, found, report)
    for session, folded in found.items():
        _hold_ends(session, folded, told, report)


def _hold_message(asked: Asked, found: Mapping[str, Folded], report: Report) -> None:
    if not asked.is_ok:
        return
    name = f"{asked.sessions[0] if asked.sessions else 'no session'}: message {asked.key}"
    if asked.phases.count("ok") > 1:
        text = f"{name} with one key has one run in one session; found {asked.runs} in {asked.sessions}"
        report.hold("O2", len(asked.runs) == 1 and len(asked.sessions) == 1, text)
    if not asked.runs or not asked.sessions:
        report.object(MALFORMED, f"{name} was accepted, and the history does not say as which run of which session")
        return
    for session, run in zip(asked.sessions, asked.runs, strict=False):
        folded = found.get(session)
        if folded is None:
            if found:
                report.object(MALFORMED, f"{name} was accepted, and the history has no log of its session")
            continue
        said = folded.asked.get(run)
        if report.hold("L1", said is not None, f"{name} was accepted as {run}; the log has it; found nothing"):
            assert said is not None
            text = f"{session} seq {said['seq']}: message {asked.key} is {brief(asked.contents)}; found {brief(said)}"
            report.hold("L1", said["content"] in asked.contents, text)
        text = f"{name} was accepted as {run}: it ends once, as completed, failed or cancelled; found no end"
        report.hold("O1", run in folded.ends, text)


def _hold_one_run_each(messages: list[Asked], report: Report) -> None:
    runs: dict[str, str] = {}
    for asked in messages:
        for run in asked.runs:
            other = runs.setdefault(run, asked.key)
            report.hold(
                "O2", other == asked.key, f"messages {other} and {asked.key} have a run each; found {run} twice"
            )


def _hold_origin(messages: list[Asked], found: Mapping[str, Folded], report: Report) -> None:
    """Hold that nothing is in a log that failed, or that nobody said."""
    accepted = {run for asked in messages for run in asked.runs}
    open_ended = Counter(
        _text(content) for asked in messages if not asked.is_ok and not asked.is_void for content in asked.contents
    )
    void = Counter(_text(content) for asked in messages if asked.is_void for content in asked.contents)
    report.checked["L2"] += sum(void.values())
    ours = {session for asked in messages for session in asked.sessions}
    for session, folded in found.items():
        for run, said in folded.asked.items():
            content = _text(said["content"])
            if run in accepted or (session not in ours and content not in void):
                continue
            report.checked["L2"] += 1
            open_ended[content] -= 1
            if open_ended[content] < 0:
                why = "it failed, so it did not happen" if content in void else "somebody said it"
                report.object("L2", f"{session} seq {said['seq']}: {why}; found {brief(said)}")


def _hold_order(messages: list[Asked], found: Mapping[str, Folded], report: Report) -> None:
    """Hold that what was accepted before another was said also comes before it in the log."""
    of: defaultdict[str, list[tuple[Asked, int]]] = defaultdict(list)
    for asked in messages:
        if asked.is_ok and asked.runs and asked.sessions:
            said = found[asked.sessions[0]].asked.get(asked.runs[0]) if asked.sessions[0] in found else None
            if said is not None:
                of[asked.sessions[0]].append((asked, said["seq"]))
    for session, said_here in of.items():
        latest, latest_seq = -1, 0  # of those that were accepted before, the one furthest in the log
        accepted = sorted(said_here, key=lambda one: one[0].first_ok)
        for asked, seq in sorted(said_here, key=lambda one: one[0].invoked):
            while latest + 1 < len(accepted) and accepted[latest + 1][0].first_ok < asked.invoked:
                latest += 1
                latest_seq = max(latest_seq, accepted[latest][1])
            text = f"{session} seq {seq}: message {asked.key} was said after that of seq {latest_seq} was accepted"
            report.hold("L4", seq > latest_seq, text)


def _hold_cancel(asked: Asked, found: Mapping[str, Folded], report: Report) -> None:
    if asked.is_ok:
        for session in asked.sessions:
            for run in asked.runs if session in found else ():
                folded = found[session]
                if run in folded.asked:
                    report.hold("O5", run in folded.ends, f"{session}: {run} was cancelled and ends; found no end")


def _hold_answer(asked: Asked, found: Mapping[str, Folded], report: Report) -> None:
    for session in asked.sessions:
        for question in asked.questions if session in found else ():
            said = found[session].told.answers.get(question)
            if said is not None and asked.is_void:
                is_other = said["content"] not in asked.contents
                report.hold(
                    "L2", is_other, f"{session} seq {said['seq']}: answer {asked.key} failed; found {brief(said)}"
                )
            elif asked.is_ok and said is None:
                # The call may have ended before it was heard: only one that still waits has lost its answer.
                call = found[session].told.questions.get(question)
                is_over = call is None or call in found[session].results
                report.hold("L1", is_over, f"{session}: {question} was answered; the log has it; found nothing")


def _hold_ends(session: str, folded: Folded, told: Told, report: Report) -> None:
    """Hold that after the faults every run has come to its end."""
    for run, said in folded.asked.items():
        text = f"{session} seq {said.get('seq')}: {run} ends after the faults do; found no end"
        report.hold("LV1", run in folded.ends, text)
        if told.has_fault(KILL):
            report.hold("LV4", run in folded.ends, text)


def _text(content: Any) -> str:
    return json.dumps(content, sort_keys=True)
