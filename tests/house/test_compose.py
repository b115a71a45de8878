"""`docker-compose.yml`, as far as it can be checked without an engine: commands, paths, health checks, references."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import pytest
import typer
import yaml
from playhead.loading import load_app
from playhead_cli.main import app

ROOT = Path(__file__).parents[2]
FILE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "playhead"}


def flag_variables() -> set[str]:
    """Name the variables of all flags of all commands."""
    root: Any = typer.main.get_command(app)  # Any: typer's command tree is click's, which it does not export
    commands, found = [root], set[str]()
    while commands:
        command = commands.pop()
        commands.extend(getattr(command, "commands", {}).values())
        for parameter in command.params:
            named = parameter.envvar or ()
            found.update((named,) if isinstance(named, str) else named)
    return found


def parse(arguments: list[str]) -> dict[str, Any]:
    """Parse a command line without running it. A usage error is raised."""
    command: Any = typer.main.get_command(app)  # Any: typer's command tree is click's, which it does not export
    while hasattr(command, "commands"):
        name = arguments[0]
        assert name in command.commands, f"there is no command {name}"
        command, arguments = command.commands[name], arguments[1:]
    return cast("dict[str, Any]", command.make_context(command.name, list(arguments)).params)


@pytest.mark.parametrize("name", OURS)
def test_each_service_runs_a_command_that_exists_with_flags_that_exist(name: str):
    assert parse(OURS[name]["command"])["kafka"] == "kafka:9092"


def test_the_check_itself_refuses_a_flag_that_does_not_exist():
    with pytest.raises(Exception, match="No such option"):
        parse(["worker", "app.py", "--kafak", "kafka:9092"])


@pytest.mark.parametrize("name", OURS)
def test_each_image_can_be_built_and_each_app_is_in_it(name: str):
    build = OURS[name]["build"]
    dockerfile = (ROOT / build["context"] / build["dockerfile"]).read_text()
    copied = [
        word for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE) for word in line.split()[:-1]
    ]
    assert [path for path in copied if not (ROOT / path).exists()] == []
    for argument in OURS[name]["command"]:
        if argument.endswith(".py"):
            assert (ROOT / argument).is_file()
            assert argument.split("/")[0] in copied


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "topics"])
def test_each_lasting_service_has_a_sane_health_check(name: str):
    check = SERVICES[name]["healthcheck"]
    seconds = {key: float(check[key].removesuffix("s")) for key in ("interval", "timeout", "start_period")}
    assert check["test"][0] == "CMD"
    assert 1 <= seconds["interval"] <= 30
    assert seconds["timeout"] <= 10
    assert 3 <= check["retries"] <= 20
    if name in OURS:
        code = check["test"][-1]
        compile(code, name, "exec")
        assert "/readyz" in code


def test_the_roles_of_a_deployment_are_all_there_with_two_tool_teams():
    commands = [service["command"] for service in OURS.values()]
    assert sorted(command[0] for command in commands) == ["gateway", "orchestrator", "topics", "worker", "worker"]
    pools = {command[command.index("--pool") + 1] for command in commands if command[0] == "worker"}
    created = parse(OURS["topics"]["command"])["pools"]
    assert pools == set(created) == {"default", "billing"}


def test_each_worker_serves_an_app_that_has_tools_of_its_pool():
    for service in OURS.values():
        parsed = parse(service["command"])
        if service["command"][0] == "worker":
            app_tools = load_app(str(ROOT / parsed["app_path"])).tools
            assert set(parsed["pools"]) <= {tool.pool for tool in app_tools}


def test_services_wait_for_services_that_exist_until_they_are_what_is_waited_for():
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[needed]
            else:
                assert how["condition"] == "service_completed_successfully"
                assert SERVICES[needed]["restart"] == "no"


def test_no_worker_is_told_the_lease_secret():
    for name, service in SERVICES.items():
        told = "PLAYHEAD_LEASE_SECRET" in service.get("environment", {})
        assert told == (name == "orchestrator")
