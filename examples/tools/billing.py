"""Tools that cost money: effects, limits, approval, secrets, and finding out what became of a payment."""

from collections.abc import AsyncGenerator

from playhead import Limit, ToolContext, ToolFailed, lifespan, tool


class Bank:
    """Stands for a bank's client: it remembers payments by their key."""

    def __init__(self) -> None:
        self.payments: dict[str, float] = {}

    async def pay(self, account: str, amount: float, *, key: str, token: str) -> str:
        """Pay, at most once for each key."""
        if account == "closed":
            raise ToolFailed("The account is closed. Ask the customer for another one.")
        self.payments.setdefault(key, amount)
        return f"payment {len(self.payments)} ({len(token)} characters of token)"

    async def find(self, key: str) -> float | None:
        """Find a payment by its key."""
        return self.payments.get(key)


# begin: lifespan
@lifespan(pool="billing")
async def bank() -> AsyncGenerator[Bank]:
    """Open what the pool's tools share in each process."""
    client = Bank()
    yield client
    # What stands here runs after the last call.


# end: lifespan


# begin: write
@tool(pool="billing", effect="write", retries=3, timeout=10, secrets=["env:BANK_TOKEN"])
async def refund(account: str, amount: float, ctx: ToolContext) -> str:
    """Refund a customer."""
    return await ctx.resources.pay(account, amount, key=ctx.idempotency_key, token=ctx.secrets["BANK_TOKEN"])


# end: write


# begin: once
async def find_payout(ctx: ToolContext) -> str:
    """Say what became of a payout; raise if it did not happen."""
    paid = await ctx.resources.find(ctx.idempotency_key)
    if paid is None:
        raise ToolFailed("The payout did not happen.")
    return f"paid {paid}"


@tool(pool="billing", effect="once", reconcile=find_payout, secrets=["env:BANK_TOKEN"])
async def payout(account: str, amount: float, ctx: ToolContext) -> str:
    """Pay a supplier."""
    await ctx.resources.pay(account, amount, key=ctx.idempotency_key, token=ctx.secrets["BANK_TOKEN"])
    return f"paid {amount}"


# end: once


# begin: safety
@tool(
    pool="billing",
    effect="write",
    limits={"amount": Limit(least=0.01, most=10_000), "note": Limit(length=200, deny=["(?i)password"])},
    approval=lambda arguments: arguments["amount"] > 500,
)
async def credit(account: str, amount: float, note: str = "") -> str:
    """Give a customer credit."""
    return f"{account} has {amount} more"


# end: safety
