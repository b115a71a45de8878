"""What becomes of an MCP server's tools: what they are called, what their hints mean, and what their calls bring."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from mcp.server.lowlevel import Server as LowLevelServer
from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import MCPError, UrlElicitationRequiredError
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    AudioContent,
    BlobResourceContents,
    CallToolRequestParams,
    CallToolResult,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    EmbeddedResource,
    ImageContent,
    InputRequest,
    InputRequiredResult,
    ListToolsResult,
    PaginatedRequestParams,
    ResourceLink,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
    ToolExecution,
)
from mcp.types import Tool as RemoteTool
from playhead import ToolFailed
from playhead.agents import Agent
from playhead.commands import AnnounceTool, AnswerQuestion
from playhead.content import Answer, File, Image, Question
from playhead.errors import Invalid, Misconfigured, Unavailable
from playhead.events import Json, QuestionAsked, ToolResult
from playhead.redaction import Redactor
from playhead.tools import Tool
from playhead_tool_workers.mcp.arguments import arguments_of
from playhead_tool_workers.mcp.hiding import hide
from playhead_tool_workers.mcp.offering import name_of
from playhead_tool_workers.mcp.servers import Offer, Server, servers_of
from pydantic import BaseModel

from tests.orchestrator.stage import Actor, Stage, answer
from tests.orchestrator.stage import use as ask_for
from tests.tool_workers.foreign import ALL, Heard, context, hosting, tool_of, use
from tests.tool_workers.workshop import Workshop, within

PIXEL = b"\x89PNG\r\n"
ENCODED = base64.b64encode(PIXEL).decode()

READ = ToolAnnotations(read_only_hint=True)


def desk() -> MCPServer:
    """A server with one tool of each sort of effect."""
    server = MCPServer("desk")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True))
    def look(number: int, note: str = "") -> dict[str, int]:
        """Look an order up."""
        return {"number": number}

    @server.tool(annotations=ToolAnnotations(idempotent_hint=True, destructive_hint=True))
    def close(number: int) -> str:
        """Close an order."""
        return "closed"

    @server.tool()
    def refund(number: int) -> str:
        """Refund an order."""
        return "refunded"

    return server


def answering(*content: Any, **more: Any) -> MCPServer:
    """A server whose only tool returns this."""
    server = MCPServer("desk")

    @server.tool(structured_output=False)
    async def ask() -> CallToolResult:
        """Return what the test says."""
        return CallToolResult(content=list(content), **more)

    return server


async def test_tools_are_named_for_their_server_and_hints_become_effects():
    async with hosting(desk(), offer=Offer(pool="shop", timeout_seconds=7)) as host:
        told = {tool.name: (tool.effect, tool.retries, tool.pool, tool.timeout_seconds) for tool in host.tools}
        look = tool_of(host, "desk__look")
    assert told == {
        "desk__look": ("read", 2, "shop", 7),
        "desk__close": ("write", 2, "shop", 7),
        "desk__refund": ("once", 0, "shop", 7),
    }
    assert look.description == "Look an order up."
    assert look.input_schema["required"] == ["number"]
    assert look.output_schema is not None
    assert look.output_schema["type"] == "object"


async def test_the_operator_says_which_tools_there_are_and_what_they_do():
    offer = Offer.parse("mcp", allow=["l*", "refund"], effects=["desk__look=once", "desk__*=write"])
    async with hosting(desk(), offer=offer) as host:
        assert [(tool.name, tool.effect) for tool in host.tools] == [("desk__look", "once"), ("desk__refund", "write")]


async def test_a_server_without_a_name_of_the_operators_has_its_own():
    async with hosting(MCPServer("Back office/2"), desk(), offer=ALL, named=False) as host:
        assert host.tools[0].name == "desk__look"
    assert name_of("Back office/2", "find.it") == "Back_office_2__find_it"


def test_a_name_that_is_too_long_stays_the_same_and_differs_from_its_neighbours():
    long, other = name_of("server", "x" * 80), name_of("server", "x" * 79 + "y")
    assert long != other
    assert len(long) == len(other) == 64
    assert long == name_of("server", "x" * 80)


async def test_two_servers_of_one_name_and_two_tools_of_one_name_are_refused_with_advice():
    with pytest.raises(Misconfigured, match=r"both named 'desk'.*--mcp NAME="):
        async with hosting(desk(), desk(), named=False):
            pass
    alike = MCPServer("desk")
    for name in ("look.up", "look/up"):
        alike.add_tool(lambda: "x", name=name, description="Look up.")
    with pytest.raises(Misconfigured, match=r"both named 'desk__look_up'.*--mcp-allow"):
        async with hosting(alike):
            pass


async def test_what_is_allowed_must_be_something():
    with pytest.raises(Misconfigured, match=r"desk.*no tool is offered that fits --mcp-allow nothing_\*"):
        async with hosting(desk(), offer=Offer.parse("mcp", allow=["nothing_*"], effects=[])):
            pass


async def test_arguments_are_checked_by_the_servers_schema_before_it_is_asked():
    async with hosting(desk()) as host:
        arguments = tool_of(host, "desk__look").arguments
        for text, advice in (
            ("[]", "object"),
            ("{", "not JSON"),
            ('{"number": "one"}', "number: 'one' is not of type 'integer'"),
            ("{}", "'number' is a required property"),
        ):
            with pytest.raises(Invalid, match=advice):
                arguments.parse(text)
        assert await use(host, "desk__look", number=3) == {"number": 3}


@pytest.mark.filterwarnings("ignore:Automatically retrieving")  # else the fetch would fail for the warning alone
def test_a_schema_reaches_for_nothing_outside_itself_and_its_patterns_are_the_servers_affair(tmp_path: Path):
    elsewhere = tmp_path / "schema.json"
    elsewhere.write_text('{"type": "string"}')
    away = arguments_of({"properties": {"a": {"$ref": elsewhere.as_uri()}}}, "x")
    assert away.parse('{"a": 1}') == {"given": {"a": 1}}
    here = arguments_of({"properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "number"}}}, "x")
    with pytest.raises(Invalid, match="a: 'x' is not of type 'number'"):
        here.parse('{"a": "x"}')
    slow = arguments_of({"properties": {"a": {"pattern": "^(a+)+$"}}}, "x")
    assert slow.parse('{"a": "' + "a" * 40 + '!"}')
    slower = arguments_of({"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}, "x")
    assert slower.parse('{"' + "a" * 40 + '!": 1}')
    around = arguments_of({"$ref": "#"}, "x")
    assert around.parse("{}") == {"given": {}}
    for broken in ({"type": "string"}, {"type": "object", "properties": 7}):
        with pytest.raises(Invalid):
            arguments_of(broken, "x")


@pytest.mark.parametrize(
    ("server", "result"),
    [
        (answering(), None),
        (answering(TextContent(text="one")), "one"),
        (answering(TextContent(text="one"), TextContent(text="two")), "one\ntwo"),
        (answering(ImageContent(data=ENCODED, mime_type="image/png")), Image(PIXEL, "image/png")),
        (answering(ImageContent(data=ENCODED, mime_type="image/tiff")), File(PIXEL, "image/tiff")),
        (answering(AudioContent(data=ENCODED, mime_type="audio/wav")), File(PIXEL, "audio/wav")),
        (
            answering(
                EmbeddedResource(
                    resource=BlobResourceContents(uri="file:///a/b.pdf", blob=ENCODED, mime_type="application/pdf")
                )
            ),
            File(PIXEL, "application/pdf", "b.pdf"),
        ),
        (answering(EmbeddedResource(resource=TextResourceContents(uri="file:///a", text="words"))), "words"),
        (
            answering(TextContent(text="see"), ResourceLink(name="b", uri="file:///b", mime_type="text/plain")),
            ["see", {"resource": {"name": "b", "uri": "file:///b", "mimeType": "text/plain"}}],
        ),
        (answering(TextContent(text="{}"), structured_content={"a": [1]}), {"a": [1]}),
        (
            answering(
                TextContent(text="x"),
                ImageContent(data=ENCODED, mime_type="image/png"),
                structured_content={"a": 1},
            ),
            [{"a": 1}, Image(PIXEL, "image/png")],
        ),
    ],
)
async def test_a_result_is_what_it_holds(server: MCPServer, result: object):
    async with hosting(server) as host:
        assert await use(host, "desk__ask") == result


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (answering(TextContent(text="no such order"), is_error=True), "no such order"),
        (answering(is_error=True), "did not say why"),
        (answering(ImageContent(data="%%%", mime_type="image/png")), "cannot be decoded"),
    ],
)
async def test_an_error_is_told_to_the_model(server: MCPServer, words: str):
    async with hosting(server) as host:
        with pytest.raises(ToolFailed, match=words):
            await use(host, "desk__ask")


def listing(*tools: RemoteTool, page: int = 100) -> LowLevelServer[Any]:
    """A server that lists these, so many a page, and returns a number that is none."""

    async def list_tools(ctx: object, params: PaginatedRequestParams | None) -> ListToolsResult:
        at = int(params.cursor) if params is not None and params.cursor else 0
        more = str(at + page) if at + page < len(tools) else None
        return ListToolsResult(tools=list(tools[at : at + page]), next_cursor=more)

    async def call_tool(ctx: object, params: CallToolRequestParams) -> CallToolResult:
        return CallToolResult(content=[], structured_content={"number": "many"})

    return LowLevelServer("desk", on_list_tools=list_tools, on_call_tool=call_tool)


def remote(name: str, **more: Any) -> RemoteTool:
    return RemoteTool(name=name, input_schema={"type": "object"}, **more)


async def test_a_result_that_breaks_the_servers_own_schema_fails_without_another_try():
    schema = {"type": "object", "properties": {"number": {"type": "integer"}}}
    async with hosting(listing(remote("ask", output_schema=schema))) as host:
        with pytest.raises(ToolFailed, match="what it should not"):
            await use(host, "desk__ask")


async def test_all_pages_of_a_listing_are_read_up_to_a_limit():
    tools = [remote(f"t{number}") for number in range(300)]
    async with hosting(listing(*tools[:7], page=2)) as host:
        assert len(host.tools) == 7
    for page in (2, 100):
        with pytest.raises(Misconfigured, match="lists more than 256 tools on 50 pages"):
            async with hosting(listing(*tools, page=page)):
                pass


async def test_tools_that_cannot_be_offered_are_left_out_alone():
    large: dict[str, Any] = {"type": "object", "description": "x" * 70_000}
    broken = {"type": "object", "properties": {"a": {"type": "nonsense"}}}
    tools = (
        remote("task", execution=ToolExecution(task_support="required")),
        RemoteTool(name="large", input_schema=large),
        RemoteTool(name="broken", input_schema=broken),
        remote("fine", description="y" * 9_000),
    )
    async with hosting(listing(*tools), old=True) as host:
        assert [(tool.name, len(tool.description)) for tool in host.tools] == [("desk__fine", 4_000)]


@pytest.mark.parametrize(("code", "raised"), [(INTERNAL_ERROR, Unavailable), (INVALID_PARAMS, ToolFailed)])
async def test_an_error_of_the_protocol_may_be_tried_again_unless_that_cannot_help(code: int, raised: type[Exception]):
    server = MCPServer("desk")

    @server.tool()
    async def ask() -> str:
        """Fail."""
        raise MCPError(code, "out of order")

    async with hosting(server) as host:
        with pytest.raises(raised, match="out of order"):
            await use(host, "desk__ask")


async def test_progress_goes_on_to_the_caller_and_the_server_learns_whose_call_it_is():
    server, heard = MCPServer("desk"), Heard()

    @server.tool()
    async def ask(ctx: Context) -> dict[str, Any]:
        """Say how far it is."""
        await ctx.report_progress(1, 2, "half")
        await ctx.report_progress(2, 2)
        return {name: value for name, value in (ctx.request_context.meta or {}).items() if "playhead" in name}

    async with hosting(server) as host:
        told = await use(host, "desk__ask", heard=heard)
        assert await within(heard.said.get()) == (1, 2, "half")
        assert await within(heard.said.get()) == (2, 2, None)
    mine = context()
    assert told == {
        "playhead/session": mine.session_id,
        "playhead/call": mine.call_id,
        "playhead/idempotency-key": "key-1",
    }


async def test_cancelling_a_call_cancels_it_at_the_server():
    server = MCPServer("desk")
    began, stopped = asyncio.Event(), asyncio.Event()

    @server.tool()
    async def ask() -> str:
        """Never end."""
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return ""

    async with hosting(server) as host, asyncio.TaskGroup() as group:
        calling = group.create_task(use(host, "desk__ask"))
        await within(began.wait())
        calling.cancel()
        await within(stopped.wait())


def form(message: str = "Which size?", **properties: Any) -> ElicitRequest:
    schema = {"type": "object", "properties": properties or {"size": {"type": "string"}}}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def visit() -> ElicitRequest:
    return ElicitRequest(params=ElicitRequestURLParams(message="Sign in", url="https://example.com/in"))


def asking(hints: ToolAnnotations | None = None, /, **requests: InputRequest) -> MCPServer:
    """A server whose tool asks this once, and then says what it was answered."""
    server = MCPServer("desk")

    @server.tool(annotations=hints)
    async def ask(ctx: Context) -> dict[str, Any] | InputRequiredResult:
        """Ask before going on."""
        if ctx.input_responses is None and ctx.request_state is None:
            return InputRequiredResult(input_requests=dict(requests) or None, request_state="page 7")
        given = {}
        for key, response in (ctx.input_responses or {}).items():
            assert isinstance(response, ElicitResult)
            given[key] = [response.action, response.content]
        return {"state": ctx.request_state, "given": given}

    return server


@pytest.mark.parametrize(
    ("content", "given"),
    [
        ({"size": "L"}, ["accept", {"size": "L"}]),
        ("L", ["accept", {"size": "L"}]),
        ("42", ["accept", {"size": "42"}]),
        ('{"size": "S"}', ["accept", {"size": "S"}]),
        (None, ["decline", None]),
        (False, ["decline", None]),
    ],
)
async def test_what_a_server_requires_is_a_question_and_the_answer_goes_back_with_its_state(
    content: object, given: list[object]
):
    async with hosting(asking(a=form())) as host:
        question = await use(host, "desk__ask")
        assert isinstance(question, Question)
        assert question.content == "Which size?"
        assert question.schema == {"type": "object", "properties": {"size": {"type": "string"}}}
        told = await use(host, "desk__ask", answer=Answer(content, question.state))
    assert told == {"state": "page 7", "given": {"a": given}}


async def test_several_things_are_asked_at_once_a_page_to_visit_among_them():
    async with hosting(asking(a=form(), b=visit(), c=form("How many?", n={"type": "integer"}))) as host:
        question = await use(host, "desk__ask")
        assert isinstance(question, Question)
        assert question.content == "Which size?\n\nSign in\nhttps://example.com/in\n\nHow many?"
        assert question.schema is not None
        assert question.schema["required"] == ["a", "b", "c"]
        content = {"a": {"size": "L"}, "b": True, "c": "3"}
        told = await use(host, "desk__ask", answer=Answer(content, question.state))
    expected = {"a": ["accept", {"size": "L"}], "b": ["accept", None], "c": ["accept", {"n": 3}]}
    assert told == {"state": "page 7", "given": expected}


async def test_a_page_that_the_user_does_not_visit_is_declined():
    async with hosting(asking(a=visit())) as host:
        question = await use(host, "desk__ask")
        assert isinstance(question, Question)
        assert question.schema is not None
        assert question.schema["type"] == "boolean"
        told = await use(host, "desk__ask", answer=Answer(False, question.state))
    assert told == {"state": "page 7", "given": {"a": ["decline", None]}}


async def test_a_server_that_only_wants_to_be_called_again_is():
    async with hosting(asking()) as host:
        assert await use(host, "desk__ask") == {"state": "page 7", "given": {}}


async def test_a_server_that_asks_for_a_model_is_told_no():
    sample = CreateMessageRequest(params=CreateMessageRequestParams(messages=[], max_tokens=5))
    async with hosting(asking(a=sample)) as host:
        with pytest.raises((ToolFailed, Unavailable), match="sampling"):
            await use(host, "desk__ask")


class Size(BaseModel):
    size: str


async def test_an_older_server_that_asks_while_a_call_runs_is_refused_with_the_reason():
    server = MCPServer("desk")

    @server.tool()
    async def ask(ctx: Context) -> str:
        """Ask in the middle."""
        return str(await ctx.elicit("Which size?", Size))

    async with hosting(server, old=True) as host:
        with pytest.raises((ToolFailed, Unavailable), match="asks users between calls"):
            await use(host, "desk__ask")


async def test_an_older_server_that_sends_the_user_to_a_page_first_is_called_again_after_that():
    server, visits = MCPServer("desk"), [0]

    @server.tool()
    async def ask() -> str:
        """Need a sign-in."""
        visits[0] += 1
        if visits[0] == 1:
            asked = ElicitRequestURLParams(message="Sign in", url="https://example.com/in", elicitation_id="e1")
            raise UrlElicitationRequiredError([asked])
        return "signed in"

    async with hosting(server, old=True) as host:
        question = await use(host, "desk__ask")
        assert isinstance(question, Question)
        assert question.content == "Sign in\nhttps://example.com/in"
        with pytest.raises(ToolFailed, match="declined"):
            await use(host, "desk__ask", answer=Answer(False, question.state))
        assert await use(host, "desk__ask", answer=Answer(True, question.state)) == {"result": "signed in"}


@pytest.mark.parametrize("old", [False, True])
async def test_a_changed_list_of_tools_is_told_and_what_did_not_change_is_the_same(old: bool):
    server = MCPServer("desk")

    def added() -> str:
        """Was added."""
        return "new"

    @server.tool()
    async def change(ctx: Context) -> str:
        """Add one tool and remove another."""
        server.add_tool(added)
        server.remove_tool("going")
        await (ctx.session.send_tool_list_changed() if old else ctx.notify_tools_changed())
        return "changed"

    @server.tool()
    def going() -> str:
        """Goes."""
        return ""

    told: asyncio.Queue[list[Tool[..., object]]] = asyncio.Queue()

    async def on_change(tools: Any) -> None:
        await told.put(list(tools))

    stop = asyncio.Event()
    async with hosting(server, old=old) as host, asyncio.TaskGroup() as group:
        watching = group.create_task(host.serve(stop, on_change))
        before = tool_of(host, "desk__change")
        assert [tool.name for tool in host.tools] == ["desk__change", "desk__going"]
        await use(host, "desk__change")
        tools = await within(told.get())
        assert [tool.name for tool in tools] == ["desk__change", "desk__added"]
        assert tools[0] is before
        assert await use(host, "desk__added") == {"result": "new"}
        stop.set()
        await within(watching)


async def test_a_tool_that_went_without_a_word_is_missed_when_it_is_called():
    there = [remote("stays"), remote("goes")]

    async def list_tools(ctx: object, params: object) -> ListToolsResult:
        return ListToolsResult(tools=there)

    async def call_tool(ctx: object, params: CallToolRequestParams) -> CallToolResult:
        raise MCPError(INVALID_PARAMS, f"there is no tool {params.name}")

    told: asyncio.Queue[list[str]] = asyncio.Queue()

    async def on_change(tools: Any) -> None:
        await told.put([tool.name for tool in tools])

    stop = asyncio.Event()
    silent = LowLevelServer[Any]("desk", on_list_tools=list_tools, on_call_tool=call_tool)
    async with hosting(silent) as host, asyncio.TaskGroup() as group:
        group.create_task(host.serve(stop, on_change))
        there.pop()
        with pytest.raises(ToolFailed, match="there is no tool goes"):
            await use(host, "desk__goes")
        assert await within(told.get()) == ["desk__stays"]
        stop.set()


async def test_a_worker_announces_what_was_added_and_withdraws_what_is_gone():
    server, shop, stop = MCPServer("desk"), Workshop(), asyncio.Event()

    @server.tool(annotations=READ)
    async def change(ctx: Context) -> str:
        """Replace one tool by another."""
        server.add_tool(lambda: "new", name="added", description="Was added.", annotations=READ)
        server.remove_tool("going")
        await ctx.notify_tools_changed()
        return "changed"

    @server.tool()
    def going() -> str:
        """Goes."""
        return ""

    async with hosting(server) as host, shop.worker(*host.tools) as worker, asyncio.TaskGroup() as group:
        group.create_task(host.serve(stop, worker.offer))
        assert (await shop.run("desk__change")).status == "ok"
        told = await shop.read(shop.topics.catalog.name, lambda seen: len(seen) == 4)
        announced = [(one.name, one.withdrawn) for one in told if isinstance(one, AnnounceTool)]
        assert announced[2:] == [("desk__added", False), ("desk__going", True)]
        assert json.loads((await shop.run("desk__added")).output) == "new"
        stop.set()


@pytest.mark.parametrize("hints", [READ, ToolAnnotations(idempotent_hint=True)], ids=["read", "write"])
async def test_a_session_asks_its_user_what_a_server_requires(hints: ToolAnnotations):
    actor = Actor([ask_for(("desk__ask", {})), answer("It is an L.")])
    stage = Stage(actor, [Agent("tailor", model="stage:one", tools=["desk__ask"], default=True)])
    shop = Workshop(stage.queue)
    shop.topics = stage.topics
    async with hosting(asking(hints, a=form())) as host, shop.worker(*host.tools), stage.orchestrator():
        session = await stage.start("Which size?")
        seen = await stage.until(session, "question_asked")
        question = seen[-1].event
        assert isinstance(question, QuestionAsked)
        assert json.loads(question.content) == "Which size?"
        await stage.ask(AnswerQuestion("answer-1", session, question.question_id, Json('{"size": "L"}'), "user"))
        seen = await stage.until(session, "question_answered", "tool_result", "run_completed")
    (result,) = [each.event for each in seen if isinstance(each.event, ToolResult)]
    assert result.status == "ok"
    assert json.loads(result.output) == {"state": "page 7", "given": {"a": ["accept", {"size": "L"}]}}


SAID = {"TOKEN": "token-0123456789", "OTHER": "another secret"}


def read(*specs: str, variables: tuple[str, ...] = (), headers: tuple[str, ...] = ()) -> tuple[Server, ...]:
    return servers_of(specs, variables=variables, headers=headers, environment=SAID)


def test_a_server_is_a_command_or_a_url_and_secrets_are_references():
    files, web = read(
        "files=npx -y 'some server' /data",
        "web=https://example.com/mcp?key=1",
        variables=("files.API_KEY=env:TOKEN",),
        headers=("web=env:TOKEN",),
    )
    assert files == Server("files", ("npx", "-y", "some server", "/data"), environment={"API_KEY": SAID["TOKEN"]})
    assert (web.url, web.authorization) == ("https://example.com/mcp?key=1", f"Bearer {SAID['TOKEN']}")
    assert (files.label, web.label) == ("MCP server files (`npx …`)", "MCP server web (https://example.com)")
    assert SAID["TOKEN"] not in repr(files) + repr(web)
    (alone,) = read("server --flag=x", variables=("A=env:OTHER",))
    assert (alone.name, alone.environment) == (None, {"A": "another secret"})


@pytest.mark.parametrize(
    ("specs", "variables", "headers", "advice"),
    [
        (("",), (), (), "a command or a URL"),
        (("a 'b",), (), (), "not a command line"),
        (("https://",), (), (), "names no host"),
        (("https://me:pw@example.com",), (), (), "no password"),
        (("x=a", "x=b"), (), (), "two MCP servers are named 'x'"),
        (("x=a", "y=b"), ("K=env:TOKEN",), (), "say which"),
        (("x=a",), ("z.K=env:TOKEN",), (), "no --mcp is named 'z'"),
        (("x=a",), ("K=token-0123456789",), (), "reads like env:NAME"),
        (("x=a",), ("K=env:NONE",), (), "NONE is not set"),
        (("x=a",), ("K=file:/nowhere/at/all",), (), "cannot be read"),
        (("x=a",), (), ("env:TOKEN",), "--mcp-auth is for URLs"),
        (("https://example.com",), ("K=env:TOKEN",), (), "--mcp-env is for commands"),
        (("http://example.com",), (), ("env:TOKEN",), "unencrypted"),
        (("https://example.com",), (), ("token-0123456789",), "env:VARIABLE"),
    ],
)
def test_what_cannot_be_is_refused_with_advice_and_without_the_secret(
    specs: tuple[str, ...], variables: tuple[str, ...], headers: tuple[str, ...], advice: str
):
    with pytest.raises(Misconfigured, match=advice) as refused:
        read(*specs, variables=variables, headers=headers)
    assert SAID["TOKEN"] not in str(refused.value)


@pytest.mark.parametrize("text", ["x", "=read", "x=maybe"])
def test_an_effect_that_is_none_is_refused(text: str):
    with pytest.raises(Misconfigured, match="--mcp-effect"):
        Offer.parse("mcp", allow=[], effects=[text])


def test_secrets_are_hidden_wherever_they_are_in_a_value():
    value = {"a token-0123456789": ["xtoken-0123456789x", 1, None]}
    redactor = Redactor()
    redactor.register({"T": "token-0123456789"})
    assert hide(value, redactor.redact) == {"a [secret T]": ["x[secret T]x", 1, None]}
