"""The stopwatch for starts, held against a start that is known."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.starting import seconds_until
from bench.systems import NotStarted

LATE = "import time; print('hello'); time.sleep(0.5); print('ready', flush=True); time.sleep(60)"


def test_a_start_is_timed_until_the_sign_and_then_ended(tmp_path: Path) -> None:
    assert 0.5 <= seconds_until([sys.executable, "-c", LATE], b"ready", tmp_path) < 30
    assert seconds_until([sys.executable, "-c", LATE.replace("0.5", "20")], b"hello", tmp_path) < 20


def test_a_program_that_ends_without_the_sign_is_no_start(tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match="nothing at all"):
        seconds_until([sys.executable, "-c", "print('nothing at all')"], b"ready", tmp_path)
