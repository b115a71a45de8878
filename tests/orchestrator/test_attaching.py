"""What tools returned that a log cannot hold is put before the model all the same, or told in words."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from typing import Any

import pytest
from playhead import Agent, tool
from playhead.adapters.archive import MemoryArchive
from playhead.errors import Unavailable
from playhead.events import ModelCallFailed
from playhead.ids import SessionId
from playhead.testing import named_session
from playhead_orchestrator.adapters import claude_wire, openai_wire
from playhead_orchestrator.attaching import ATTACHED_BYTES_MAX, IMAGE_BYTES_MAX, attached
from playhead_orchestrator.model import ModelRequest
from playhead_orchestrator.parts import OrchestratorParts

from tests.orchestrator.stage import Actor, Stage, answer, only, use

SESSION = named_session("attached")
PNG = b"\x89PNG"


def asked(content: Any) -> list[dict[str, Any]]:
    use: dict[str, Any] = {"type": "tool_use", "id": "call_1", "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": content, "is_error": False}
    return [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]


async def told(content: Any, archive: MemoryArchive | None = None) -> Any:
    messages = await attached(asked(content), SESSION, archive)
    assert messages[0] == asked(content)[0]
    return messages[1]["content"][0]["content"]


def archived(name: str, kind: str = "image", media_type: str = "image/png") -> dict[str, Any]:
    return {"type": kind, "source": {"type": "archive", "name": name, "media_type": media_type, "bytes": 4}}


def inline(data: bytes, kind: str = "image", media_type: str = "image/png") -> dict[str, Any]:
    source = {"type": "base64", "media_type": media_type, "data": b64encode(data).decode()}
    return {"type": kind, "source": source}


async def test_a_picture_in_the_archive_is_put_in_its_place():
    archive = MemoryArchive()
    await archive.put(SESSION, "abc", PNG)
    assert await told([{"type": "text", "text": "see"}, archived("abc")], archive) == [
        {"type": "text", "text": "see"},
        inline(PNG),
    ]


async def test_what_is_not_in_the_archive_is_named_in_words():
    for archive in (None, MemoryArchive()):
        (block,) = await told([archived("abc")], archive)
        assert block == {"type": "text", "text": "[image of type image/png: it cannot be shown here]"}


async def test_no_more_than_the_limit_is_fetched_for_one_call_of_the_model():
    archive = MemoryArchive()
    await archive.put(SESSION, "large", b"%PDF".ljust(ATTACHED_BYTES_MAX - 2))
    await archive.put(SESSION, "small", PNG)
    large = archived("large", "document", "application/pdf")
    first, second = await told([large, archived("small")], archive)
    assert first["type"] == "document"
    assert second == {"type": "text", "text": "[image of type image/png: it cannot be shown here]"}
    older, newer = await attached([*asked([large]), *asked([archived("small")])][1::2], SESSION, archive)
    assert older["content"][0]["content"][0]["type"] == "text"
    assert newer["content"][0]["content"][0]["type"] == "image"


async def test_a_picture_that_the_provider_would_refuse_for_its_size_is_only_named():
    archive = MemoryArchive()
    await archive.put(SESSION, "large", PNG.ljust(IMAGE_BYTES_MAX + 1))
    await archive.put(SESSION, "small", PNG.ljust(IMAGE_BYTES_MAX))
    first, second = await told([archived("large"), archived("small")], archive)
    assert (first["type"], second["type"]) == ("text", "image")


@pytest.mark.parametrize(
    "block",
    [
        archived("../../x"),
        archived("x" * 200),
        archived("abc", media_type="image/tiff"),
        inline(b"", "image"),
        inline(b"x", "image", "text/html"),
        *(
            {"type": kind, "source": {"type": "base64", "media_type": media_type, "data": data}}
            for data in ("x", "é", "aGk=!", None, 3)
            for kind, media_type in (("image", "image/png"), ("document", "text/plain"), ("document", "x" * 9_000))
        ),
    ],
)
async def test_json_that_only_looks_like_a_picture_or_a_file_is_told_in_words(block: dict[str, Any]):
    """It is in the log for ever: one that breaks a model call would break every later one."""
    archive = MemoryArchive()
    await archive.put(SESSION, "abc", PNG)
    (shown,) = await told([block], archive)
    assert shown.keys() == {"type", "text"} and shown["text"].startswith(f"[{block['type']} of type")
    assert len(shown["text"]) < 300


async def test_a_text_file_is_told_as_text_and_a_file_of_an_unknown_type_by_its_name():
    text, table = inline("é".encode(), "document", "text/csv"), inline(b"PK", "document", "application/zip")
    assert await told([text, {**table, "title": "all.zip"}]) == [
        {"type": "text", "text": "é"},
        {"type": "text", "text": "[document all.zip of type application/zip: a file that you cannot read]"},
    ]


async def test_of_a_cut_output_the_beginning_is_shown_and_that_it_is_cut():
    reference = {"type": "reference", "name": "abc", "bytes": 300_000, "preview": '["a", "b'}
    assert await told(reference) == (
        '["a", "b\n[Only the beginning is shown. The whole output has 300000 bytes and is kept for people.]'
    )


async def test_everything_else_stays_as_it_is():
    for content in ("text", 3, None, {"deg": 3}, [1, {"type": "image"}], []):
        assert await told(content) == content


async def test_claude_is_given_pictures_and_documents_as_parts_of_the_result():
    pdf = inline(b"%PDF", "document", "application/pdf")
    body = claude_wire.body_of(ModelRequest("m", "", await attached(asked([inline(PNG), pdf]), SESSION, None)))
    (result,) = body["messages"][1]["content"]
    assert [block["type"] for block in result["content"]] == ["image", "document"]


async def test_openai_is_given_pictures_and_documents_by_the_user_after_all_results():
    pdf = inline(b"%PDF", "document", "application/pdf")
    content = [{"type": "text", "text": "see"}, inline(PNG), pdf]
    body = openai_wire.body_of(ModelRequest("m", "", await attached(asked(content), SESSION, None)), "max_tokens")
    tool, user = body["messages"][-2:]
    assert tool == {"role": "tool", "tool_call_id": "call_1", "content": "see\n\n[shown below]\n\n[shown below]"}
    assert user["role"] == "user"
    assert [part["type"] for part in user["content"]] == ["text", "image_url", "file"]
    assert user["content"][1]["image_url"]["url"] == f"data:image/png;base64,{b64encode(PNG).decode()}"


async def test_claude_is_given_as_blocks_only_what_it_takes():
    async def given(content: Any) -> Any:
        body = claude_wire.body_of(ModelRequest("m", "", await attached(asked(content), SESSION, None)))
        return body["messages"][1]["content"][0]["content"]

    assert await given([{"type": "text", "text": " "}, inline(PNG)]) == [inline(PNG)]
    others: tuple[list[dict[str, Any]], ...] = (
        [{"type": "text", "text": 3}],
        [{"type": "text", "text": "x", "annotations": {}}],
        [{"type": ["text"]}],
        [{"type": "image", "source": {"type": "else"}}],
        [{"type": "image", "source": "x"}],
    )
    for other in others:
        assert isinstance(await given(other), str)


class Flaky(MemoryArchive):
    """Cannot be reached at first."""

    async def get(self, session: SessionId, name: str, bytes_max: int) -> bytes:
        if not self.asked:
            self.asked = True
            raise Unavailable("the disk is away")
        return await super().get(session, name, bytes_max)

    asked = False


@tool
async def look() -> str:
    """Look."""
    return ""


class ArchivingStage(Stage):
    archive = Flaky()

    def parts(self, owner: str) -> OrchestratorParts:
        return replace(super().parts(owner), archive=self.archive)


async def test_a_model_call_waits_for_an_archive_that_cannot_be_reached_and_is_then_given_the_picture():
    """protocol:P17"""
    actor = Actor([use(("look", {})), answer("I see")])
    stage = ArchivingStage(actor, [Agent("helper", model="stage:one", tools=[look])])
    async with stage.orchestrator():
        session = await stage.start("look")
        await stage.archive.put(session, "abc", PNG)
        (call,) = await stage.dispatched(1)
        await stage.result(call, output=json.dumps([archived("abc")]))
        events = await stage.until(session, "run_completed")
    (failed,) = only(events, ModelCallFailed)
    assert isinstance(failed.event, ModelCallFailed)
    assert failed.event.error.code == "archive_unavailable" and "the disk is away" in failed.event.error.message
    assert actor.asked[-1].messages[-1]["content"][0]["content"] == [inline(PNG)]


async def test_openai_is_shown_only_what_it_takes_and_told_the_rest_as_json():
    async def given(content: Any) -> list[dict[str, Any]]:
        return openai_wire.body_of(ModelRequest("m", "", await attached(asked(content), SESSION, None)), "n")[
            "messages"
        ]

    address: dict[str, Any] = {"type": "url", "url": "https://example.com/x"}
    others: tuple[list[Any], ...] = (
        [1, inline(PNG)],
        [inline(PNG), {"deg": 3}],
        [{"type": "document", "source": address}],
        [{"type": "image", "source": {"type": "else"}}],
    )
    for other in others:
        (_, tool_message) = await given(other)
        assert json.loads(tool_message["content"]) == other
    (*_, user) = await given([{"type": "image", "source": address}])
    assert user["content"][1] == {"type": "image_url", "image_url": {"url": "https://example.com/x"}}


async def test_bytes_that_are_no_picture_are_only_named():
    # A provider would refuse them, and with them every later call of the session.
    (block,) = await told([inline(b"this is no PNG")])
    assert block["type"] == "text" and "cannot read" in block["text"]
    (block,) = await told([inline(b"this is no PDF", "document", "application/pdf")])
    assert block["type"] == "text" and "cannot read" in block["text"]
