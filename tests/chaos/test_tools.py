"""Tools that misbehave, through a running system: each call has one result, and the run goes on."""

from __future__ import annotations

from tests.chaos.client import began, check, viewing
from tests.chaos.processes import Stage
from tests.chaos.scenario import FAULTS


async def test_a_tool_may_raise_or_hang_or_return_nonsense_or_print(embedded: Stage) -> None:
    dev = await embedded.dev()
    session = await began(dev.url, "Faults, please.")
    async with viewing(dev.url, session) as viewer:
        await viewer.until_end()
        found = await check(dev.url, session, viewer)
    names = {call_id: call["name"] for call_id, call in found.calls.items()}
    results = {names[call_id]: result for call_id, result in found.results.items()}
    assert {name: result["status"] for name, result in results.items()} == dict(
        zip(FAULTS, ("error", "timeout", "timeout", "error", "ok"), strict=True)
    )
    assert "nothing can be divided by that" in str(results["fails"]["output"])
    assert results["prints"]["output"] == "printed"
    assert list(found.ends.values()) == ["run_completed"]
    # and the process is none the worse for it
    assert (await began(dev.url, "Brief, please.")).startswith("ses_")
    assert await dev.stop() == 0
