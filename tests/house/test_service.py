"""`playhead.service`: stop, drain, cancel."""

import asyncio
import os
import signal

import pytest
from playhead.service import serve, stop_on_signals


async def test_services_are_told_to_stop_and_may_drain():
    stop, drained = asyncio.Event(), list[str]()

    async def patient(stop: asyncio.Event) -> None:
        await stop.wait()
        await asyncio.sleep(0)
        drained.append("patient")

    async def asks_to_stop(stop: asyncio.Event) -> None:
        stop.set()

    async with asyncio.timeout(5):
        await serve({"patient": patient, "asks": asks_to_stop}, stop=stop, grace_seconds=5)
    assert drained == ["patient"]


async def test_a_service_that_does_not_drain_is_cancelled_after_the_grace(caplog: pytest.LogCaptureFixture):
    stop, cancelled = asyncio.Event(), asyncio.Event()

    async def stubborn(stop: asyncio.Event) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    stop.set()
    async with asyncio.timeout(5):
        await serve({"stubborn": stubborn}, stop=stop, grace_seconds=0.01)
    assert cancelled.is_set()


async def test_a_service_that_fails_brings_the_others_down_and_its_error_is_the_one_raised():
    cancelled = asyncio.Event()

    async def bystander(stop: asyncio.Event) -> None:
        try:
            await stop.wait()
        finally:
            cancelled.set()

    async def failing(stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_raise(LookupError("gone")))

    with pytest.raises(LookupError, match="gone"):
        async with asyncio.timeout(5):
            await serve({"failing": failing, "bystander": bystander}, stop=asyncio.Event(), grace_seconds=5)
    assert cancelled.is_set()


async def test_a_service_that_ends_unasked_stops_the_others():
    async def short(stop: asyncio.Event) -> None:
        return

    async def long(stop: asyncio.Event) -> None:
        await stop.wait()

    async with asyncio.timeout(5):
        await serve({"short": short, "long": long}, stop=asyncio.Event(), grace_seconds=5)


async def test_cancelling_from_outside_is_not_swallowed():
    async def long(stop: asyncio.Event) -> None:
        await stop.wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(serve({"long": long}, stop=asyncio.Event(), grace_seconds=5))
        await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_only_sets_the_event_and_gives_the_second_its_usual_effect(number: signal.Signals):
    stop = asyncio.Event()
    before = signal.getsignal(number)
    with stop_on_signals(stop):
        os.kill(os.getpid(), number)
        async with asyncio.timeout(5):
            await stop.wait()
        assert signal.getsignal(number) is not None
        # Python's own disposition is back: a second signal would end the process
        assert signal.getsignal(number) == (signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    assert signal.getsignal(number) in {before, signal.default_int_handler, signal.SIG_DFL}


async def _raise(error: Exception) -> None:
    raise error
