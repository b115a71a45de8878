"""Safeguards, removed one at a time: what a simulation does not notice without, it does not test.

Each ablation is a change of the source of one function, so that it says itself what is missing. It is undone before the
history is checked, which is done with the code as it is. `python -m tests.simulation --ablations` runs them all.
"""

from __future__ import annotations
import __future__

import inspect
import sys
import textwrap
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import FunctionType
from typing import Any

__all__ = ["ABLATIONS", "Ablation"]


@dataclass(frozen=True, slots=True)
class Ablation:
    """A safeguard, and the function without it. `function` is `module:name` or `module:Class.name`."""

    name: str
    function: str
    removed: str
    instead: str

    @contextmanager
    def applied(self) -> Generator[None, None, None]:
        """Do without the safeguard for the length of a `with`. Raises `ValueError` if the source has changed."""
        module_name, _, path = self.function.partition(":")
        owner: Any = import_module(module_name)
        *parents, name = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        kept = owner.__dict__[name]
        plain: FunctionType = getattr(kept, "__wrapped__", kept)
        source = textwrap.dedent(inspect.getsource(plain))
        if source.count(self.removed) != 1:
            raise ValueError(f"ablation {self.name!r}: {self.function} does not have this line, once: {self.removed}")
        code = compile(
            source.replace(self.removed, self.instead), self.name, "exec", __future__.annotations.compiler_flag
        )
        scope: dict[str, Any] = {}
        exec(code, plain.__globals__, scope)
        without = scope[name]
        # Also where it was imported by name.
        places = [(owner, name)]
        if not parents:
            for module in [one for key, one in list(sys.modules.items()) if key.startswith(("playhead", "tests."))]:
                places += [(module, other) for other, value in list(vars(module).items()) if value is kept]
        for place, other in places:
            setattr(place, other, without)
        try:
            yield
        finally:
            for place, other in places:
                setattr(place, other, kept)


CORE, OWNER = "playhead.session", "playhead_orchestrator"

