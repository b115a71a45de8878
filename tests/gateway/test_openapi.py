"""A running gateway does what its OpenAPI document says: requests made from the document, answers held against it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from playhead.adapters.memory import MemoryQueue, MemorySessionLog
from playhead.commands import AnnounceTool, DeadLetter
from playhead.events import Json, QuestionAsked
from playhead.ids import CallId, SessionId, message_id, run_id
from playhead.leases import lease_of
from playhead_gateway.app import create_app
from playhead_gateway.bodies import Body
from playhead_gateway.projections.response_name import ResponseName
from schemathesis.checks import positive_data_acceptance

from tests.gateway.support import CLOSED, LEASE_KEY, OWNED, RUN, STARTED, World, a_turn, a_world, serving

STREAM = "/v1/stream"
CHANNELS = "/v1/events"
"""Their answers do not end. `test_streams.py` and `test_channels.py` watch them."""
AGUI, AGUI_THREAD = "/agui", "/agui/{thread}/events"
"""The first waits for a run that nobody makes here, the second for a thread that nobody began: see `test_agui.py`."""
DURABLE = "/v1/stream/{session}"
"""What may be asked of it hangs together: see `test_durable_streams.py`."""
UI_CHAT, UI_STOP = "/ui/chat", "/ui/chat/{chat}/stop"
"""The first waits for a run that nobody makes here, the second is of a chat that nobody began."""
RESPONSES = "/v1/responses"
"""To be made, a response waits for a run that nobody makes here: see `test_openai_client.py`."""

EXAMPLES = 8
TOOL = AnnounceTool("default", "weather", "Sky.", Json('{"type":"object"}'), "abc", "read", 5000, 3, 1, breaker=True)
LETTER = DeadLetter("agent.requests", 0, 0, "key", b"noise", "it is noise", 1)
ASKED = QuestionAsked(RUN, 1, 1, "q_1", Json('"Sure?"'))
CALL_SECONDS = 5.0

LIMITS: dict[str, Any] = {"wait_seconds_max": 1.0}

DOCUMENT = create_app(World(MemorySessionLog(), MemoryQueue()).parts(**LIMITS)).openapi()


def document(*modes: schemathesis.GenerationMode) -> Any:  # Any, here and below: schemathesis types itself in part
    """Give the document, and which requests are to be made of it: such as it allows, or such as it does not."""
    found = schemathesis.openapi.from_dict(DOCUMENT)
    found.config.generation.update(modes=list(modes))
    return found


ANYTHING: Any = document(*schemathesis.GenerationMode).exclude(path=[STREAM, DURABLE, UI_CHAT, AGUI, RESPONSES])
WELL_FORMED: Any = document(schemathesis.GenerationMode.POSITIVE).exclude(
    path=[STREAM, DURABLE, CHANNELS, UI_CHAT, UI_STOP, AGUI, AGUI_THREAD, RESPONSES]
)

SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture]
BOUNDED = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=SLOW, database=None)


@dataclass(frozen=True)
class Reached:
    """Where the gateway listens, and sessions that it has: one that can be talked to, one that is closed."""

    url: str
    sessions: tuple[SessionId, ...]


@pytest.fixture(scope="module")
def reached() -> Generator[Reached, None, None]:
    """Serve a gateway from a thread of its own: what asks it here blocks."""
    found: list[Reached] = []
    ready = threading.Event()
    stopping: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        world = await a_world()
        await world.announce(world.topics.catalog.name, "default/weather", TOOL)
        await world.announce(world.topics.deadletter.name, "agent.requests", LETTER)
        talking = await world.log.create()
        await world.write(talking, STARTED, OWNED, *a_turn(talking), ASKED)
        closed = await world.session_with(STARTED, OWNED, ASKED, CLOSED)
        stop = asyncio.Event()
        stopping.append((asyncio.get_running_loop(), stop))
        async with serving(world.parts(**LIMITS)) as served:
            found.append(Reached(f"http://{served.address}", (talking, closed)))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(CALL_SECONDS)
    yield found[0]
    loop, stop = stopping[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(CALL_SECONDS)
    assert not thread.is_alive()


def test_each_body_that_a_route_takes_is_shown_by_examples_that_it_takes() -> None:
    shown = {
        body["title"]: body.get("examples", [])
        for path in DOCUMENT["paths"].values()
        for described in path.values()
        for body in [described.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")]
        if body is not None
    }
    every = [kind for body in Body.__subclasses__() for kind in (body, *body.__subclasses__())]
    kinds = {kind.__name__: kind for kind in every if not kind.__name__.startswith("_")}  # those are a socket's
    assert shown.keys() == kinds.keys()
    for name, examples in shown.items():
        assert examples
        for example in examples:
            kinds[name].model_validate(example)


@ANYTHING.parametrize()
@BOUNDED
def test_whatever_is_sent_the_answer_is_one_that_the_document_has(case: Any, reached: Reached) -> None:
    """protocol:P25"""
    # What the document allows may still meet a key that was used, or an agent that nobody serves.
    case.call_and_validate(base_url=reached.url, timeout=CALL_SECONDS, excluded_checks=[positive_data_acceptance])


@WELL_FORMED.parametrize()
@BOUNDED
def test_what_the_document_allows_is_done_for_sessions_that_exist(case: Any, reached: Reached) -> None:
    """protocol:P25"""
    case.headers.pop("Idempotency-Key", None)
    if "tool" in case.path_parameters:
        case.path_parameters["tool"] = TOOL.name
    if "letter" in case.path_parameters:
        case.path_parameters["letter"] = "0-0"
    if "question_id" in case.path_parameters:
        case.path_parameters["question_id"] = ASKED.question_id
    if "response_id" in case.path_parameters:
        talking = reached.sessions[0]
        case.path_parameters["response_id"] = str(ResponseName(talking, run_id(talking, message_id(talking, "first"))))
    if "call_id" in case.path_parameters:  # nobody can guess a ticket
        call = CallId(case.path_parameters["call_id"])
        case.headers["Authorization"] = f"Bearer {reached.sessions[0]}.{call}.{lease_of(LEASE_KEY, call)}"
    for session in reached.sessions if "session" in case.path_parameters else [None]:
        if session is not None:
            case.path_parameters["session"] = session
        answer = case.call_and_validate(base_url=reached.url, timeout=CALL_SECONDS)
        # Nobody can guess the name of an output either: it is a hash.
        assert answer.status_code < 300 or answer.status_code == (404 if "name" in case.path_parameters else 409)
