"""The one checker of histories, whoever wrote them: simulation, embedded chaos or Kafka chaos. Pure.

Each rule has the id that it has among the reliability invariants; what each covers is in its module:

| module | ids |
|---|---|
| `asking` | L1, L2, L4 (order of what was accepted), O1, O2, O5 (a cancelled run ends), LV1, LV4 |
| `viewing` | L3, L4, L10, V1, V3, V5, V8 |
| `folding`, `speaking`, `calling` | L4, L6, L9, O1 to O4, O6, T1, T3, T6: the final log by itself |
| `running` | O4, O5, T2 to T6: what tools noted, against the log |
| `stored` | S3, L3, L6, L7, and the audit of the session machine as O4; L8 for the state |
| `recovering` | LV5 as a measure, LV1 as a bound if one is given |

`H` is no invariant: the history, or a log in it, is not of its form.
"""

from __future__ import annotations

from collections.abc import Iterable

from tests.history.asking import hold_users
from tests.history.folding import Folded, folded
from tests.history.judge import Judge
from tests.history.lines import Line
from tests.history.recovering import hold_recoveries
from tests.history.report import Report, percentile
from tests.history.running import hold_tools
from tests.history.stored import hold_state, hold_stored
from tests.history.told import told
from tests.history.viewing import hold_viewers

__all__ = ["Report", "check", "percentile"]


def check(lines: Iterable[Line], *, heal_seconds: float | None = None) -> Report:
    """Hold a history against the invariants. Never raises on its content: what cannot be read is a violation too.

    With `heal_seconds`, each run must be seen to end so soon after the last fault.
    """
    report = Report()
    history = told(lines, report)
    found: dict[str, Folded] = {}
    for session, logs in history.logs.items():
        final = logs[-1]
        judge = Judge(session, report.object, report.checked)
        found[session] = folded(final.events, judge)
        with report.reading(f"{session}: its records"):
            hold_stored(final, found[session], report)
        with report.reading(f"{session}: its state"):
            hold_state(final, found[session], report)
    with report.reading("what viewers saw"):
        hold_viewers(history, report)
    with report.reading("what users were told"):
        hold_users(history, found, report)
    with report.reading("what tools noted"):
        hold_tools(history, found, report)
    with report.reading("recoveries"):
        hold_recoveries(history, report, heal_seconds)
    report.checked = +report.checked
    return report
