"""Fixtures of the gateway's tests."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx2
import pytest

from tests.gateway.support import World, a_world, client_of


@pytest.fixture
async def world() -> World:
    return await a_world()


@pytest.fixture
async def client(world: World) -> AsyncGenerator[httpx2.AsyncClient, None]:
    async with client_of(world.parts()) as talking:
        yield talking
