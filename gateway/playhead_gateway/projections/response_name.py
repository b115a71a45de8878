"""The ids of responses. An id says all that is needed to make its response from the log, so any replica can. Pure.

`resp_<session>_<run>`, each the 26 characters of the id that it stands for. A run that waits for its user ends one
response and goes on in the next, `…_2`, `…_3`. `…_function` tells calls as `function_call` items: how a response is
numbered depends on it, so who comes back with the id alone must get it told the same way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal, get_args

from playhead.ids import RunId, SessionId

__all__ = ["ResponseName", "ToolItems", "parse_response_name"]

ToolItems = Literal["mcp", "function"]
"""How a call that the server makes is told: as one `mcp_call` item, or as a `function_call` and its output."""

NAME = re.compile(r"resp_([0-9a-z]{26})_([0-9a-z]{26})(?:_([1-9][0-9]{0,5}))?(_function)?")


@dataclass(frozen=True, slots=True)
class ResponseName:
    """What a response's id says. `part` counts from 1."""

    session: SessionId
    run: RunId
    part: int = 1
    tool_items: ToolItems = "mcp"

    def __str__(self) -> str:
        part = "" if self.part == 1 else f"_{self.part}"
        form = "" if self.tool_items == "mcp" else f"_{self.tool_items}"
        return f"resp_{self.session.removeprefix('ses_')}_{self.run.removeprefix('run_')}{part}{form}"

    @property
    def next(self) -> ResponseName:
        """The response in which the run goes on once its user has answered."""
        return replace(self, part=self.part + 1)


def parse_response_name(text: str) -> ResponseName | None:
    """Read a stranger's id of a response; None if no response can have it."""
    found = NAME.fullmatch(text)
    if found is None:
        return None
    part = int(found[3] or 1)
    name = ResponseName(
        SessionId(f"ses_{found[1]}"), RunId(f"run_{found[2]}"), part, get_args(ToolItems)[bool(found[4])]
    )
    return name if str(name) == text else None  # `…_1` is another spelling
