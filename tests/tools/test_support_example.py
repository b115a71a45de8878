"""The support example does what it says."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from playhead.commands import ReportResult
from playhead.loading import App, load_app

from tests.tool_workers.workshop import QUICK, Workshop, kinds

FOLDER = Path(__file__).parents[2] / "examples" / "support"


def app(name: str) -> App:
    return load_app(str(FOLDER / name))


def test_the_agent_has_three_tools_of_its_own_and_names_one_of_another_team() -> None:
    support, billing = app("app.py"), app("billing.py")
    assert [tool.name for tool in support.tools] == ["lookup_order", "shipping_status", "search_help"]
    assert [(tool.name, tool.pool, tool.effect) for tool in billing.tools] == [("refund", "billing", "write")]
    (agent,) = support.agents
    assert set(agent.tool_names) == {tool.name for tool in (*support.tools, *billing.tools)}


async def test_its_tools_answer_from_the_files_beside_them() -> None:
    shop = Workshop()
    async with shop.worker(*app("app.py").tools):
        found = json.loads((await shop.run("lookup_order", order=1001)).output)
        assert (found["customer"], found["total_cents"]) == ("Ada Lovelace", 4590)
        assert json.loads((await shop.run("shipping_status", order=1002)).output)["status"] == "on its way"
        articles = json.loads((await shop.run("search_help", query="Can I return it within 30 days?")).output)
        assert articles[0]["article"] == "returns"
        missing = await shop.run("lookup_order", order=7)
    assert missing.status == "error"
    assert "There is no order 7" in missing.output


async def test_a_refund_that_runs_twice_is_paid_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = tmp_path / "ledger.db"
    monkeypatch.setenv("SUPPORT_LEDGER", str(ledger))
    shop, tools = Workshop(), app("billing.py").tools
    call = shop.call("refund", {"order": 1002, "amount_cents": 5_000}, effect="write")
    async with shop.worker(*tools, pool="billing", limits=replace(QUICK, finished_max=0)):
        # No result is remembered, so that the second delivery really runs.
        for times in (1, 2):
            await shop.send(call, pool="billing")
            reports = await shop.reports(call, lambda seen, times=times: kinds(seen).count("ReportResult") == times)
        assert len({one.output for one in results(reports)}) == 1
        other = shop.call("refund", {"order": 1002, "amount_cents": 8_000}, effect="write")
        refused = await shop.result(await shop.send(other, pool="billing"))
    assert "cost 12900 cents, of which 5000 are paid back already" in refused.output
    with closing(sqlite3.connect(ledger)) as book:
        assert book.execute("SELECT order_number, cents FROM refunds").fetchall() == [(1002, 5_000)]


def results(reports: Sequence[object]) -> list[ReportResult]:
    return [one for one in reports if isinstance(one, ReportResult)]
