"""The commands of tool teams and operators: `tools` and `answer`. As in `main`, imports are inside."""

from __future__ import annotations

from typing import Annotated

import typer

from playhead_cli.flags import DEFAULT_URL, AsJson, Session, Url
from playhead_cli.launch import finish, run

__all__ = ["answer", "tools_app"]

Name = Annotated[str, typer.Argument(metavar="NAME", help="A tool's name.", show_default=False)]

tools_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="See the tools, and call one by hand.")


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
