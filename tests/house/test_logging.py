"""What is written to stderr, and how often."""

from __future__ import annotations

import logging

from playhead.telemetry import OncePerWhile


def record(name: str, message: str, at: float) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.ERROR, "file.py", 1, message, ("host",), None)
    made.created = at
    return made


def test_a_library_that_repeats_itself_is_heard_once_in_a_while():
    once = OncePerWhile("aiokafka", seconds=10)
    said = [at for at in range(100) if once.filter(record("aiokafka.conn", "no route to %s", float(at + 1)))]
    assert said == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]


def test_what_is_new_and_what_is_ours_is_always_heard():
    once = OncePerWhile("aiokafka", seconds=10)
    assert once.filter(record("aiokafka.conn", "no route to %s", 1.0))
    assert once.filter(record("aiokafka.conn", "another thing about %s", 1.0))
    assert once.filter(record("aiokafka.client", "no route to %s", 1.0))
    assert all(once.filter(record("playhead.gateway", "the same", 1.0)) for _ in range(3))
