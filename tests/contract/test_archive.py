"""The archive's clauses, by number, over every adapter (see `playhead.archive`)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playhead.adapters.archive import FolderArchive, MemoryArchive
from playhead.archive import Archive
from playhead.errors import Invalid, Misconfigured, NotArchived, TooLarge
from playhead.testing import named_session

ONE, OTHER = named_session("one"), named_session("other")


@pytest.fixture(params=["memory", "folder"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    return MemoryArchive() if request.param == "memory" else FolderArchive(tmp_path / "archive")


async def test_a1_what_is_put_is_there(archive: Archive):
    await archive.put(ONE, "thing", b"\x00\xff content")
    assert await archive.get(ONE, "thing", 100) == b"\x00\xff content"


async def test_a1_what_is_put_is_there_for_the_next_process(tmp_path: Path):
    await FolderArchive(tmp_path).put(ONE, "thing", b"content")
    assert await FolderArchive(tmp_path).get(ONE, "thing", 100) == b"content"


async def test_a2_putting_the_same_many_times_at_once_changes_nothing(archive: Archive):
    data = b"x" * 100_000
    await asyncio.gather(*(archive.put(ONE, "thing", data) for _ in range(20)))
    assert await archive.get(ONE, "thing", 200_000) == data


async def test_a2_no_part_of_a_thing_is_left_behind(tmp_path: Path):
    await asyncio.gather(*(FolderArchive(tmp_path).put(ONE, "thing", b"x") for _ in range(20)))
    assert [path.name for path in (tmp_path / ONE).iterdir()] == ["thing"]


async def test_a3_a_thing_of_one_session_is_not_found_under_another(archive: Archive):
    await archive.put(ONE, "thing", b"content")
    with pytest.raises(NotArchived):
        await archive.get(OTHER, "thing", 100)


async def test_what_is_too_large_to_be_read_is_refused_with_the_limit(archive: Archive):
    await archive.put(ONE, "thing", b"12345")
    assert await archive.get(ONE, "thing", 5) == b"12345"
    with pytest.raises(TooLarge, match="more than 4 bytes"):
        await archive.get(ONE, "thing", 4)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\x00b", "é", "x" * 129])
async def test_a_name_that_could_lead_elsewhere_is_refused(archive: Archive, name: str):
    with pytest.raises(Invalid):
        await archive.put(ONE, name, b"")
    with pytest.raises(Invalid):
        await archive.get(ONE, name, 1)


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="cannot be made"):
        FolderArchive(tmp_path / "file" / "archive")
