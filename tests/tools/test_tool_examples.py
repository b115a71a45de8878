"""The examples of docs/tools.md do what the page says of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playhead.commands import Report, ReportPending, ReportQuestion
from playhead.content import Answer, Pending, Question
from playhead.events import Json
from playhead.loading import App, load_app
from playhead.tools import Tool

from tests.tool_workers.workshop import QUICK, Workshop

FOLDER = Path(__file__).parents[2] / "examples" / "tools"
SECRETS = {"BANK_TOKEN": "a-token-of-the-bank"}


def app(name: str) -> App:
    return load_app(str(FOLDER / f"{name}.py"))


def named(name: str, tool: str) -> Tool[..., object]:
    return next(one for one in app(name).tools if one.name == tool)


def module(name: str) -> Any:
    """Give the module that an app was loaded as."""
    function = app(name).tools[0].function
    return sys.modules[function.__module__]


async def test_the_first_tool_greets():
    shop = Workshop()
    async with shop.worker(*app("first").tools):
        assert (await shop.run("greet", name="Ada")).output == '"Hello, Ada!"'
    assert [agent.name for agent in app("first").agents] == ["host"]


def test_its_test_passes_as_a_tool_team_would_run_it():
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_first.py")
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


async def test_money_moves_with_the_key_and_the_shared_client():
    billing = app("billing")
    shop = Workshop(environment=SECRETS)
    async with shop.worker(*billing.tools, pool="billing", lifespan=billing.lifespans[0]):
        call = shop.call("refund", {"account": "17", "amount": 3}, "write", pool="billing")
        result = await shop.result(await shop.send(call, "billing"))
        assert result.output == '"payment 1 (19 characters of token)"'
        closed = shop.call("refund", {"account": "closed", "amount": 3}, "write", pool="billing")
        assert "Ask the customer for another one" in (await shop.result(await shop.send(closed, "billing"))).output
        look = shop.call("payout", {"account": "17", "amount": 3}, "once", pool="billing", reconcile=True)
        assert "did not happen" in (await shop.result(await shop.send(look, "billing"))).output


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"account": "17", "amount": 3}, None),
        ({"account": "17", "amount": 20_000}, "BeyondLimits"),
        ({"account": "17", "amount": 3, "note": "my Password is"}, "BeyondLimits"),
        ({"account": "17", "amount": 501}, "NotApproved"),
    ],
)
async def test_what_is_beyond_the_limits_or_not_approved_is_denied(arguments: dict[str, object], kind: str | None):
    billing = app("billing")
    shop = Workshop(environment=SECRETS)
    async with shop.worker(*billing.tools, pool="billing", lifespan=billing.lifespans[0]):
        call = shop.call("credit", arguments, "write", pool="billing")
        result = await shop.result(await shop.send(call, "billing"))
    assert result.status == ("ok" if kind is None else "denied")
    assert kind is None or json.loads(result.output)["type"] == kind


async def test_a_service_that_is_down_is_retried_and_then_stood_in_for():
    resilient = module("resilient")
    shop = Workshop()
    async with shop.worker(*app("resilient").tools):
        assert (await shop.run("exchange_rate", currency="EUR")).output == "1.25"
        assert (await shop.run("exchange_rate", currency="EUR")).cached
        resilient.SERVICE.is_down = True
        resilient.CALLS.clear()
        try:
            result = await shop.run("exchange_rate", currency="NOK")
        finally:
            resilient.SERVICE.is_down = False
        assert (result.status, result.output, len(resilient.CALLS)) == ("fallback", "1.2", 3)


async def test_a_search_gives_what_it_found_in_time():
    shop = Workshop()
    async with shop.worker(*app("resilient").tools):
        result = await shop.run("search", query="maps")
    assert result.status == "timeout" and json.loads(result.output)["partial"][0] == "maps in volume 1"


async def test_a_survey_is_promised_and_its_ticket_handed_on():
    later = module("later")

    def promised(seen: Sequence[Report]) -> bool:
        return any(isinstance(one, ReportPending) for one in seen)

    shop = Workshop()
    async with shop.worker(*app("later").tools):
        call = await shop.send(shop.call("order_survey", {"address": "High Street 1"}, "write"))
        await shop.reports(call, promised)
    assert [f"{call.session}.{call.call_id}.{call.lease}"] == later.TICKETS
    assert isinstance((await named("later", "order_survey").test(address="x")).value, Pending)


async def test_an_account_is_deleted_when_the_user_says_so():
    shop = Workshop()
    async with shop.worker(*app("later").tools):
        call = await shop.send(shop.call("delete_account", {"user": "ada"}, "write"))
        seen = await shop.reports(call, lambda seen: any(isinstance(one, ReportQuestion) for one in seen))
        question = next(one for one in seen if isinstance(one, ReportQuestion))
        answer = Json(json.dumps({"content": True, "state": json.loads(question.state or "null")}))
        await shop.send(replace(call, answer=answer))
        assert (await shop.result(call)).output == '"ada is deleted"'
    delete = named("later", "delete_account")
    assert isinstance((await delete.test(user="ada")).value, Question)
    assert (await delete.test(user="ada", answer=Answer(False))).value == "ada is kept"


def test_calls_wait_for_others_as_declared():
    assert named("later", "confirm_by_mail").after == ("change_order",)
    assert named("later", "change_order").key == "order" and named("later", "stock_take").exclusive


async def test_shapes_pictures_and_files_come_out_as_they_are_shown():
    shop = Workshop()
    async with shop.worker(*app("content").tools):
        assert json.loads((await shop.run("forecast", city="Oslo")).output)["degrees"] == 21.5
        blocks = json.loads((await shop.run("chart", metric="visits")).output)
    assert [block["type"] for block in blocks] == ["text", "image", "document"]
    schema = named("content", "forecast").output_schema
    assert schema is not None and set(schema["properties"]) == {"city", "degrees", "rain"}


async def test_a_program_runs_in_a_sandbox():
    shop = Workshop()
    async with shop.worker(*app("content").tools, limits=replace(QUICK, slow_seconds=30)):
        assert (await shop.run("run_python", code="print(6 * 7)")).output == '"42\\n"'
        assert "ZeroDivisionError" in (await shop.run("run_python", code="1 / 0")).output
