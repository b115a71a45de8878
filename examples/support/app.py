"""The support team's agent and its three tools. The fourth, `refund`, belongs to the billing team: see `billing.py`.

Everything is real and small: orders are in `orders.json`, help articles in `help/`, and there is no network.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any

from playhead import Agent, ToolContext, ToolFailed, tool
from pydantic import Field

HERE = Path(__file__).parent
WORD = re.compile(r"\w{3,}")

Order = Annotated[int, Field(description="The number of the order, such as 1001.")]


def find_order(number: int) -> dict[str, Any]:
    """Find an order, or fail with what the agent can do about it."""
    orders: dict[str, dict[str, Any]] = json.loads((HERE / "orders.json").read_text("utf-8"))
    try:
        return orders[str(number)]
    except KeyError:
        raise ToolFailed(f"There is no order {number}; ask the customer for the number in the confirmation.") from None


@tool(timeout=5)
def lookup_order(order: Order) -> dict[str, Any]:
    """Look up an order: who placed it and when, what is in it, and what it cost in cents."""
    found = find_order(order)
    return {"order": order} | {key: found[key] for key in ("customer", "placed", "total_cents", "lines")}


@tool(timeout=5)
async def shipping_status(order: Order, ctx: ToolContext) -> dict[str, Any]:
    """Tell where the parcel is: every stop of its shipping until now."""
    stops: list[dict[str, str]] = find_order(order)["shipping"]
    for number, stop in enumerate(stops, 1):
        await ctx.progress(number, len(stops), stop["place"])
    return {"order": order, "status": stops[-1]["what"] if stops else "not packed yet", "stops": stops}


@tool(timeout=5)
def search_help(
    query: Annotated[str, Field(description="What to look for, in a few words.", max_length=500)],
    articles_max: Annotated[int, Field(ge=1, le=4)] = 2,
) -> list[dict[str, str]]:
    """Search the help articles: account, delivery, payment, returns."""
    wanted = {word.lower() for word in WORD.findall(query)}
    scored: list[tuple[int, str, str]] = []
    for path in sorted((HERE / "help").glob("*.md")):
        text = path.read_text("utf-8")
        score = sum(word.lower() in wanted for word in WORD.findall(text))
        if score:
            scored.append((-score, path.stem, text))
    return [{"article": name, "text": text} for _, name, text in sorted(scored)[:articles_max]]


agent = Agent(
    "support",
    model="anthropic:claude-sonnet-5-5" if os.environ.get("ANTHROPIC_API_KEY") else "scripted",
    instructions=(
        "You answer customers of a small shop. Look things up with your tools; never guess an order's state. "
        "Give money back only when the customer asks for it, and say the amount."
    ),
    tools=[lookup_order, shipping_status, search_help, "refund"],
    description="Answers customers of a small shop.",
    default=True,
)
