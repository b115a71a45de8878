"""The command line as a shell sees it: exit codes, where what is said goes, variables."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import typer
from playhead_cli.main import app

NOWHERE = "http://127.0.0.1:1"
SCREEN_LINES = 24


def playhead(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PLAYHEAD_")}
    return subprocess.run(
        [sys.executable, "-m", "playhead_cli", *arguments],
        env={**clean, **variables},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def commands(command: Any = None, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    command = typer.main.get_command(app) if command is None else command
    inner = getattr(command, "commands", {})
    found = [one for name, child in inner.items() for one in commands(child, (*path, name))]
    return found or [(path, command)]


def named(value: object) -> str:
    return " ".join(cast("tuple[str, ...]", value)) if type(value) is tuple else "-"


@pytest.mark.parametrize("arguments", [(), *[path for path, _ in commands()]], ids=" ".join)
def test_help_fits_on_a_screen_and_has_no_colour(arguments: tuple[str, ...]):
    done = playhead(*arguments, "--help")
    assert done.returncode == 0
    assert len(done.stdout.rstrip().splitlines()) <= SCREEN_LINES
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(("path", "command"), commands(), ids=named)
def test_every_flag_has_a_variable(path: tuple[str, ...], command: Any):
    bare = [
        one.name for one in command.params if one.param_type_name == "option" and not one.envvar and one.name != "help"
    ]
    assert bare == []
    assert all(one.envvar.startswith("PLAYHEAD_") for one in command.params if one.envvar)


@pytest.mark.parametrize(
    "arguments",
    [
        ("send",),
        ("nonsense",),
        ("tail", "ses_x", "--nonsense"),
        ("gateway", "--kafka", "b:9092", "--port", "70000"),
        ("gateway",),
        ("worker", "app.py"),
        ("dlq", "retry"),
        ("dlq", "drop", "0-1", "--all"),
        ("dlq", "ls", "--state", "odd"),
        ("tools", "call", "weather", "[1]"),
        ("send", "hi", "--mode", "shout", "--session", "ses_x"),
        ("send", "hi", "--agent", "a", "--session", "ses_x"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]):
    done = playhead(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("ls",), "playhead dev"),
        (("send", "hi"), "playhead dev"),
        (("tail", "nonsense"), "a session id is"),
        (("show", "ses_" + "a" * 26), "playhead dev"),
        (("dlq", "retry", "0-1"), "playhead dev"),
        (("tail", "ses_" + "a" * 26, "--after", "x"), "a cursor is"),
        (("dev", "missing.py"), "there is no file missing.py"),
        (("dev", "--data", "/dev/null/x"), "--data"),
        (("ls", "--url", "nonsense"), "http://"),
    ],
    ids=named,
)
def test_a_failure_is_exit_code_1_and_one_line_that_says_what_to_do(arguments: tuple[str, ...], advice: str):
    done = playhead(*arguments, PLAYHEAD_URL=NOWHERE)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("playhead: ")
    assert advice in done.stderr


def test_a_variable_stands_for_a_flag_and_the_flag_wins():
    assert "127.0.0.1:2 " not in playhead("ls", PLAYHEAD_URL="http://127.0.0.1:2", NO_COLOR="1").stdout
    assert "http://127.0.0.1:2:" in playhead("ls", PLAYHEAD_URL="http://127.0.0.1:2").stderr
    assert "http://127.0.0.1:1:" in playhead("ls", "--url", NOWHERE, PLAYHEAD_URL="http://127.0.0.1:2").stderr


@pytest.mark.parametrize("role", [("worker", "playhead_cli.example"), ("gateway",), ("topics", "create")], ids=" ".join)
def test_a_broker_that_is_not_there_is_said_soon_with_what_to_do(role: tuple[str, ...]):
    done = playhead(*role, "--kafka", "127.0.0.1:1")
    assert done.returncode == 1
    assert "no Kafka at 127.0.0.1:1" in done.stderr.splitlines()[-1]
    assert "--kafka" in done.stderr.splitlines()[-1]


def test_an_orchestrator_without_a_lease_secret_does_not_start_and_secrets_are_not_printed():
    done = playhead("orchestrator", "playhead_cli.example", "--kafka", "127.0.0.1:1")
    assert done.returncode == 1
    assert "PLAYHEAD_LEASE_SECRET" in done.stderr
    told = playhead("orchestrator", "playhead_cli.example", "--kafka", "127.0.0.1:1", PLAYHEAD_LEASE_SECRET="hush-hush")
    assert told.returncode == 1
    assert "no Kafka" in told.stderr
    assert "hush-hush" not in told.stderr + told.stdout


def test_doctor_passes_without_a_broker_and_fails_with_one_that_is_not_there(tmp_path: Path):
    well = playhead("doctor", "--data", str(tmp_path))
    assert well.returncode == 0
    assert all(line.split()[0] in {"ok", "warn"} for line in well.stdout.splitlines())
    ill = playhead("doctor", "--data", str(tmp_path), "--kafka", "127.0.0.1:1", ANTHROPIC_API_KEY="hush-hush")
    assert ill.returncode == 1
    assert any(line.startswith("fail") and "--kafka" in line for line in ill.stdout.splitlines())
    assert "ANTHROPIC_API_KEY set" in ill.stdout
    assert "hush-hush" not in ill.stdout
    assert list(tmp_path.iterdir()) == []


def test_doctor_says_what_to_do_about_a_folder_that_cannot_be_written():
    done = playhead("doctor", "--data", "/proc/nowhere")
    assert done.returncode == 1
    assert "--data" in next(line for line in done.stdout.splitlines() if line.startswith("fail"))
