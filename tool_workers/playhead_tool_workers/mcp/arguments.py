"""What an MCP tool takes: its own JSON Schema, and the check of a model's arguments against it.

References are resolved within the schema alone: nothing is fetched. A stranger's schema must not keep the whole worker
busy: regular expressions, and what takes time out of proportion, are left to the server, and so is all that is not
decided after some steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from jsonschema import SchemaError, ValidationError, validators
from jsonschema.protocols import Validator
from playhead.errors import Invalid
from referencing import Registry
from referencing.exceptions import Unresolvable

__all__ = ["CONTEXT", "GIVEN", "RemoteArguments", "arguments_of"]

GIVEN, CONTEXT = "given", "context"
"""The two parameters of a remote tool's function: a server's own names cannot clash with them."""

PROBLEMS_SHOWN_MAX = 5
PROBLEM_CHARS_MAX = 300

BEYOND_US = (Unresolvable, RecursionError, ArithmeticError, ValueError, TypeError, AttributeError, LookupError)
"""What jsonschema raises on schemas that are none, and on numbers that no float can be."""

STEPS_MAX = 20_000
"""How many keywords one check applies: some tenths of a second. References alone can make it any number."""
MESSAGE_CHARS = 256
"""How much of a complaint costs a step."""

SERVERS = ("pattern", "uniqueItems", "unevaluatedItems", "unevaluatedProperties")
"""The keywords that are left to the server."""

PATTERNED = '"patternProperties"'


class _Steps:
    """Counts what a check does, and ends it."""

    def __init__(self) -> None:
        self.left = STEPS_MAX

    def counted(self, keyword: Callable[..., Any]) -> Callable[..., Any]:
        """Give a keyword's function. Each use is a step; a list of values is as many, and so is a long complaint."""

        def apply(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:  # as jsonschema has them
            self._take(len(cast("list[object]", value)) if isinstance(value, list) else 1)
            for problem in keyword(validator, value, instance, schema) or ():
                self._take(len(problem.message) // MESSAGE_CHARS)  # it quotes what it is about, however large
                yield problem

        return apply

    def _take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise RecursionError


@dataclass(frozen=True, slots=True)
class RemoteArguments:
    """The arguments of a tool that a server describes. `validator` is None where only the server can check them."""

    schema: dict[str, Any]
    description: str
    validator: Validator | None = field(repr=False)
    steps: _Steps = field(default_factory=_Steps, repr=False, compare=False)
    context: str | None = CONTEXT

    def parse(self, text: str) -> dict[str, object]:
        """Check JSON text against the schema. Raises `Invalid` with what to correct."""
        try:
            given: object = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Invalid(text[:80], f"arguments: this is not JSON: {error}") from error
        if not isinstance(given, dict):
            raise Invalid(text[:80], "arguments: give an object with the arguments by name")
        advice = self._advice(cast("dict[str, object]", given))
        if advice:
            raise Invalid(text[:80], advice)
        return {GIVEN: cast("object", given)}

    def _advice(self, given: dict[str, object]) -> str:
        if self.validator is None:
            return ""
        self.steps.left = STEPS_MAX
        told: list[str] = []
        try:
            for problem in self.validator.iter_errors(cast("Any", given)):
                if len(told) == PROBLEMS_SHOWN_MAX:
                    told.append("and more")
                    break
                told.append(_problem(problem))
        except BEYOND_US:
            return ""  # the schema is beyond us, and the server checks for itself
        return "; ".join(told)


def arguments_of(schema: dict[str, Any], description: str) -> RemoteArguments:
    """Take a server's schema. Raises `Invalid` if it is not a schema of an object."""
    if schema.get("type", "object") != "object":
        raise Invalid(str(schema.get("type")), "the schema of a tool's arguments is of type object")
    checks = cast("Any", validators)  # Any: its classes are made at runtime
    try:
        kind = checks.validator_for(schema, default=checks.Draft202012Validator)
        kind.check_schema(schema)
    except (SchemaError, *BEYOND_US) as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise Invalid(str(schema)[:80], f"this is not a JSON Schema: {why}") from error
    whole: dict[str, Any] = {"type": "object", "properties": {}, **schema}
    if PATTERNED in json.dumps(schema):
        return RemoteArguments(whole, description, None)
    steps = _Steps()
    keywords = {name: steps.counted(keyword) for name, keyword in kind.VALIDATORS.items()}
    checking = checks.extend(kind, keywords | dict.fromkeys(SERVERS))
    alone = cast("Any", Registry)()  # an empty registry of its own: without one, references would be fetched
    return RemoteArguments(whole, description, cast("Validator", checking(whole, registry=alone)), steps)


def _problem(problem: ValidationError) -> str:
    where = ".".join(str(part) for part in problem.absolute_path) or "arguments"
    return f"{where}: {problem.message}"[:PROBLEM_CHARS_MAX]
