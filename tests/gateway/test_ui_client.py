"""The stock AI SDK chat of npm, over its default transport, against a real gateway: told, cut, resumed and stopped.

Needs node and npm (and, once, the registry). Without them it is skipped; with PLAYHEAD_REQUIRE_NODE=1 it fails.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest
from playhead.commands import CancelRun, Request, Say
from playhead.events import (
    ApprovalGiven,
    ApprovalRequested,
    Event,
    Failure,
    Json,
    ModelCallAbandoned,
    ModelCallCompleted,
    ModelCallFailed,
    ModelCallStarted,
    QuestionAnswered,
    QuestionAsked,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
    TextDelta,
    Thinking,
    ToolCall,
    ToolProgress,
    ToolResult,
    ToolResultChunk,
    ToolRetry,
    ToolStarted,
    Usage,
    UserMessage,
)
from playhead.ids import CallId, RunId, SessionId, call_id, message_id, run_id

from tests.clients.support import installed_at, run
from tests.gateway.support import OWNED, STARTED, Served, World, serving

SOURCE = Path(__file__).parent / "ui"
TALK_SECONDS_MAX = 60.0
CUTS = 40

Said = dict[str, Any]
WORDS = "What is the sky like? 日本 \u2028"
MINE: Said = {"id": "u1", "parts": [{"type": "text", "text": WORDS}]}


@pytest.fixture
async def folder(request: pytest.FixtureRequest) -> Path:
    found = await installed_at(request.config, SOURCE, "ai")
    shutil.copy(SOURCE / "talk.mjs", found)
    return found


def job(way: str, served: Served, chat: str, **more: Any) -> str:
    said = {"way": way, "api": f"http://{served.address}/ui/chat", "id": chat, "message": MINE, **more}
    return orjson.dumps(said).decode()


async def talk(folder: Path, way: str, served: Served, chat: str, **more: Any) -> Said:
    asked = job(way, served, chat, **more)
    said: Said = orjson.loads(await run("node", "talk.mjs", asked, cwd=folder, seconds_max=TALK_SECONDS_MAX))
    return said


class Turn:
    """The run of the message that the client says, and what happens in it."""

    def __init__(self, session: SessionId) -> None:
        self.message = message_id(session, f"ui {MINE['id']}")
        self.run: RunId = run_id(session, self.message)
        self.calls: list[CallId] = [call_id(session, self.run, 1, index) for index in range(3)]
        self.begun: list[Event] = [
            STARTED,
            OWNED,
            UserMessage(self.run, self.message, Json(orjson.dumps(WORDS).decode())),
            RunStarted(self.run, self.message),
        ]

    def thinks_and_calls(self) -> list[Event]:
        """Lose two attempts, and then think, say something, and call tools that do all that tools can do."""
        lost, failed, at = (self.run, 1, 1), (self.run, 1, 2), (self.run, 1, 3)
        works, asks, fails = self.calls
        question = QuestionAsked(*at, "q_1", Json('"Sure?"'), Json('{"type":"string"}'), asks)
        return [
            ModelCallStarted(*lost, "scripted:plain", "scripted"),
            Thinking(*lost, "lost "),
            TextDelta(*lost, "lost 日本"),
            ModelCallAbandoned(*lost, "owner_lost"),
            ModelCallStarted(*failed, "scripted:plain", "scripted"),
            TextDelta(*failed, "failed"),
            ModelCallFailed(*failed, Failure("overloaded", "later"), 5),
            ModelCallStarted(*at, "scripted:plain", "scripted"),
            *[Thinking(*at, piece) for piece in ("I should ", "look 😀.")],
            TextDelta(*at, "Let me see."),
            _completed(at, {"type": "thinking", "text": "I should look 😀."}, {"type": "text", "text": "Let me see."}),
            *[ToolCall(*at, call, "weather", Json('{"city":"Oslo"}'), "read", "default") for call in self.calls],
            ToolStarted(*at, works, "worker-1"),
            ToolProgress(*at, works, 1.0, 2.0, "half"),
            *[ToolResultChunk(*at, works, Json(piece)) for piece in ('"so "', '"far"')],
            ToolRetry(*at, works, 1, 5, Failure("broken", "again")),
            ApprovalRequested(*at, asks, "it costs money"),
            ApprovalGiven(*at, asks, "approve", "ada"),
            question,
            QuestionAnswered(*at, "q_1", Json('"yes"'), "ada"),
            ToolResult(*at, works, "ok", Json('{"sky":"clear"}'), 7),
            ToolResult(*at, asks, "ok", Json("null"), 7),
            ToolResult(*at, fails, "error", Json('"no such city"'), 7),
        ]

    def answers(self, words: int) -> list[Event]:
        at = (self.run, 2, 1)
        return [
            ModelCallStarted(*at, "scripted:plain", "scripted"),
            *[TextDelta(*at, f"wörd {number} ") for number in range(words)],
        ]

    def ends(self, words: int) -> list[Event]:
        said = {"type": "text", "text": _answer(words)}
        return [_completed((self.run, 2, 1), said), RunCompleted(self.run, Usage(6, 10))]

    def tells(self, words: int) -> list[Said]:
        """Give what the parts of the message must tell in the end, each by what matters of it."""
        weather = {"type": "dynamic-tool", "toolName": "weather", "input": {"city": "Oslo"}, "providerExecuted": True}
        works, asks, fails = ({**weather, "toolCallId": call} for call in self.calls)
        question = {"question_id": "q_1", "call_id": self.calls[1], "schema": {"type": "string"}, "question": "Sure?"}
        approval = {"id": self.calls[1], "requestReason": "it costs money", "approved": True}
        return [
            {"type": "step-start"},
            {"type": "reasoning", "text": "I should look 😀.", "state": "done", "id": "reasoning-4"},
            {"type": "text", "text": "Let me see.", "state": "done"},
            works | {"state": "output-available", "output": {"sky": "clear"}},
            asks | {"state": "output-available", "output": None, "approval": approval},
            fails | {"state": "output-error", "errorText": "no such city"},
            {"type": "data-playhead-question", "id": "q_1", "data": question | {"answer": "yes", "by": "ada"}},
            {"type": "step-start"},
            {"type": "text", "text": _answer(words), "state": "done"},
        ]


def _answer(words: int) -> str:
    return "".join(f"wörd {number} " for number in range(words))


def _completed(at: tuple[RunId, int, int], *blocks: Said) -> ModelCallCompleted:
    message = Json(orjson.dumps({"role": "assistant", "content": list(blocks)}).decode())
    return ModelCallCompleted(*at, message, Usage(3, 5), "end_turn", 12)


async def a_turn_that_is_over(world: World, words: int) -> tuple[SessionId, Turn]:
    session = await world.log.create()
    turn = Turn(session)
    await world.write(session, *turn.begun, *turn.thinks_and_calls(), *turn.answers(words), *turn.ends(words))
    return session, turn


R = TypeVar("R", bound=Request)


async def published(world: World, kind: type[R]) -> R:
    """Wait until somebody has asked for something of a kind, and give the first such request."""
    async with asyncio.timeout(5):
        while True:
            for command in await world.published():
                if isinstance(command, kind):
                    return command
            await asyncio.sleep(0)


@asynccontextmanager
async def talking(folder: Path, asked: str) -> AsyncGenerator[asyncio.StreamReader, None]:
    """Have the client talk while this is open, and give what it tells line by line."""
    process = await asyncio.create_subprocess_exec(
        "node", "talk.mjs", asked, cwd=folder, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def told(lines: asyncio.StreamReader) -> Any:
    async with asyncio.timeout(10):
        return orjson.loads(await lines.readline())


async def test_the_unchanged_chat_shows_a_run_with_all_that_can_happen_in_it(world: World, folder: Path) -> None:
    session, turn = await a_turn_that_is_over(world, words=3)
    async with serving(world.parts()) as served:
        said = await talk(folder, "stock", served, session)
        read = await talk(folder, "reading", served, session)
    assert "error" not in said
    mine, answer = said["messages"]
    assert mine["parts"] == MINE["parts"]
    assert answer["id"] == turn.run
    assert answer["parts"] == turn.tells(3)
    usage = {"input_tokens": 6, "output_tokens": 10, "cache_read_tokens": 0, "cache_write_tokens": 0}
    assert answer["metadata"]["playhead"] == {"session": session, "run_id": turn.run, "usage": usage}
    assert said["ends"] == {"isAbort": False, "isError": False, "isDisconnect": False, "finishReason": "stop"}
    assert {part["type"] for part in said["told"]} == {
        "data-playhead-model-call-abandoned",
        "data-playhead-model-call-failed",
        "data-playhead-question",
        "data-playhead-tool-progress",
        "data-playhead-tool-retry",
        "data-playhead-tool-started",
    }
    assert read["message"] == answer


async def test_cut_anywhere_and_resumed_it_has_just_what_it_would_have_had(world: World, folder: Path) -> None:
    """protocol:P97"""
    session, _ = await a_turn_that_is_over(world, words=40)
    async with serving(world.parts(ring_bytes_max=4_000)) as served:
        whole = await talk(folder, "stock", served, session)
        message = {"id": MINE["id"], "role": "user", "parts": MINE["parts"]}
        sent = {"id": session, "messages": [message]}
        stream = (await served.client.post("/ui/chat", json=sent)).content
        dice = random.Random(7)
        cuts = [[cut, dice.randrange(1, len(stream))] for cut in dice.sample(range(1, len(stream)), CUTS)]
        said = await talk(folder, "cuts", served, session, cuts=cuts, expected=whole["messages"])
    assert said["wrong"] == []
    assert said["count"] > CUTS


async def test_a_connection_that_breaks_in_the_text_is_taken_up_again_while_the_run_goes_on(
    world: World, folder: Path
) -> None:
    async with serving(world.parts()) as served:
        asked = job("live", served, "a chat/with any id", marker="wörd 2")
        async with talking(folder, asked) as lines:
            say = await published(world, Say)
            turn = Turn(say.session)
            assert (say.message_id, say.run_id, orjson.loads(say.content)) == (turn.message, turn.run, WORDS)
            await world.write(say.session, *turn.begun, *turn.thinks_and_calls(), *turn.answers(5))
            assert await told(lines) == "resumed"
            at = (turn.run, 2, 1)
            await world.write(say.session, *[TextDelta(*at, f"wörd {n} ") for n in range(5, 9)], *turn.ends(9))
            said = await told(lines)
    assert said["cut"] == {"status": "error", "isDisconnect": True}
    assert said["status"] == "ready"
    assert [message["id"] for message in said["messages"]] == [MINE["id"], turn.run]
    assert said["messages"][1]["parts"] == turn.tells(9)


async def test_a_stop_stops_the_run_that_it_names_and_one_that_comes_late_stops_nothing(
    world: World, folder: Path
) -> None:
    """protocol:P97"""
    async with serving(world.parts()) as served, talking(folder, job("stop", served, "chat")) as lines:
        say = await published(world, Say)
        turn = Turn(say.session)
        at = (turn.run, 1, 1)
        speaking = [ModelCallStarted(*at, "scripted:plain", "scripted"), TextDelta(*at, "half")]
        await world.write(say.session, *turn.begun, *speaking)
        cancel = await published(world, CancelRun)
        assert (cancel.session, cancel.run_id) == (say.session, turn.run)
        kept = _completed(at, {"type": "text", "text": "half"})
        await world.write(say.session, kept, RunCancelled(turn.run, "requested"))
        said = await told(lines)
    assert said["stopped"] == {"status": 202, "id": say.session, "run_id": turn.run, "stopping": True}
    assert said["late"] == {"status": 202, "id": say.session, "run_id": turn.run, "stopping": False}
    assert len([one for one in await world.published() if isinstance(one, CancelRun)]) == 1
    assert said["status"] == "ready"
    assert said["messages"][1]["parts"][-1]["text"] == "half"


async def test_what_was_said_can_neither_be_changed_nor_asked_anew(world: World, folder: Path) -> None:
    """protocol:P97"""
    session, _ = await a_turn_that_is_over(world, words=3)
    async with serving(world.parts()) as served:
        said = await talk(folder, "refused", served, session)
    assert said == {"before": "ready", "errors": ["cannot-edit", "cannot-regenerate"]}


async def test_a_run_that_fails_is_the_chats_error(world: World, folder: Path) -> None:
    session = await world.log.create()
    turn = Turn(session)
    at = (turn.run, 1, 1)
    half = [ModelCallStarted(*at, "scripted:plain", "scripted"), TextDelta(*at, "half")]
    await world.write(session, *turn.begun, *half, RunFailed(turn.run, Failure("overloaded", "try later")))
    async with serving(world.parts()) as served:
        said = await talk(folder, "stock", served, session)
    assert (said["status"], said["error"]) == ("error", "try later (overloaded)")


async def test_there_is_nothing_to_resume_where_no_run_is_going(world: World, folder: Path) -> None:
    """protocol:P97"""
    session, _ = await a_turn_that_is_over(world, words=3)
    async with serving(world.parts()) as served:
        for chat in (session, "a chat that nobody began"):
            assert await talk(folder, "nothing", served, chat) == {"messages": [], "status": "ready"}
