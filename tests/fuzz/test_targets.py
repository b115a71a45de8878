"""A slice of the fuzzing, the same on every run: all that once broke something, and a second's worth of chance each.

`python -m tests.fuzz.run --seconds 60` runs every target for longer; PLAYHEAD_FUZZ_SECONDS makes this test do so.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Generator
from itertools import islice
from random import Random

import pytest
import structlog

from tests.clients.support import give_up
from tests.fuzz.surfaces import TARGETS
from tests.fuzz.target import Target, bounded, regressions

SECONDS = float(os.environ.get("PLAYHEAD_FUZZ_SECONDS", "0"))
SEED = int(os.environ.get("PLAYHEAD_FUZZ_SEED", "1"))


@pytest.fixture(autouse=True)
def quiet() -> Generator[None, None, None]:
    """Log nothing: what is refused here is refused very often."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)
    structlog.configure(**before)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_whatever_strangers_send_the_answer_is_one_that_is_documented(target: Target):
    if target.name == "javascript-client" and shutil.which("node") is None:
        give_up("node is not installed: playhead.js is not tried")
    known = len([*target.seeds(), *regressions(target.name)])
    count = known + target.executions
    ends_at = time.monotonic() + SECONDS
    with bounded(target) as run:
        inputs = target.inputs(Random(f"{SEED} {target.name}"))
        for data in islice(inputs, count):
            run(data)
        while time.monotonic() < ends_at:
            run(next(inputs))
