"""What is written to stderr, and how often."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys

import pytest
from playhead.telemetry import OncePerWhile

CANARY = 'canary "quoted"\n\\and é'

SPEAKING = """
import base64, logging, sys
from playhead.redaction import Redactor
from playhead.telemetry import configure_logging, logger

style, redacting, canary = sys.argv[1], sys.argv[2] == "redacting", sys.argv[3]
redactor = Redactor()
redactor.register({"KEY": canary})
configure_logging("INFO", style, redactor.redact if redacting else None)
ours, foreign = logger("playhead.test"), logging.getLogger("foreign.library")

class Broken(Exception):
    pass

ours.info(f"1 in a message: {canary}")
ours.info("2 as a value", key=canary, nested={"list": [canary], canary: 1}, exact=b"x" + canary.encode())
ours.bind(bound=canary).info("3 bound")
foreign.warning("4 in arguments: %s %r", canary, {"key": canary})
foreign.warning("5 encoded: %s", base64.b64encode(b"users:" + canary.encode()).decode())
try:
    try:
        raise KeyError(canary)
    except KeyError as error:
        raise Broken(f"6 raised {canary}") from error
except Broken as error:
    ours.warning("7 ours failed", exc_info=error, error=str(error))
    foreign.exception("8 theirs failed")
foreign.warning("9 badly formatted %d", canary)
ours.info("10 the end", stack_info=True)
"""


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


def said(style: str, how: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", SPEAKING, style, how, CANARY], capture_output=True, text=True, timeout=30, check=True
    )
    return ran.stderr


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_secret_is_in_no_line_of_ours_or_of_a_library_nor_in_a_traceback(style: str):
    shown = said(style, "redacting")
    assert "canary" not in shown
    assert "Y2FuYXJ5" not in shown  # how it begins in base64, after six bytes
    for number in range(1, 9):
        assert f"{number} " in shown
    assert shown.count("[secret KEY]") == 14
    assert "Traceback" in shown
    assert re.search(r"^a log record of foreign.library \(<string>:\d+\) cannot be written: TypeError$", shown, re.M)
    if style == "json":
        lines = [json.loads(line) for line in shown.splitlines() if not line.startswith("a log record of")]
        assert [line["event"].split()[0] for line in lines] == ["1", "2", "3", "4", "5", "7", "8", "10"]
        assert lines[0]["event"] == "1 in a message: [secret KEY]"


@pytest.mark.parametrize("style", ["json", "console"])
def test_without_a_redactor_lines_are_written_as_they_are(style: str):
    assert said(style, "plain").count("canary") >= 10


@pytest.mark.parametrize(("level", "speaks"), [("INFO", False), ("DEBUG", True)])
def test_no_model_call_is_a_line_unless_everything_is(level: str, speaks: bool):
    code = (
        "import logging\nfrom playhead.telemetry import configure_logging\n"
        f"configure_logging({level!r})\nlogging.getLogger('httpx2').info('HTTP Request: POST')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert ("HTTP Request" in done.stderr) is speaks
