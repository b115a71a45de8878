"""The stock AG-UI client of npm, its event verifier included, against a real gateway; and the agent that comes back.

Needs node and npm (and, once, the registry). Without them it is skipped; with PLAYHEAD_REQUIRE_NODE=1 it fails.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest
from playhead.commands import AnswerQuestion, Request, Say
from playhead.events import (
    Event,
    Json,
    ModelCallAbandoned,
    ModelCallCompleted,
    ModelCallStarted,
    QuestionAnswered,
    QuestionAsked,
    RunCompleted,
    RunStarted,
    TextDelta,
    Thinking,
    ToolCall,
    ToolProgress,
    ToolResult,
    ToolStarted,
    Usage,
    UserMessage,
)
from playhead.ids import CallId, RunId, SessionId, call_id, message_id, run_id

from tests.clients.support import ROOT, installed_at, run
from tests.gateway.agui_model import Client, events_in
from tests.gateway.support import OWNED, STARTED, World, serving

SOURCE = Path(__file__).parent / "agui"
AGENT = ROOT / "clients" / "javascript" / "agui.js"
TALK_SECONDS_MAX = 60.0
CUTS = 60

Said = dict[str, Any]
MINE: Said = {"id": "u1", "role": "user", "content": "What is the sky like? 日本 \u2028"}


@pytest.fixture
async def folder(request: pytest.FixtureRequest) -> Path:
    found = await installed_at(request.config, SOURCE, "@ag-ui/client")
    for path in (SOURCE / "talk.mjs", AGENT):
        shutil.copy(path, found)
    return found


async def talk(folder: Path, way: str, url: str, session: SessionId, **more: Any) -> Said:
    job = {"way": way, "url": url, "threadId": session, "messages": [MINE], **more}
    out = await run("node", "talk.mjs", orjson.dumps(job).decode(), cwd=folder, seconds_max=TALK_SECONDS_MAX)
    said: Said = orjson.loads(out)
    assert said.pop("warnings") == []
    return said


class Turn:
    """The run of the message that the client says, and what happens in it."""

    def __init__(self, session: SessionId) -> None:
        self.message = message_id(session, f"agui {MINE['id']}")
        self.run: RunId = run_id(session, self.message)
        self.call: CallId = call_id(session, self.run, 1, 0)
        self.begun: list[Event] = [
            STARTED,
            OWNED,
            UserMessage(self.run, self.message, Json(orjson.dumps(MINE["content"]).decode())),
            RunStarted(self.run, self.message),
        ]

    def thinks_and_calls(self) -> list[Event]:
        """Lose an attempt, and then think, say something, and call a tool that tells how far it is."""
        lost, at = (self.run, 1, 1), (self.run, 1, 2)
        return [
            ModelCallStarted(*lost, "scripted:plain", "scripted"),
            Thinking(*lost, "lost "),
            TextDelta(*lost, "lost 日本"),
            ModelCallAbandoned(*lost, "owner_lost"),
            ModelCallStarted(*at, "scripted:plain", "scripted"),
            *[Thinking(*at, piece) for piece in ("I should ", "look 😀.")],
            TextDelta(*at, "Let me see."),
            _completed(at, {"type": "thinking", "text": "I should look 😀."}, {"type": "text", "text": "Let me see."}),
            ToolCall(*at, self.call, "weather", Json('{"city":"Oslo"}'), "read", "default"),
            ToolStarted(*at, self.call, "worker-1"),
            ToolProgress(*at, self.call, 1.0, 2.0, "half"),
            ToolProgress(*at, self.call, 2.0, 2.0),
        ]

    def returns(self) -> list[Event]:
        return [ToolResult(self.run, 1, 2, self.call, "ok", Json('{"sky":"clear"}'), 7)]

    def answers(self, words: int) -> list[Event]:
        at = (self.run, 2, 1)
        return [
            ModelCallStarted(*at, "scripted:plain", "scripted"),
            *[TextDelta(*at, f"wörd {number} ") for number in range(words)],
        ]

    def ends(self, words: int) -> list[Event]:
        text = "".join(f"wörd {number} " for number in range(words))
        return [_completed((self.run, 2, 1), {"type": "text", "text": text}), RunCompleted(self.run, Usage(6, 10))]

    def shown(self, words: int) -> list[Said]:
        """Give what the client must have in the end."""
        text = "".join(f"wörd {number} " for number in range(words))
        function = {"name": "weather", "arguments": '{"city":"Oslo"}'}
        content = {"toolCallId": self.call, "progress": 2.0, "total": 2.0}
        first = {"id": f"msg-{self.run}-1-2", "role": "assistant", "content": "Let me see."}
        return [
            MINE | {"id": self.message},
            {"id": f"think-{self.run}-1", "role": "reasoning", "content": "I should look 😀."},
            first | {"toolCalls": [{"id": self.call, "type": "function", "function": function}]},
            {"id": f"result-{self.call}", "role": "tool", "toolCallId": self.call, "content": '{"sky":"clear"}'},
            {"id": f"act-{self.call}", "role": "activity", "activityType": "playhead.tool", "content": content},
            {"id": f"msg-{self.run}-2-1", "role": "assistant", "content": text},
        ]


def _completed(at: tuple[RunId, int, int], *blocks: Said) -> ModelCallCompleted:
    message = Json(orjson.dumps({"role": "assistant", "content": list(blocks)}).decode())
    return ModelCallCompleted(*at, message, Usage(3, 5), "end_turn", 12)


async def a_turn_that_is_over(world: World, words: int) -> tuple[SessionId, Turn]:
    session = await world.log.create()
    turn = Turn(session)
    events = [*turn.begun, *turn.thinks_and_calls(), *turn.returns(), *turn.answers(words), *turn.ends(words)]
    await world.write(session, *events)
    return session, turn


R = TypeVar("R", bound=Request)


async def published(world: World, kind: type[R]) -> R:
    """Wait until somebody has asked for something of a kind, and give the first such request."""
    async with asyncio.timeout(10):
        while True:
            for command in await world.published():
                if isinstance(command, kind):
                    return command
            await asyncio.sleep(0)


@asynccontextmanager
async def severing(port: int, marker: bytes) -> AsyncGenerator[tuple[int, asyncio.Event], None]:
    """Serve a proxy that drops the first connection once the marker has gone through it."""
    severed = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)

        async def up() -> None:
            while data := await reader.read(65536):
                up_writer.write(data)

        async def down() -> None:
            seen = b""
            while data := await up_reader.read(65536):
                writer.write(data)
                await writer.drain()
                seen += data
                if marker in seen and not severed.is_set():
                    severed.set()
                    break

        with suppress(ConnectionError):
            await asyncio.wait([asyncio.create_task(up()), asyncio.create_task(down())], return_when="FIRST_COMPLETED")
        writer.transport.abort()
        up_writer.transport.abort()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], severed


async def test_the_unchanged_client_is_told_a_run_with_reasoning_a_call_and_its_progress(
    world: World, folder: Path
) -> None:
    session, turn = await a_turn_that_is_over(world, words=3)
    async with serving(world.parts()) as served:
        said = await talk(folder, "stock", f"http://{served.address}/agui", session)
    assert said["messages"] == turn.shown(3)
    used, outcome, name = said["usage"]
    assert [(one["provider"], one["inputTokens"], one["outputTokens"]) for one in used] == [("scripted", 6, 10)]
    assert (outcome, name) == ({"type": "success"}, "mine")


async def test_cut_anywhere_and_resumed_it_has_just_what_it_would_have_had(world: World, folder: Path) -> None:
    """protocol:P96"""
    session, _ = await a_turn_that_is_over(world, words=60)
    async with serving(world.parts()) as one, serving(world.parts(ring_bytes_max=4_000)) as other:
        sent = {"threadId": session, "runId": "mine", "messages": [MINE]}
        answer = await one.client.post("/agui", json=sent)
        whole = Client().apply(events_in(answer.content))
        dice = random.Random(7)
        cuts = [[cut, dice.randrange(2_000, 9_000)] for cut in dice.sample(range(len(answer.content)), CUTS)]
        for served in (one, other):
            url = f"http://{served.address}/agui"
            said = await talk(folder, "cuts", url, session, cuts=cuts, expected=whole.shown)
            assert said["wrong"] == []
            assert said["count"] > CUTS


async def test_a_connection_that_breaks_in_the_text_is_taken_up_again_while_the_run_goes_on(
    world: World, folder: Path
) -> None:
    session = await world.log.create()
    turn = Turn(session)
    async with (
        serving(world.parts()) as served,
        severing(served.address.port, b'"delta":"w\xc3\xb6rd 2 "') as (port, severed),
        asyncio.TaskGroup() as group,
    ):
        talking = group.create_task(talk(folder, "live", f"http://127.0.0.1:{port}/agui", session))
        say = await published(world, Say)
        assert (say.message_id, say.run_id) == (turn.message, turn.run)
        await world.write(session, *turn.begun, *turn.thinks_and_calls(), *turn.returns(), *turn.answers(5))
        async with asyncio.timeout(10):
            await severed.wait()
        at = (turn.run, 2, 1)
        await world.write(session, *[TextDelta(*at, f"wörd {number} ") for number in range(5, 9)], *turn.ends(9))
        said = await talking
    assert said["messages"] == turn.shown(9)
    assert said["page"] == turn.shown(9)
    assert said["cuts"] == 1


async def test_an_interrupt_is_known_to_the_client_and_its_answer_goes_on(world: World, folder: Path) -> None:
    """protocol:P96"""
    session = await world.log.create()
    turn = Turn(session)
    at = (turn.run, 1, 2)
    asked = QuestionAsked(*at, "q_1", Json('"Sure?"'), Json('{"type":"string"}'), turn.call)
    await world.write(session, *turn.begun, *turn.thinks_and_calls(), asked)
    async with serving(world.parts()) as served, asyncio.TaskGroup() as group:
        talking = group.create_task(talk(folder, "interrupt", f"http://{served.address}/agui", session))
        answer = await published(world, AnswerQuestion)
        answered = QuestionAnswered(*at, "q_1", answer.content, "user")
        await world.write(session, answered, *turn.returns(), *turn.answers(3), *turn.ends(3))
        said = await talking
    interrupt = {"id": "q_1", "reason": "question", "message": "Sure?", "toolCallId": turn.call}
    assert said["asked"] == [interrupt | {"responseSchema": {"type": "string"}}]
    assert said["page"] == said["asked"]
    assert said["left"] == []
    assert answer.content == '"yes"'
    assert said["messages"] == turn.shown(3)


async def test_tools_of_the_client_fail_before_a_run_starts(world: World, folder: Path) -> None:
    """protocol:P96"""
    session = await world.log.create()
    async with serving(world.parts()) as served:
        said = await talk(folder, "refused", f"http://{served.address}/agui", session)
    assert said["status"] == 422
    assert "client-tools" in said["said"]
    assert await world.published() == []
