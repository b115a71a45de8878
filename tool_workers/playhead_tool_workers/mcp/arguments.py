"""What an MCP tool takes: its own JSON Schema, and the check of a model's arguments against it.

References are resolved within the schema alone: nothing is fetched. Regular expressions are left to the server: one of
a stranger could keep the whole worker busy.
"""

from __future__ import annotations

import json
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

PATTERNED = '"patternProperties"'


@dataclass(frozen=True, slots=True)
class RemoteArguments:
    """The arguments of a tool that a server describes. `validator` is None where only the server can check them."""

    schema: dict[str, Any]
    description: str
    validator: Validator | None = field(repr=False)
    context: str | None = CONTEXT

    def parse(self, text: str) -> dict[str, object]:
        """Check JSON text against the schema. Raises `Invalid` with what to correct."""
        try:
            given: object = json.loads(text)
        except ValueError as error:
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
        told: list[str] = []
        try:
            for problem in self.validator.iter_errors(cast("Any", given)):
                if len(told) == PROBLEMS_SHOWN_MAX:
                    told.append("and more")
                    break
                told.append(_problem(problem))
        except (Unresolvable, RecursionError):
            return ""  # the schema is beyond us, and the server checks for itself
        return "; ".join(told)


def arguments_of(schema: dict[str, Any], description: str) -> RemoteArguments:
    """Take a server's schema. Raises `Invalid` if it is not a schema of an object."""
    if schema.get("type", "object") != "object":
        raise Invalid(str(schema.get("type")), "the schema of a tool's arguments is of type object")
    checks = cast("Any", validators)  # Any: its classes are made at runtime
    kind = checks.validator_for(schema, default=checks.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except (SchemaError, RecursionError) as error:
        raise Invalid(str(schema)[:80], f"this is not a JSON Schema: {str(error).splitlines()[0]}") from error
    whole: dict[str, Any] = {"type": "object", "properties": {}, **schema}
    if PATTERNED in json.dumps(schema):
        return RemoteArguments(whole, description, None)
    checking = checks.extend(kind, {"pattern": None})
    alone = cast("Any", Registry)()  # an empty registry of its own: without one, references would be fetched
    return RemoteArguments(whole, description, cast("Validator", checking(whole, registry=alone)))


def _problem(problem: ValidationError) -> str:
    where = ".".join(str(part) for part in problem.absolute_path) or "arguments"
    return f"{where}: {problem.message}"[:PROBLEM_CHARS_MAX]
