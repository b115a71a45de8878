"""What tools return becomes JSON, content blocks, or a reference to the archive."""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha256
from typing import Any

import pytest
from playhead.adapters.archive import MemoryArchive
from playhead.archive import Archive
from playhead.content import File, Image
from playhead.errors import Misconfigured, Unavailable
from playhead.ids import SessionId
from playhead.redaction import Redactor
from playhead.testing import named_session
from playhead_tool_workers.limits import WorkerLimits
from playhead_tool_workers.outcome import Failed, Returned
from playhead_tool_workers.output import PREVIEW_CHARS_MAX, Output

SESSION = named_session("output")
LIMITS = WorkerLimits(result_bytes_max=5_000, block_bytes_max=100, archived_bytes_max=50_000)


def output(archive: Archive | None = None, redactor: Redactor | None = None) -> Output:
    return Output(SESSION, archive, (redactor or Redactor()).redact, LIMITS)


async def kept(value: object, archive: Archive | None = None) -> Any:
    came = await output(archive).keep(value)
    assert isinstance(came, Returned), came
    return json.loads(came.output)


async def failed(value: object, archive: Archive | None = None) -> Failed:
    came = await output(archive).keep(value)
    assert isinstance(came, Failed)
    return came


def block(kind: str, media_type: str, data: bytes) -> dict[str, Any]:
    source = {"type": "base64", "media_type": media_type, "data": b64encode(data).decode()}
    return {"type": kind, "source": source}


@pytest.mark.parametrize("value", ["text", 3, None, {"a": [1]}, [1, "two"], ["one", "two"], []])
async def test_plain_values_stay_plain(value: object):
    assert await kept(value) == value


async def test_a_picture_or_a_file_alone_is_a_list_of_one_block():
    assert await kept(Image(b"png")) == [block("image", "image/png", b"png")]
    assert await kept(File(b"pdf", name="a.pdf")) == [
        {**block("document", "application/pdf", b"pdf"), "title": "a.pdf"}
    ]


async def test_texts_and_values_beside_a_picture_are_blocks_of_text():
    assert await kept(["see", Image(b"png"), {"deg": 3}]) == [
        {"type": "text", "text": "see"},
        block("image", "image/png", b"png"),
        {"type": "text", "text": '{"deg":3}'},
    ]


async def test_a_large_picture_goes_to_the_archive_and_a_small_one_stays():
    archive = MemoryArchive()
    large = b"x" * 101
    small_block, large_block = await kept([Image(b"x" * 100), Image(large)], archive)
    assert small_block["source"]["type"] == "base64"
    name = sha256(large).hexdigest()
    assert large_block["source"] == {"type": "archive", "media_type": "image/png", "name": name, "bytes": 101}
    assert await archive.get(SESSION, name, 1000) == large


async def test_a_large_output_goes_to_the_archive_whole_and_its_reference_shows_the_beginning():
    archive = MemoryArchive()
    value = {"rows": ["é" * 10] * 1_000}
    reference = await kept(value, archive)
    assert reference["type"] == "reference" and reference["media_type"] == "application/json"
    content = await archive.get(SESSION, reference["name"], 100_000)
    assert json.loads(content) == value and len(content) == reference["bytes"]
    assert sha256(content).hexdigest() == reference["name"]
    assert len(reference["preview"]) == PREVIEW_CHARS_MAX and content.decode().startswith(reference["preview"])


async def test_without_an_archive_a_large_output_is_an_error_with_the_limit():
    came = await failed("x" * 5_000)
    assert came.kind == "ResultTooLarge" and "at most 5000" in came.message and not came.retryable


async def test_what_is_too_large_for_the_archive_too_is_an_error():
    came = await failed("x" * 60_000, MemoryArchive())
    assert came.kind == "ResultTooLarge" and "at most 50000" in came.message


async def test_secrets_are_cut_out_before_anything_is_archived():
    archive, redactor = MemoryArchive(), Redactor()
    redactor.register({"KEY": "hunter2-hunter2"})
    came = await output(archive, redactor).keep(["x" * 6_000, "hunter2-hunter2"])
    assert isinstance(came, Returned)
    content = await archive.get(SESSION, json.loads(came.output)["name"], 100_000)
    assert b"hunter2" not in content and b"[secret KEY]" in content


class Broken:
    async def put(self, session: SessionId, name: str, data: bytes) -> None:
        raise Unavailable("the disk is full")

    async def get(self, session: SessionId, name: str, bytes_max: int) -> bytes:
        raise Misconfigured("never read here")


@pytest.mark.parametrize("value", ["x" * 6_000, [Image(b"x" * 200)]])
async def test_an_archive_that_cannot_be_reached_fails_the_try_and_it_is_worth_another(value: object):
    came = await failed(value, Broken())
    assert came.kind == "OutputNotKept" and came.retryable and "the disk is full" in came.message


async def test_pictures_that_are_small_but_many_go_to_the_archive_where_an_event_has_no_more_room():
    archive = MemoryArchive()
    blocks = await kept([Image(bytes([number]) * 100) for number in range(20)], archive)
    kinds = [block["source"]["type"] for block in blocks]
    assert kinds == ["base64"] * kinds.count("base64") + ["archive"] * kinds.count("archive")
    assert 0 < kinds.count("base64") * len(b64encode(b"x" * 100)) <= LIMITS.result_bytes_max // 2


@pytest.mark.parametrize("item", [Image(b"x" * 50_001), File(b"x" * 50_001)])
async def test_a_picture_or_a_file_that_is_too_large_for_the_archive_is_an_error(item: Image | File):
    came = await failed(["see", item], MemoryArchive())
    assert came.kind == "ResultTooLarge" and "50001 bytes" in came.message and "at most 50000" in came.message
