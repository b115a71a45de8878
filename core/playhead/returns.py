"""What a tool returns: from a function's return annotation to a JSON Schema, and from a value to what it declares.

pydantic reads the annotation. This module is imported when the first tool is declared; it does not know what a tool is.
"""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from playhead.content import File, Image, Pending, Question
from playhead.errors import Invalid

__all__ = ["OURS", "Returns", "describe_returns"]

OURS = (File, Image, Pending, Question)
"""What stands for something else than a plain value: the worker knows what to do with it."""

PROBLEM_CHARS_MAX = 500


@dataclass(frozen=True, slots=True)
class Returns:
    """What a function declares to return."""

    schema: dict[str, Any]
    adapter: TypeAdapter[Any]

    def check(self, value: object) -> object:
        """Give a value as what was declared. Raises `Invalid`, which says what is wrong with it."""
        if isinstance(value, OURS):
            return value
        try:
            # From attributes too: what looks like the declared class is taken for it, as in a response model.
            return self.adapter.validate_python(value, from_attributes=True)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(str(part) for part in problem["loc"]) or "the result"
            raise Invalid(type(value).__name__, f"{where}: {problem['msg']}"[:PROBLEM_CHARS_MAX]) from error


def describe_returns(function: Callable[..., object]) -> Returns | None:
    """Read a function's return annotation; `None` if it says nothing that pydantic could check."""
    hint = get_type_hints(function, include_extras=True).get("return", Any)
    if get_origin(hint) in (Awaitable, Coroutine):
        hint = get_args(hint)[-1]
    hint = _plain(hint)
    if hint in (Any, object, None) or _mentions_ours(hint):
        return None
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
        schema = adapter.json_schema(mode="serialization")
    except PydanticUserError:
        return None  # a class of the user's own may still be something that can be dumped
    schema.pop("title", None)
    return Returns(schema, adapter)


def _plain(hint: Any) -> Any:
    """Leave out of a union what stands for something else. `NoneType` alone declares nothing worth checking."""
    if hint is type(None) or hint in OURS:
        return None
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    arms = tuple(arm for arm in get_args(hint) if arm not in OURS)
    if all(arm is type(None) for arm in arms):
        return None
    return arms[0] if len(arms) == 1 else Union[arms]  # noqa: UP007 - made from a tuple


def _mentions_ours(hint: Any) -> bool:
    return hint in OURS if not get_args(hint) else any(_mentions_ours(arm) for arm in get_args(hint))
