"""What is sent to a pool, what orders calls on the way there, and what counts as a word of one that runs. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from playhead import tool
from playhead.agents import Agent
from playhead.commands import CallTool, Heartbeat
from playhead.events import Json
from playhead.ids import CallId, MessageId, RunId, SessionId
from playhead.leases import is_lease
from playhead.session import CallModel, OpenCall, empty
from playhead_orchestrator.catalogue import Catalogue
from playhead_orchestrator.dispatch import Watch, run_tool
from playhead_orchestrator.model import Finished, Usage
from playhead_orchestrator.speaking import plan_by_hand, plan_calls

from tests.orchestrator.stage import LEASE_KEY

SESSION = SessionId("ses_dispatch22222222222222222")
RUN = RunId("run_1")


def call(given: str = '{"a":1,"b":2}', **more: Any) -> OpenCall:
    return replace(OpenCall(CallId("call_1"), RUN, 1, 1, "pay", Json(given), "once", "till"), **more)


def command(one: OpenCall, *, now: int = 1, metadata: str = "{}"):
    state = replace(empty(SESSION), metadata=Json(metadata))
    return run_tool(state, one, key=LEASE_KEY, now=now, trace=None)


def test_a_call_is_the_same_command_however_often_it_is_handed_out() -> None:
    first, again = command(call(), now=1), command(call(deliveries=3), now=2)
    assert replace(again, dispatched_at=1) == first
    assert (first.session, first.call_id, first.name, first.pool, first.effect) == (
        SESSION,
        "call_1",
        "pay",
        "till",
        "once",
    )
    assert is_lease(LEASE_KEY, CallId("call_1"), first.lease)


def test_the_idempotency_key_is_of_the_call_and_its_arguments_in_any_order() -> None:
    key = command(call()).idempotency_key
    assert command(call('{"b":2, "a":1}')).idempotency_key == key
    assert command(call('{"a":1,"b":3}')).idempotency_key != key
    assert command(call(call_id=CallId("call_2"))).idempotency_key != key
    assert command(call(answer=Json("{}"), is_lost=True)).idempotency_key == key, "it is the same thing that happens"


def test_a_call_brings_the_answer_that_it_waited_for_and_says_that_it_is_only_looked_into() -> None:
    sent = command(call(answer=Json('{"content":1}'), is_lost=True, key="k"))
    assert (sent.answer, sent.reconcile, sent.key) == ('{"content":1}', True, "k")
    assert not command(call()).reconcile


@pytest.mark.parametrize(
    ("metadata", "tenant"),
    [('{"tenant":"acme"}', "acme"), ("{}", ""), ('{"tenant":7}', ""), ("[]", ""), ('"acme"', "")],
)
def test_the_tenant_is_what_the_sessions_metadata_names(metadata: str, tenant: str) -> None:
    assert command(call(), metadata=metadata).tenant == tenant


def test_of_a_claimed_call_only_its_own_workers_word_counts() -> None:
    watch = Watch(call(claim="c", worker="mine"), silent_seconds=5.0)
    watch.heard(Heartbeat(SESSION, CallId("call_1"), "", "another"))
    assert watch.silent_seconds == 5.0
    watch.heard(Heartbeat(SESSION, CallId("call_1"), "", "mine"))
    assert watch.silent_seconds == 0.0


def test_of_any_other_call_every_workers_word_counts() -> None:
    watch = Watch(call(worker="mine"), silent_seconds=5.0)
    watch.heard(Heartbeat(SESSION, CallId("call_1"), "", "another"))
    assert watch.silent_seconds == 0.0


# --- what is planned -------------------------------------------------------------------------------------------------


@tool(key="account", pool="till", effect="write")
async def pay(account: str, amount: int) -> str:
    """Pay."""
    return f"{account} {amount}"


@tool(key="account")
async def bill(account: str) -> str:
    """Send a bill."""
    return account


@tool(after=[pay])
async def tell(text: str) -> str:
    """Tell."""
    return text


@tool(effect="once", reconcile=lambda: "paid", exclusive=True)
async def audit() -> str:
    """Look at everything."""
    return "well"


AGENT = Agent("helper", model="stage:one", tools=[pay, bill, tell, audit])


def plan(*uses: tuple[str, dict[str, object]]):
    content = tuple({"type": "tool_use", "name": name, "input": given} for name, given in uses)
    place = CallModel(RUN, 1, 1)
    _, planned = plan_calls(
        SESSION, place, Finished(content, Usage(1, 1), "tool_use"), Catalogue([AGENT]).offers(AGENT)
    )
    return planned


def test_calls_of_one_key_go_the_same_way_and_those_of_another_or_of_another_tool_do_not() -> None:
    same, again, *others = plan(
        ("pay", {"account": "x", "amount": 1}),
        ("pay", {"amount": 2, "account": "x"}),
        ("pay", {"account": "y"}),
        ("bill", {"account": "x"}),
        ("pay", {"account": {"a": 1, "b": 2}}),
    )
    assert same.key is not None and same.key == again.key
    assert len({same.key, *(one.key for one in others)}) == 4
    (turned,) = plan(("pay", {"account": {"b": 2, "a": 1}}))
    assert turned.key == others[-1].key, "the order of an object's keys is no difference"
    assert len(same.key) < 64
    long, missing = plan(("pay", {"account": "x" * 100_000}), ("pay", {}))
    assert long.key is not None and len(long.key) == len(same.key)
    assert missing.key not in (None, same.key)


@pytest.mark.parametrize("given", [[1], "text", None])
def test_input_that_is_no_object_has_no_key_and_is_refused_where_it_is_checked(given: Any) -> None:
    (planned,) = plan(("pay", given))
    assert planned.key is None and planned.refusal is None


def test_what_tools_declare_of_order_becomes_what_their_calls_wait_for() -> None:
    told, paid, audited = plan(("tell", {"text": "t"}), ("pay", {"account": "x"}), ("audit", {}))
    assert told.waits_for == (paid.call_id,) and paid.waits_for == ()
    assert audited.waits_for == (told.call_id, paid.call_id)
    assert audited.reconciles and not paid.reconciles
    assert (audited.effect, paid.effect, paid.pool) == ("once", "write", "till")


def test_a_call_that_cannot_be_run_is_waited_for_by_its_place_only() -> None:
    ghost, told = plan(("ghost", {}), ("tell", {"text": "t"}))
    assert "there is no tool named 'ghost'" in (ghost.refusal or "")
    assert told.waits_for == () and told.refusal is None


def test_a_call_by_hand_is_of_any_tool_that_is_known() -> None:
    asked = CallTool("r", SESSION, MessageId("m"), RUN, "pay", Json('{"account":"x","amount":1}'))
    found = plan_by_hand(CallId("call_1"), asked, Catalogue([AGENT]))
    assert (found.name, found.pool, found.effect, found.refusal) == ("pay", "till", "write", None)
    assert found.key == plan(("pay", {"account": "x"}))[0].key
    refused = plan_by_hand(CallId("call_1"), replace(asked, name="play"), Catalogue([AGENT]))
    assert refused.refusal == "there is no tool named 'play'; there are: audit, bill, pay, tell"
