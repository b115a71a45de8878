"""Tools that depend on something that fails: retries, breaker, fallback, rate, cache, timeouts, progress."""

import asyncio

from playhead import Breaker, ToolContext, tool

CALLS: list[str] = []
"""What the service below was asked, so that tests can count."""


class RateService:
    """Stands for a service of somebody else. It can be told to be down."""

    is_down = False

    async def rate(self, currency: str) -> float:
        """Give a rate."""
        CALLS.append(currency)
        if self.is_down:
            raise ConnectionError("the rates cannot be reached")
        return 1.25


SERVICE = RateService()


# begin: resilient
async def last_known(currency: str) -> float:
    """Give the rate of last night."""
    return 1.2


@tool(
    retries=2,
    retry_on=ConnectionError,
    breaker=Breaker(failures=5, seconds=30),
    fallback=last_known,
    rate_limit="20/s per tenant",
    concurrency=8,
    cache=60,
)
async def exchange_rate(currency: str) -> float:
    """Tell what a currency is worth."""
    return await SERVICE.rate(currency)


# end: resilient


# begin: time
@tool(soft_timeout=0.2, timeout=1)
async def search(query: str, ctx: ToolContext) -> list[str]:
    """Search the archive, for as long as there is time."""
    found: list[str] = []
    for volume in range(1, 1001):
        if ctx.cancelled:
            break
        await asyncio.sleep(0.01)
        found.append(f"{query} in volume {volume}")
        await ctx.progress(volume, 1000, "searching")
        await ctx.emit(found[-1])
    return found


# end: time
