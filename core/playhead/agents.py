"""`Agent`: what a team writes to have a model answer users, with the tools that it may call."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass, replace

from playhead.errors import Misconfigured
from playhead.events import Budget
from playhead.ids import digest
from playhead.tools import Tool, check_name, distinct

__all__ = ["Agent"]

MODEL = re.compile(r"scripted|[a-z][a-z0-9_-]*:\S+")


@dataclass(frozen=True, slots=True)
class Agent:
    """A model with instructions and tools. Raises `Misconfigured`, which says what to change.

    `model` is `provider:model` or `scripted`. `tools` holds tools, or the names of tools that other teams' pools offer.
    `version` is derived from the definition unless given: sessions remember which version they began with.
    """

    name: str
    model: str = "scripted"
    instructions: str = ""
    tools: Sequence[Tool[..., object] | str] = ()
    _: KW_ONLY
    description: str = ""
    version: str = ""
    budget: Budget = Budget()
    """What one run may use before it is stopped."""
    max_tokens: int = 8192
    """The longest message that the model may answer with."""
    thinking_tokens: int | None = None
    """How much of it may be reasoning; None leaves that to the model."""
    default: bool = False
    """The agent for sessions that name none."""

    def __post_init__(self) -> None:
        check_name("agent", self.name)
        if not MODEL.fullmatch(self.model):
            raise Misconfigured(
                f"agent {self.name}: a model is `provider:model`, as in `anthropic:claude-sonnet-5-5`, or `scripted`; "
                f"not {self.model!r}"
            )
        budget = {f"budget.{limit}": value for limit, value in asdict(self.budget).items()}
        limits = {"max_tokens": self.max_tokens, "thinking_tokens": self.thinking_tokens} | budget
        for limit, value in limits.items():
            if value is not None and value < 1:
                raise Misconfigured(f"agent {self.name}: {limit} is at least 1, not {value}")
        # The one moment in which a frozen value is still being made.
        object.__setattr__(self, "tools", self._checked_tools())
        object.__setattr__(self, "version", self.version or self._digest())

    @property
    def own_tools(self) -> tuple[Tool[..., object], ...]:
        """The tools that are defined beside the agent, not only named."""
        return tuple(each for each in self.tools if isinstance(each, Tool))

    @property
    def tool_names(self) -> tuple[str, ...]:
        """The names of all its tools, in order."""
        return tuple(each.name if isinstance(each, Tool) else each for each in self.tools)

    def _checked_tools(self) -> tuple[Tool[..., object] | str, ...]:
        if isinstance(self.tools, str):
            raise Misconfigured(f"agent {self.name}: tools is a list, not the text {self.tools!r}")
        for each in self.tools:
            if isinstance(each, str):
                check_name(f"agent {self.name}: tool", each)
            elif not isinstance(each, Tool):  # pyright: ignore[reportUnnecessaryIsInstance] - users may not check types
                raise Misconfigured(f"agent {self.name}: {each!r} is not a tool; decorate it with `@tool`, or name one")
        distinct(each for each in self.tools if isinstance(each, Tool))
        unique = {each.name if isinstance(each, Tool) else each: each for each in self.tools}
        if len(unique) < len(self.tools):
            raise Misconfigured(f"agent {self.name}: a tool is listed twice")
        return tuple(self.tools)

    def _digest(self) -> str:
        bare = replace(self, tools=(), version="-", description="", default=False)
        defined = asdict(bare) | {
            "tools": [
                [each.name, each.description, each.schema_hash] if isinstance(each, Tool) else [each]
                for each in self.tools
            ]
        }
        return digest("agent", json.dumps(defined, sort_keys=True, separators=(",", ":")))