ABLATIONS = (
    Ablation(
        "readers do not look at the hash of the event before",
        "playhead.accept:advance",
        "if record.seq == seq + 1 and record.prev == tip:",
        "if record.seq == seq + 1:",
    ),
    Ablation(
        "a superseded owner takes its append for accepted",
        f"{OWNER}.owner:SessionOwner._record",
        "        self._head = await self._parts.log.append(self._setting.session, self._head, batch)",
        "        try:\n"
        "            self._head = await self._parts.log.append(self._setting.session, self._head, batch)\n"
        "        except Superseded:\n"
        "            pass",
    ),
    Ablation(
        "the same message by another request is said again",
        f"{CORE}.decide:_say",
        "    known = {one.run_id for one in plan.session.waiting} | plan.session.runs.keys()\n"
        "    if say.run_id in known or (plan.run is not None and plan.run.run_id == say.run_id):\n"
        "        return  # the same message, by another request\n",
        "    plan.session = replace(plan.session, seen=frozenset())\n",
    ),
    Ablation(
        "an input is acknowledged before its events are appended",
        f"{OWNER}.owner:SessionOwner._advance",
        "    before = self._state or empty(self._setting.session)\n",
        "    before = self._state or empty(self._setting.session)\n"
        "    self._acknowledge([item.message for item in items if item.message is not None])\n",
    ),
    Ablation(
        "a new owner does not look for open work in the directory",
        f"{OWNER}.directory:OpenWork.sessions",
        "for session in self._open.get(partition, ())]",
        "for session in ()]",
    ),
    Ablation(
        "open work is not listed",
        f"{OWNER}.owner:SessionOwner._advance",
        "    if listing is not None and listing.open:\n",
        "    if listing is not None and listing.open:\n"
        "        listing = None\n"
        "    if listing is not None and listing.open:\n",
    ),
    Ablation(
        "what a lost attempt said is gone on with",
        f"{CORE}.decide:_taken_over",
        "    elif isinstance(run.phase, Calling):\n",
        "    elif isinstance(run.phase, Calling):\n        return\n",
    ),
    Ablation(
        "nobody notices that a worker has fallen silent",
        f"{OWNER}.acting:Acts.look",
        "watch.silent_seconds += seconds",
        "watch.silent_seconds += 0",
    ),
    Ablation(
        "a report that comes twice is made true twice",
        f"{CORE}.hearing:reported",
        "    if report.report_id in call.reports:\n        return\n",
        "",
    ),
    Ablation(
        "a late result that comes twice is recorded twice",
        f"{CORE}.hearing:_came_late",
        "or report.report_id in ended.causes ",
        "",
    ),
    Ablation(
        "a second worker may start a call that starts once",
        f"{CORE}.hearing:may_start",
        'return call.effect != "once" or call.claim == claim',
        "return True",
    ),
    Ablation(
        "a worker does not ask before it starts a call that starts once",
        "playhead_tool_workers.conduct:Conductor._be_allowed",
        '(command.effect != "once" and age < self._limits.old_seconds)',
        "age < self._limits.old_seconds",
    ),
    Ablation(
        "the idempotency key is another for each try",
        "playhead_tool_workers.execute:Execution._context",
        "idempotency_key=command.idempotency_key,",
        "idempotency_key=self.around.parts.entropy().hex(),",
    ),
    Ablation(
        "a worker acknowledges a call before its result is safe",
        "playhead_tool_workers.service:Worker._see_through",
        "        end = await self._conductor.conduct(call)\n",
        "        self._acknowledge(*call.messages)\n        end = await self._conductor.conduct(call)\n",
    ),
    Ablation(
        "a call that needs a person's approval is run without",
        "playhead_tool_workers.admission:_guarded",
        "if tool.needs_approval(arguments) and",
        "if False and",
    ),
    Ablation(
        "a cancelled run leaves its calls open",
        f"{CORE}.plan:Plan.stop",
        "for call in run.open_calls:",
        "for call in ():",
    ),
    Ablation(
        "the budget of steps is not looked at",
        f"{CORE}.plan:Plan.next_step",
        "budget.steps is not None and run.step >= budget.steps",
        "False",
    ),
    Ablation(
        "waits go by the time of day alone",
        f"{OWNER}.acting:Acts._wait",
        "min((until - clock()) / 1_000_000, ends_at - loop.time())",
        "(until - clock()) / 1_000_000",
    ),
    Ablation(
        "a request is answered before it is safe",
        "playhead_gateway.intake:Intake.start",
        "await self._publish(StartSession(request, session, new.agent, new.metadata, say, trace, new.tenant))",
        "__import__('asyncio').get_running_loop().create_task(\n"
        "        self._publish(StartSession(request, session, new.agent, new.metadata, say, trace, new.tenant)))",
    ),
    Ablation(
        "a message's key does not name its run",
        "playhead_gateway.intake:Intake.start",
        "message = message_id(session, key or self._entropy().hex())",
        "message = message_id(session, self._entropy().hex())",
    ),
    Ablation(
        "a viewer that has caught up goes on where the newest event is",
        "playhead_gateway.walk:Walk._from_log",
        "self.cursor = self._page_end",
        "self.cursor = self._page_end if self._page_end.seq < self.tail.ring.first - 1 else self.tail.head.cursor",
    ),
    Ablation(
        "a viewer's last id is not heeded",
        "playhead_gateway.fanout:Fanout._place",
        "return Opening(tail, cursor, await self._first_page(tail.session, cursor))",
        "return Opening(tail, cursor, await self._first_page(tail.session, BEGINNING))",
    ),
    Ablation(
        "a new member of a group begins with what comes from now on",
        "tests.simulation.group:Group.begins_at",
        'return self.committed.get(place, (0, ""))',
        'return self.committed.get(place, (self.topics[place[0]].ends[place[1]], ""))',
    ),
)
"""In the order of `docs/guarantees.md`."""
