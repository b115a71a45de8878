"""The `playhead` command: flags, exit codes, and how errors are said. What a command does is elsewhere.

Imports are inside the commands: `playhead --version` must not pay for a web stack.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from playhead_cli.flags import (
    BROKER_WAIT_SECONDS,
    DEFAULT_URL,
    App,
    AsJson,
    Auth,
    Data,
    GrpcPort,
    Host,
    Kafka,
    Mcp,
    McpAllow,
    McpAuth,
    McpEffect,
    McpEnv,
    McpFlags,
    McpTimeout,
    McpWait,
    MetricsPort,
    Pools,
    Port,
    Session,
    TlsCert,
    TlsKey,
    Url,
    Wait,
    lines_of,
)
from playhead_cli.launch import cluster_settings_of, finish, run, settings_of
from playhead_cli.operating import answer, dlq_app, keys_app, tools_app, topics_app

__all__ = ["app", "main"]

BEGAN = time.monotonic()
"""When the process began, near enough: what `ready in …` is counted from."""

app = typer.Typer(
    name="playhead",
    help="An agent runtime whose only memory is an event log. Exit code 1: it failed.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(tools_app, name="tools")
app.add_typer(dlq_app, name="dlq")
app.add_typer(topics_app, name="topics")
app.add_typer(keys_app, name="keys")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"playhead {version('playhead')}")
        raise typer.Exit


@app.callback()
def _root(  # pyright: ignore[reportUnusedFunction]  typer calls it
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, hidden=True)  # a screen is full of commands
    ] = False,
) -> None:
    pass


@app.command()
def dev(
    app_path: Annotated[
        str | None,
        typer.Argument(metavar="APP", envvar="PLAYHEAD_APP", help="A Python file or module.", show_default=False),
    ] = None,
    port: Port = None,
    host: Host = None,
    data: Data = None,
    grpc_port: GrpcPort = None,
    reload: Annotated[
        bool, typer.Option("--reload/--no-reload", envvar="PLAYHEAD_RELOAD", help="Serve APP anew when it changes.")
    ] = True,
    auth: Auth = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    scenario: Annotated[Path | None, typer.Option("--scenario", envvar="PLAYHEAD_SCENARIO", hidden=True)] = None,
) -> None:
    """Run everything in one process, on SQLite."""
    from playhead_cli.dev import dev

    access = {"auth_file": auth, "tls_cert": tls_cert, "tls_key": tls_key}
    settings = settings_of(port=port, grpc_port=grpc_port, host=host, data=data, scenario=scenario, **access)
    finish(run(dev(app_path, settings, began=BEGAN, reload=reload), fast=True))


@app.command()
def demo() -> None:
    """Show a session that survives the death of its process."""
    from playhead_cli.demo import demo

    finish(run(demo()))


@app.command()
def send(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to say.", show_default=False)],
    session: Annotated[
        str | None, typer.Option("--session", envvar="PLAYHEAD_SESSION", metavar="ID", help="Go on with a session.")
    ] = None,
    agent: Annotated[
        str | None, typer.Option("--agent", envvar="PLAYHEAD_AGENT", metavar="NAME", help="Start one with this agent.")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option("--mode", envvar="PLAYHEAD_MODE", help="While a run is going: queue, interrupt or reject."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", envvar="PLAYHEAD_FOLLOW", help="Show the answer as it comes.")
    ] = True,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Say something and show the answer as it comes."""
    from playhead_cli import talk
    from playhead_cli.terminal import Terminal

    if session and agent:
        raise typer.BadParameter("a session keeps the agent that it began with", param_hint="--agent")
    if mode is not None and (mode not in {"queue", "interrupt", "reject"} or not session):
        raise typer.BadParameter("give queue, interrupt or reject, and --session", param_hint="--mode")
    terminal = Terminal()
    shown = talk.Follow(terminal, as_json=as_json, echo_user=False)
    message = talk.Message(text, session, agent, mode)
    try:
        code = run(talk.send(url, message, shown, wait=follow))
    except KeyboardInterrupt:
        shown.end()
        terminal.note(_resume_with("the run goes on", shown.session, shown.cursor))
        code = 1
    finish(code)


@app.command()
def tail(
    session: Session,
    after: Annotated[
        str | None,
        typer.Option("--after", envvar="PLAYHEAD_AFTER", metavar="CURSOR", help="Begin after this event."),
    ] = None,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", envvar="PLAYHEAD_UNTIL_IDLE", help="Stop when no run is going.")
    ] = False,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Show a session's stream, from its beginning or a cursor."""
    from playhead.ids import parse_cursor, parse_session_id

    from playhead_cli import talk
    from playhead_cli.terminal import Terminal

    parse_session_id(session)
    cursor = None if after is None else str(parse_cursor(after))
    terminal = Terminal()
    shown = talk.Follow(terminal, as_json=as_json, session=session, cursor=cursor)
    try:
        code = run(talk.tail(url, shown, until_idle=until_idle))
    except KeyboardInterrupt:
        shown.end()
        terminal.note(_resume_with("stopped", session, shown.cursor))
        code = 0
    finish(code)


