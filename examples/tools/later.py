"""Calls that wait for somebody: a result that comes later, a question to the user, and calls that wait for others."""

from playhead import Agent, Pending, Question, ToolContext, tool

TICKETS: list[str] = []
"""Stands for the partner that is handed the ticket."""


# begin: pending
@tool(effect="write")
async def order_survey(address: str, ctx: ToolContext) -> Pending:
    """Order a survey of a house. The report comes within two days."""
    TICKETS.append(ctx.ticket)  # a partner's API would be given it, with the URL to answer to
    return Pending(2 * 24 * 3600, "the surveyor has been asked")


# end: pending


# begin: question
@tool(effect="write")
async def delete_account(user: str, ctx: ToolContext) -> str | Question:
    """Delete a user's account."""
    if ctx.answer is None:
        return Question(f"Really delete {user}?", schema={"type": "boolean"}, state={"user": user})
    return f"{user} is deleted" if ctx.answer.content is True else f"{user} is kept"


# end: question


# begin: order
@tool(effect="write", key="order")
async def change_order(order: str, item: str) -> str:
    """Change an order."""
    return f"{order}: {item}"


@tool(effect="write", after=change_order)
async def confirm_by_mail(order: str) -> str:
    """Confirm an order by mail, once all changes of this turn are made."""
    return f"confirmed {order}"


@tool(exclusive=True)
async def stock_take() -> str:
    """Count everything, while nothing else of this turn runs."""
    return "42 boxes"


# end: order

agent = Agent("clerk", tools=[order_survey, delete_account, change_order, confirm_by_mail, stock_take])
