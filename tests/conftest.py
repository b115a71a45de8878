"""What every test may ask for."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import pytest

from tests.support.broker import Broker, NoBroker


class OneBroker:
    """With `-n`, the run has one broker for all its processes, instead of one for each."""

    def __init__(self) -> None:
        self._broker: Broker | None = None
        self._tried = False

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a process of the run where the broker is. If there is none, each finds that out, and says why."""
        if not self._tried:
            self._tried, broker = True, Broker()
            with suppress(NoBroker):
                broker.start()
                self._broker = broker
        node.workerinput["kafka"] = self._broker.bootstrap if self._broker is not None else ""

    def pytest_unconfigure(self) -> None:
        """End the broker after all processes have ended."""
        if self._broker is not None:
            self._broker.close()


def pytest_configure(config: pytest.Config) -> None:
    """Find out which of the processes of a run this is."""
    worker: dict[str, str] | None = getattr(config, "workerinput", None)
    if worker is None:
        config.pluginmanager.register(OneBroker())
    elif worker["kafka"]:
        os.environ["PLAYHEAD_TEST_KAFKA"] = worker["kafka"]


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
