"""How long it took, after each fault, until somebody saw a session go on that had to (LV1, LV5)."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict

from tests.history.folding import ENDS
from tests.history.report import Recovery, Report
from tests.history.told import Told

__all__ = ["hold_recoveries"]


def hold_recoveries(told: Told, report: Report, heal_seconds: float | None) -> None:
    """Measure each fault's recovery; with `heal_seconds`, hold every run to ending so soon after the last fault."""
    fresh, ends = _sights(told)
    going = [
        (asked.invoked_at, session, run)
        for asked in told.of("message")
        if asked.is_ok
        for session, run in zip(asked.sessions, asked.runs, strict=False)
        if session in fresh
    ]
    for fault in told.faults:
        at, target = float(fault["at"]), str(fault.get("target", ""))
        named = fault.get("sessions")
        affected = {
            session
            for since, session, run in going
            if since <= at < ends.get(run, float("inf")) and (named is None or session in named)
        }
        # Who was ended goes on when it is there again: what was on its way to a viewer before is no recovery.
        start = min((one["at"] for one in told.ready if one["node"] == target and one["at"] >= at), default=at)
        after = [times[place] for one in affected if (place := bisect_right(times := fresh[one], start)) < len(times)]
        if after:
            report.checked["LV5"] += 1
            report.recoveries.append(Recovery(str(fault["kind"]), target, min(after) - at))
    healed = told.healed_at
    if heal_seconds is not None and healed is not None:
        for since, session, run in going:
            late = ends.get(run, healed) - max(since, healed)
            text = f"{session}: {run} ends within {heal_seconds} s of the last fault; found {late:.1f} s"
            report.hold("LV1", late <= heal_seconds, text)


def _sights(told: Told) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Give when each session's events were first seen by anybody, in order, and each run's end."""
    first: defaultdict[str, dict[str, float]] = defaultdict(dict)
    ends: dict[str, float] = {}
    for (_, session), lines in told.viewers.items():
        seen = first[session]
        for line in lines:
            if line["op"] == "seen":
                at, name = line["at"], str(line["id"])
                seen[name] = min(at, seen.get(name, at))
                if line["event"].get("type") in ENDS:
                    run = line["event"]["run_id"]
                    ends[run] = min(at, ends.get(run, at))
    return {session: sorted(times.values()) for session, times in first.items()}, ends
