"""What every test may ask for."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from tests.support.broker import Broker, NoBroker


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def kafka_bootstrap() -> Generator[str, None, None]:
    """The address of a real broker, shared by all tests of a run. With none to be had, those tests are skipped."""
    broker = Broker()
    try:
        broker.start()
    except NoBroker as reason:
        if os.environ.get("PLAYHEAD_REQUIRE_KAFKA") == "1":
            pytest.fail(f"PLAYHEAD_REQUIRE_KAFKA=1, and there is no Kafka: {reason}")
        pytest.skip(f"no Kafka: {reason}")
    try:
        yield broker.bootstrap
    finally:
        broker.close()