@app.command("ls")
def list_sessions(
    status: Annotated[
        str | None,
        typer.Option("--status", envvar="PLAYHEAD_STATUS", help="idle, running, waiting or closed."),
    ] = None,
    agent: Annotated[
        str | None, typer.Option("--agent", envvar="PLAYHEAD_AGENT", metavar="NAME", help="Only those of this agent.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", envvar="PLAYHEAD_LIMIT", min=1, max=1000, help="At most.")] = 50,
    cursor: Annotated[
        str | None, typer.Option("--cursor", envvar="PLAYHEAD_CURSOR", help="Go on where the last page ended.")
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List sessions, newest first."""
    from playhead_cli import talk
    from playhead_cli.terminal import Terminal

    asked: dict[str, str | int | None] = {"status": status, "agent": agent, "limit": limit, "cursor": cursor}
    params = {name: value for name, value in asked.items() if value is not None}
    finish(run(talk.ls(url, Terminal(), params, as_json=as_json)))


@app.command()
def show(session: Session, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Show a session as it stands."""
    from playhead.ids import parse_session_id

    from playhead_cli import talk
    from playhead_cli.terminal import Terminal

    finish(run(talk.show(url, Terminal(), parse_session_id(session), as_json=as_json)))


@app.command()
def cancel(
    session: Session,
    run_id: Annotated[
        str | None, typer.Option("--run", envvar="PLAYHEAD_RUN", metavar="ID", help="Only this run.")
    ] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Stop a run, or all that a session does."""
    from playhead.ids import parse_session_id

    from playhead_cli import talk
    from playhead_cli.terminal import Terminal

    finish(run(talk.cancel(url, Terminal(), parse_session_id(session), run_id)))


app.command("answer")(answer)


@app.command()
def orchestrator(
    app_path: App, kafka: Kafka = None, wait: Wait = BROKER_WAIT_SECONDS, metrics_port: MetricsPort = None
) -> None:
    """Run an orchestrator: calls the models, appends what happens."""
    from playhead_cli.roles import orchestrator

    settings = cluster_settings_of(kafka=kafka, metrics_port=metrics_port)
    finish(run(orchestrator(app_path, settings, wait_seconds=wait, began=BEGAN), fast=True))


@app.command()
def worker(
    app_path: Annotated[
        str | None,
        typer.Argument(metavar="APP", envvar="PLAYHEAD_APP", help="A Python file or module.", show_default=False),
    ] = None,
    kafka: Kafka = None,
    pools: Pools = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            envvar="PLAYHEAD_CONCURRENCY",
            metavar="N",
            help="Calls at a time.  [default: 32]",
            min=1,
            show_envvar=False,
        ),
    ] = None,
    mcp: Mcp = None,
    mcp_allow: McpAllow = None,
    mcp_effect: McpEffect = None,
    mcp_env: McpEnv = None,
    mcp_auth: McpAuth = None,
    mcp_wait: McpWait = 60.0,
    mcp_timeout: McpTimeout = 60.0,
    wait: Wait = BROKER_WAIT_SECONDS,
    metrics_port: MetricsPort = None,
) -> None:
    """Run a tool worker: runs the calls of its pools, of an app or of MCP servers."""
    from playhead_cli.roles import Served, worker

    servers = lines_of(mcp, os.environ.get("PLAYHEAD_MCP"))
    if app_path is None and not servers:
        raise typer.BadParameter("name an app, or an MCP server with --mcp", param_hint="APP")
    hosted = McpFlags(servers, mcp_allow or (), mcp_effect or (), mcp_env or (), mcp_auth or (), mcp_wait, mcp_timeout)
    settings = cluster_settings_of(kafka=kafka, metrics_port=metrics_port, concurrency=concurrency)
    served = Served(app_path, tuple(pools or ()), hosted if servers else None)
    finish(run(worker(served, settings, wait_seconds=wait, began=BEGAN), fast=True))


@app.command()
def gateway(
    kafka: Kafka = None,
    port: Port = None,
    grpc_port: GrpcPort = None,
    host: Host = None,
    auth: Auth = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    wait: Wait = BROKER_WAIT_SECONDS,
) -> None:
    """Run a gateway: the HTTP side."""
    from playhead_cli.roles import gateway

    access = {"auth_file": auth, "tls_cert": tls_cert, "tls_key": tls_key}
    settings = cluster_settings_of(kafka=kafka, port=port, grpc_port=grpc_port, host=host, **access)
    finish(run(gateway(settings, wait_seconds=wait, began=BEGAN), fast=True))


@app.command()
def doctor(kafka: Kafka = None, data: Data = None, pools: Pools = None) -> None:
    """Check this machine and the deployment."""
    from playhead_cli.doctor import doctor
    from playhead_cli.terminal import Terminal

    finish(run(doctor(settings_of(kafka=kafka, data=data), Terminal(), pools=tuple(pools or ()))))


def main() -> None:
    """Run the command line. Errors that are ours are one line on stderr, and exit code 1."""
    from playhead.errors import PlayheadError

    gc.disable()  # nothing that is made while it starts is garbage; who goes on for longer begins to collect
    try:
        app()
    except PlayheadError as error:
        typer.echo(f"playhead: {error}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        # `playhead tail … | head` has what it wanted. Nothing may be flushed into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _resume_with(what: str, session: str | None, cursor: str | None) -> str:
    if session is None:
        return what
    after = f" --after {cursor}" if cursor else ""
    return f"{what}; resume with: playhead tail {session}{after}"
