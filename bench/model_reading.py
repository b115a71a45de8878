"""What reading a model's stream costs: CPU a delta, through Anthropic's SDK in three ways and through `ClaudeModel`.

    python -m bench.model_reading [--deltas 3000] [--rounds 3]

The fake provider runs in a process of its own, so that only the reader's CPU is counted. `apart` sends each delta when
the one before has been read, as models do; `bursts` sends them sixteen at a time, as a slow network delivers them.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from anthropic import AsyncAnthropic
from playhead_orchestrator.adapters.claude import ClaudeModel
from playhead_orchestrator.adapters.claude_wire import ClaudeStream
from playhead_orchestrator.adapters.sse_lines import SseLines
from playhead_orchestrator.model import ModelRequest, TextSaid

from tests.support.providers import Asked, fake_provider
from tests.support.speech import Speech, Text, anthropic_wire

INTERVAL_SECONDS = 0.0005
BURST = 16

Reader = Callable[[str, AsyncAnthropic, ClaudeModel], Awaitable[int]]


def speech(deltas: int, *, bursts: bool) -> Speech:
    """Make a text of so many deltas, about four characters each."""
    said = Speech([Text([f"w{number % 1000} " for number in range(deltas)])], interval_seconds=INTERVAL_SECONDS)
    if not bursts:
        return said
    ends: list[int] = []
    at = 0
    for number, frame in enumerate(anthropic_wire(said, {})):
        at += len(frame) if isinstance(frame, bytes) else 0
        if number % BURST == 0:
            ends.append(at)
    return Speech(said.steps, cuts=ends, interval_seconds=INTERVAL_SECONDS)


async def serve(deltas: int) -> None:
    """Serve both kinds of stream: the model's name says which."""
    kinds = {"apart": speech(deltas, bursts=False), "bursts": speech(deltas, bursts=True)}

    def answer(asked: Asked) -> Speech:
        return kinds[asked.body["model"]]

    async with fake_provider(answer) as fake:
        print(fake.url, flush=True)
        await asyncio.Event().wait()


async def by_helper(kind: str, sdk: AsyncAnthropic, _: ClaudeModel) -> int:
    """Read as every tutorial does."""
    async with sdk.messages.stream(model=kind, max_tokens=9, messages=[{"role": "user", "content": "x"}]) as stream:
        return len([text async for text in stream.text_stream])


async def by_raw_events(kind: str, sdk: AsyncAnthropic, _: ClaudeModel) -> int:
    """Read the SDK's events, without its snapshots."""
    events = await sdk.messages.create(
        model=kind, max_tokens=9, messages=[{"role": "user", "content": "x"}], stream=True
    )
    return len([event async for event in events if event.type == "content_block_delta"])


async def by_bytes(kind: str, sdk: AsyncAnthropic, _: ClaudeModel) -> int:
    """Read the bytes and nothing in them: the floor that the SDK's HTTP client sets."""
    async with sdk.messages.with_streaming_response.create(
        model=kind, max_tokens=9, messages=[{"role": "user", "content": "x"}], stream=True
    ) as response:
        return sum([chunk.count(b"text_delta") async for chunk in response.http_response.aiter_bytes()])


async def by_playhead(kind: str, _: AsyncAnthropic, model: ClaudeModel) -> int:
    """Read as the orchestrator does."""
    request = ModelRequest(kind, "", [{"role": "user", "content": [{"type": "text", "text": "x"}]}])
    async with aclosing(model.stream(request)) as stream:
        return sum([len([one for one in batch if isinstance(one, TextSaid)]) async for batch in stream])


READERS: dict[str, Reader] = {
    "SDK's streaming helper": by_helper,
    "SDK's raw events": by_raw_events,
    "SDK's bytes, unread": by_bytes,
    "ClaudeModel": by_playhead,
}


def pure(deltas: int) -> float:
    """Measure the parser alone, a frame at a time, in CPU microseconds a delta."""
    frames = [frame for frame in anthropic_wire(speech(deltas, bursts=False), {}) if isinstance(frame, bytes)]
    lines, message = SseLines(), ClaudeStream()
    began = time.process_time()
    for frame in frames:
        message.feed(lines.feed(frame), [])
    return (time.process_time() - began) / deltas * 1e6


async def measure(url: str, deltas: int, rounds: int) -> None:
    """Print a table."""
    model = ClaudeModel(api_key="bench", base_url=url)
    await model.warm_up()
    print(f"CPU microseconds a delta; median of {rounds} rounds of {deltas} deltas")
    async with AsyncAnthropic(api_key="bench", base_url=url) as sdk:
        for kind in ("apart", "bursts"):
            for name, reader in READERS.items():
                await reader(kind, sdk, model)
                costs: list[float] = []
                for _ in range(rounds):
                    began = time.process_time()
                    heard = await reader(kind, sdk, model)
                    costs.append((time.process_time() - began) / deltas * 1e6)
                    assert heard == deltas, f"{name} heard {heard} of {deltas}"
                print(f"{kind:8} {name:24} {statistics.median(costs):7.1f}")
    print(f"{'':8} {'parser alone':24} {statistics.median(pure(deltas) for _ in range(rounds)):7.1f}")
    await model.close()


def main() -> None:
    """Measure against a provider in a child process."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--deltas", type=int, default=3000)
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = flags.parse_args()
    if given.serve:
        asyncio.run(serve(given.deltas))
        return
    command = [sys.executable, "-m", "bench.model_reading", "--serve", "--deltas", str(given.deltas)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            asyncio.run(measure(child.stdout.readline().strip(), given.deltas, given.rounds))
        finally:
            child.terminate()


if __name__ == "__main__":
    main()
