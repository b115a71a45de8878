"""The billing team's tool. It runs in a worker of its own, in the pool `billing`, and needs no deploy of anybody else.

Refunds are kept in an SQLite file, the ledger: `SUPPORT_LEDGER`, or `playhead-support-ledger.db` in the temporary
folder.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

from playhead import ToolContext, ToolFailed, tool
from pydantic import Field

ORDERS = Path(__file__).parent / "orders.json"


def ledger_path() -> Path:
    """Tell where the ledger is."""
    default = Path(tempfile.gettempdir()) / "playhead-support-ledger.db"
    return Path(os.environ.get("SUPPORT_LEDGER") or default)


@tool(effect="write", pool="billing", timeout=10, retries=3)
def refund(
    order: Annotated[int, Field(description="The number of the order, such as 1001.")],
    amount_cents: Annotated[int, Field(gt=0, description="How much to pay back.")],
    ctx: ToolContext,
) -> dict[str, Any]:
    """Pay money back to a customer, at most what was paid."""
    orders: dict[str, dict[str, Any]] = json.loads(ORDERS.read_text("utf-8"))
    if str(order) not in orders:
        raise ToolFailed(f"There is no order {order}.")
    paid: int = orders[str(order)]["total_cents"]
    with closing(sqlite3.connect(ledger_path(), timeout=5, isolation_level=None)) as ledger:
        ledger.execute(
            "CREATE TABLE IF NOT EXISTS refunds (key TEXT PRIMARY KEY, order_number INTEGER, cents INTEGER) STRICT"
        )
        # One transaction, so that two workers never pay the same euro twice.
        ledger.execute("BEGIN IMMEDIATE")
        back: int = ledger.execute(
            "SELECT coalesce(sum(cents), 0) FROM refunds WHERE order_number = ? AND key <> ?",
            (order, ctx.idempotency_key),
        ).fetchone()[0]
        if back + amount_cents > paid:
            ledger.execute("ROLLBACK")
            raise ToolFailed(f"Order {order} cost {paid} cents, of which {back} are paid back already.")
        # The same call may run again, after a crash or a lost answer: its key is the same, and it changes nothing.
        ledger.execute("INSERT OR IGNORE INTO refunds VALUES (?, ?, ?)", (ctx.idempotency_key, order, amount_cents))
        ledger.execute("COMMIT")
    return {"order": order, "refunded_cents": amount_cents, "left_cents": paid - back - amount_cents}
