"""`ScriptedModel`: a model that needs no key and no network, for trying things out, for demos and for tests.

It follows a scenario (see `scenario` for the file), or else rules over words (`improvise`), and says that it is a
script. All that it does follows from the request, so a fresh process goes on where a killed one stopped.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import orjson
from playhead.events import Usage

from playhead_orchestrator.adapters.improvise import improvise
from playhead_orchestrator.adapters.scenario import (
    DeltaCharacters,
    Fail,
    Pause,
    Say,
    Scenario,
    Step,
    Think,
    Use,
    load,
)
from playhead_orchestrator.gather import Gathering
from playhead_orchestrator.model import Block, Finished, ModelFailed, ModelRequest, Said

__all__ = ["ScriptedModel"]

PACE_SECONDS = 0.02
"""Between deltas: 50 tokens a second, as a language model of middling size has it."""
FIRST_SECONDS = 0.25
FIRST_PACES = 12.5
"""The first delta takes as long as so many others."""
INPUT_CHARACTERS = 8
"""How long a delta of a tool's input is."""
CHARACTERS_PER_TOKEN = 4

TOKEN = re.compile(r"\s*\S{1,12}")


class ScriptedModel:
    """Says what a scenario says. Raises `Misconfigured` for a file that is none.

    `pace` is the seconds between deltas; 0 says all without waiting, pauses apart.
    """

    provider = "scripted"

    def __init__(self, scenario: Path | None = None, pace: float | None = None) -> None:
        self._scenario = Scenario() if scenario is None else load(scenario)
        self._pace = PACE_SECONDS if pace is None else pace

    async def close(self) -> None:
        """Do nothing: there is nothing to free."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[Said], None]:
        """Say the message that follows from the request. Raises `ModelFailed` where the scenario does."""
        speaking = _Speaking(request.attempt)
        wait = min(FIRST_SECONDS, self._pace * FIRST_PACES)
        for out in speaking.say(message_for(self._scenario, request)):
            match out:
                case Pause(seconds):
                    await asyncio.sleep(seconds)
                case _:
                    await asyncio.sleep(wait)
                    wait = self._pace
                    yield (out,)
        characters = len(request.instructions) + sum(len(orjson.dumps(message)) for message in request.messages)
        usage = Usage(characters // CHARACTERS_PER_TOKEN, speaking.deltas)
        content = speaking.gathering.content()
        yield (Finished(content, usage, "tool_use" if speaking.gathering.uses else "end_turn"),)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Where a conversation stands: all texts of the user, and what there was after the last."""

    texts: tuple[str, ...]
    answered: int
    results: tuple[Block, ...]


def message_for(scenario: Scenario, request: ModelRequest) -> Sequence[Step]:
    """Decide the next message of a conversation. Pure."""
    asked = _asked(request)
    scripted = scenario.message(asked.texts, asked.answered)
    if scripted is not None:
        return scripted
    return improvise(request, asked.texts[-1] if asked.texts else "", asked.results)


def _asked(request: ModelRequest) -> _Asked:
    texts: list[str] = []
    answered = 0
    results: list[Block] = []
    for message in request.messages:
        if message["role"] == "assistant":
            answered += 1
            continue
        results += [block for block in message["content"] if block.get("type") == "tool_result"]
        said = [str(block.get("text", "")) for block in message["content"] if block.get("type") == "text"]
        if said:
            texts += said
            answered, results = 0, []
    return _Asked(tuple(texts), answered, tuple(results))


class _Speaking:
    """Turns the steps of a message into deltas and pauses, and gathers what was said."""

    def __init__(self, attempt: int) -> None:
        self.gathering = Gathering()
        self.deltas = 0
        self._attempt = attempt

    def say(self, steps: Sequence[Step]) -> Iterator[Said | Pause]:
        """Say the steps. Raises `ModelFailed` where one of them says so."""
        fails = [step for step in steps if isinstance(step, Fail) and self._attempt <= step.times]
        fail = min(fails, key=lambda step: step.after, default=None)
        for out in self._say(steps):
            if not isinstance(out, Pause):
                if fail is not None and self.deltas >= fail.after:
                    break
                self.deltas += 1
            yield out
        if fail is not None:
            raise ModelFailed(fail.code, fail.message, fail.retryable, fail.retry_after)

    def _say(self, steps: Sequence[Step]) -> Iterator[Said | Pause]:
        characters: int | None = None
        for key, step in enumerate(steps):
            match step:
                case Think(text):
                    self.gathering.begin(key, {"type": "thinking"})
                    yield from (self.gathering.thinking(key, piece) for piece in _pieces(text, characters))
                case Say(text):
                    self.gathering.begin(key, {"type": "text"})
                    yield from (self.gathering.text(key, piece) for piece in _pieces(text, characters))
                case Use(tool, json):
                    self.gathering.begin(key, {"type": "tool_use", "name": tool})
                    pieces = _pieces(json, characters or INPUT_CHARACTERS)
                    yield from filter(None, (self.gathering.input(key, piece) for piece in pieces))
                case Pause():
                    yield step
                case DeltaCharacters():
                    characters = step.characters
                case Fail():
                    pass  # `say` sees to it
                case _:
                    assert_never(step)


def _pieces(text: str, characters: int | None) -> Iterator[str]:
    """Cut a text: every so many characters, or else about where a model's tokens end."""
    if characters is not None:
        yield from (text[start : start + characters] for start in range(0, len(text), characters))
        return
    end = 0
    for found in TOKEN.finditer(text):
        end = found.end()
        yield found[0]
    if end < len(text):
        yield text[end:]
