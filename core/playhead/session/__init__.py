"""The session machine. Pure: no clock, no random ids, no I/O.

`decide` turns an input into facts, `fold` turns facts into state, `pending` derives from the state alone what is still
to be done. Only facts are stored, so recovery is not a special path: it is `fold` over the log, then what is `pending`.
"""

from playhead.session.decide import ABANDONED_MAX, ATTEMPTS_MAX, WAITING_MAX, decide
from playhead.session.fold import apply, fold
from playhead.session.inputs import (
    Answered,
    Asked,
    Broke,
    GaveUp,
    Input,
    OutOfTime,
    PlannedCall,
    Reported,
    RetryDue,
    Snapshot,
    Spoke,
    TakeOver,
)
from playhead.session.pending import CallModel, Dispatch, Effect, WaitForRetry, WatchTime, pending
from playhead.session.state import (
    BackingOff,
    Calling,
    Message,
    OpenCall,
    Run,
    RunEnd,
    RunningTools,
    Session,
    Waiting,
    empty,
)

__all__ = [
    "ABANDONED_MAX",
    "ATTEMPTS_MAX",
    "WAITING_MAX",
    "Answered",
    "Asked",
    "BackingOff",
    "Broke",
    "CallModel",
    "Calling",
    "Dispatch",
    "Effect",
    "GaveUp",
    "Input",
    "Message",
    "OpenCall",
    "OutOfTime",
    "PlannedCall",
    "Reported",
    "RetryDue",
    "Run",
    "RunEnd",
    "RunningTools",
    "Session",
    "Snapshot",
    "Spoke",
    "TakeOver",
    "WaitForRetry",
    "Waiting",
    "WatchTime",
    "apply",
    "decide",
    "empty",
    "fold",
    "pending",
]
