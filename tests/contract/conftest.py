"""The contract's fixtures: one store for each adapter."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import cast

import pytest
from playhead.codec import Codec

from tests.contract.stores import STORES, Client, Store, kafka_store, memory_store, sqlite_store


@pytest.fixture(params=[*STORES, pytest.param("kafka-lanes", marks=pytest.mark.kafka)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Store, None]:
    match cast("str", request.param):
        case "memory":
            opened = memory_store()
        case "sqlite":
            opened = sqlite_store(tmp_path, slow_commit_seconds=60)
        case "sqlite-slow-disk":
            opened = sqlite_store(tmp_path, slow_commit_seconds=-1)
        case name:
            lanes = 2 if name == "kafka-lanes" else 0
            opened = kafka_store(cast("str", request.getfixturevalue("kafka_bootstrap")), lanes=lanes)
    yield opened
    await opened.close()


@pytest.fixture
async def client(store: Store) -> Client:
    return await store.client()


@pytest.fixture(scope="session")
def codec() -> Codec:
    return Codec()
