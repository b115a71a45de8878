"""Whether a call may be run here at all: its tool, its effect, its arguments, their limits, its approval.

It runs what the tool's author wrote for that (validators, the function that tells when approval is needed) and no tool.
"""

from __future__ import annotations

from playhead.approvals import approval_digest
from playhead.commands import RunTool
from playhead.errors import Invalid
from playhead.guard import refusal
from playhead.telemetry import logger
from playhead.tools import Tool

from playhead_tool_workers.ends import Ended, denied, ended, unknown
from playhead_tool_workers.outcome import Failed, Redact, failed, readable

__all__ = ["admitted"]

log = logger(__name__)


def admitted(tool: Tool[..., object] | None, command: RunTool, redact: Redact) -> dict[str, object] | Ended:
    """Give the arguments to run a call with, or how it ends without.

    A call that is only looked into was admitted once, and may have happened: whatever keeps it from being looked into,
    its outcome is unknown.
    """
    if tool is None:
        why = f"pool {command.pool} has no tool named {command.name}"
        return _not_found_out(why) if command.reconcile else _error("UnknownTool", why)
    if command.reconcile:
        arguments = _parsed(tool, command, redact)
        return _not_found_out("its arguments are not valid any more") if isinstance(arguments, Ended) else arguments
    if command.effect == "once" and command.redriven:
        why = f"{command.name} is of effect `once`: it may have happened already, and is never started again"
        return denied("NeverAgain", why)
    if tool.effect == "once" and command.effect != "once":
        # Its owner does not know that it may be started only once, and would let anybody start it.
        return _error("EffectChanged", f"{tool.name} has changed since it was called; call it again")
    arguments = _parsed(tool, command, redact)
    return arguments if isinstance(arguments, Ended) else _guarded(tool, command, arguments, redact) or arguments


def _parsed(tool: Tool[..., object], command: RunTool, redact: Redact) -> dict[str, object] | Ended:
    try:
        return tool.arguments.parse(command.input)
    except Invalid as error:
        return _error("InvalidArguments", error.advice, redact)
    except Exception as error:  # noqa: BLE001 - a validator of the tool's own may raise anything; it is logged
        return _broken(tool, error, redact)


def _guarded(tool: Tool[..., object], command: RunTool, arguments: dict[str, object], redact: Redact) -> Ended | None:
    try:
        refused = refusal(tool.limits, arguments)
        if refused is not None:
            return denied("BeyondLimits", refused)
        if tool.needs_approval(arguments) and command.approval != approval_digest(command.name, command.input):
            return denied("NotApproved", f"{tool.name} needs a person's approval for exactly these arguments")
    except Exception as error:  # noqa: BLE001 - so may the function that tells when approval is needed
        return _broken(tool, error, redact)
    return None


def _broken(tool: Tool[..., object], error: Exception, redact: Redact) -> Ended:
    log.warning("arguments could not be checked", tool=tool.name, exc_info=error)
    return ended(failed(error, retryable=False, redact=redact))


def _error(kind: str, why: str, redact: Redact = str) -> Ended:
    return ended(Failed("error", kind, readable(why, redact)))


def _not_found_out(why: str) -> Ended:
    return unknown(readable(f"the worker was lost while it ran this call, and what became of it is unknown: {why}"))
