"""The commands of tool teams and operators: `tools`, `dlq`, `topics`, `keys`, `answer`. Imports are as in `main`."""

from __future__ import annotations

from typing import Annotated

import typer

from playhead_cli.flags import BROKER_WAIT_SECONDS, DEFAULT_URL, AsJson, Kafka, Pools, Session, Url, Wait
from playhead_cli.launch import cluster_settings_of, finish, run

__all__ = ["answer", "dlq_app", "keys_app", "tools_app", "topics_app"]

Name = Annotated[str, typer.Argument(metavar="NAME", help="A tool's name.", show_default=False)]

tools_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="See the tools, and call one by hand.")
topics_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Operate on the topics of a deployment.")
keys_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make API keys.")
dlq_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Deal with what came to nothing.")

Letter = Annotated[str, typer.Argument(metavar="ID", help="A dead letter's id, such as 0-17.", show_default=False)]
Letters = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of dead letters.", show_default=False)]
Everything = Annotated[bool, typer.Option("--all", envvar="PLAYHEAD_ALL", help="All that are new.")]


def answer(
    session: Session,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="A question's id, q_…", show_default=False)],
    content: Annotated[str, typer.Argument(metavar="CONTENT", help="JSON, or else a text.", show_default=False)],
    url: Url = DEFAULT_URL,
) -> None:
    """Answer a question that a tool asks."""
    from playhead.ids import parse_session_id

    from playhead_cli import hand
    from playhead_cli.terminal import Terminal

    finish(run(hand.answer(url, Terminal(), parse_session_id(session), question, hand.value_of(content))))


@tools_app.command("ls")
def tools_ls(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List the tools: name, pool, effect, breaker, what it does."""
    from playhead_cli import hand
    from playhead_cli.terminal import Terminal

    finish(run(hand.list_tools(url, Terminal(), as_json=as_json)))


@tools_app.command("show")
def tools_show(name: Name, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Show all that is announced of a tool."""
    from playhead_cli import hand
    from playhead_cli.terminal import Terminal

    finish(run(hand.show_tool(url, Terminal(), name, as_json=as_json)))


@tools_app.command("call")
def tools_call(
    name: Name,
    given: Annotated[str, typer.Argument(metavar="INPUT", help="Its arguments, a JSON object.")] = "{}",
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Call a tool by hand, through the real queue. Exit code 0: it worked."""
    import sys

    from playhead_cli import hand
    from playhead_cli.talk import Follow
    from playhead_cli.terminal import Terminal

    arguments = hand.object_of(given)
    if arguments is None:
        raise typer.BadParameter('give a JSON object, such as \'{"city": "Oslo"}\'', param_hint="INPUT")
    # What happens on the way is about the command; its answer is the result.
    follow = Follow(Terminal(sys.stderr), as_json=as_json, echo_user=False)
    try:
        code = run(hand.call_tool(url, follow, name, arguments, out=Terminal()))
    except KeyboardInterrupt:
        follow.end()
        Terminal().note(f"the call goes on; see what comes of it with: playhead tail {follow.session}")
        code = 1
    finish(code)


@dlq_app.command("ls")
def dlq_ls(
    state: Annotated[
        str, typer.Option("--state", envvar="PLAYHEAD_STATE", help="new, retried, dropped or all.")
    ] = "new",
    limit: Annotated[int, typer.Option("--limit", envvar="PLAYHEAD_LIMIT", min=1, max=500, help="At most.")] = 50,
    cursor: Annotated[
        str | None, typer.Option("--cursor", envvar="PLAYHEAD_CURSOR", help="Go on where the last page ended.")
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List dead letters, newest first."""
    from playhead_cli import letters
    from playhead_cli.terminal import Terminal

    if state not in {"new", "retried", "dropped", "all"}:
        raise typer.BadParameter("give new, retried, dropped or all", param_hint="--state")
    params: dict[str, str | int] = {"limit": limit}
    params |= {} if state == "all" else {"state": state}
    params |= {} if cursor is None else {"cursor": cursor}
    finish(run(letters.list_letters(url, Terminal(), params, as_json=as_json)))


@dlq_app.command("show")
def dlq_show(letter: Letter, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Show what came to nothing, and why."""
    from playhead_cli import letters
    from playhead_cli.terminal import Terminal

    finish(run(letters.show_letter(url, Terminal(), letter, as_json=as_json)))


@dlq_app.command("retry")
def dlq_retry(
    names: Letters = None,
    everything: Everything = False,
    raw: Annotated[
        bool, typer.Option("--raw", envvar="PLAYHEAD_RAW", help="Also what the gateway cannot read, as it is.")
    ] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Send it again to where it came from: a call is run again."""
    from playhead_cli import letters
    from playhead_cli.terminal import Terminal

    finish(run(letters.handle(url, Terminal(), _meant(names, everything), "retry", raw=raw)))


@dlq_app.command("drop")
def dlq_drop(names: Letters = None, everything: Everything = False, url: Url = DEFAULT_URL) -> None:
    """Mark it as dealt with, and do nothing."""
    from playhead_cli import letters
    from playhead_cli.terminal import Terminal

    finish(run(letters.handle(url, Terminal(), _meant(names, everything), "drop")))


@topics_app.command("create")
def topics_create(
    kafka: Kafka = None,
    pools: Pools = None,
    partitions: Annotated[
        int | None,
        typer.Option(
            "--partitions", envvar="PLAYHEAD_SESSION_PARTITIONS", min=1, help="Of session topics.  [default: 12]"
        ),
    ] = None,
    wait: Wait = BROKER_WAIT_SECONDS,
) -> None:
    """Create the topics that a deployment needs; those that exist are left as they are."""
    from playhead_cli.roles import create_topics
    from playhead_cli.terminal import Terminal

    settings = cluster_settings_of(kafka=kafka, session_partitions=partitions)
    finish(run(create_topics(settings, Terminal(), pools=tuple(pools or ("default",)), wait_seconds=wait)))


@keys_app.command("new")
def keys_new(
    name: Annotated[str, typer.Option("--name", envvar="PLAYHEAD_KEY_NAME", help="Who it is for.", show_default=False)],
    tenant: Annotated[
        str | None, typer.Option("--tenant", envvar="PLAYHEAD_KEY_TENANT", help="Whose sessions it is for.")
    ] = None,
    scopes: Annotated[
        str, typer.Option("--scopes", envvar="PLAYHEAD_KEY_SCOPES", metavar="LIST", help="What it is good for.")
    ] = "sessions:read,sessions:write",
) -> None:
    """Make an API key, and the lines of it for the access file."""
    from playhead_cli import keys
    from playhead_cli.terminal import Terminal

    finish(keys.new(Terminal(), name, tenant, scopes))


def _meant(names: list[str] | None, everything: bool) -> tuple[str, ...]:
    if bool(names) == everything:
        raise typer.BadParameter("name dead letters, or give --all", param_hint="ID")
    return tuple(names or ())
