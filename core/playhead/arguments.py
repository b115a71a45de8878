"""What a tool takes: from a function's type hints and docstring to a JSON Schema, and from JSON text to arguments.

pydantic reads the hints, griffe the docstring. This module is imported when the first tool is declared, so that
`import playhead` loads neither. It does not know what a tool is.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from playhead.errors import Invalid, Misconfigured

__all__ = ["Arguments", "HintedArguments", "describe"]

PROBLEMS_SHOWN_MAX = 5
"""How many problems of invalid arguments the model is told of at a time."""
PROBLEM_CHARS_MAX = 300

Style = Literal["sphinx", "numpy", "google"]

STYLES: Mapping[Style, re.Pattern[str]] = {
    "sphinx": re.compile(r"^\s*:(param|type|returns?|raises?)\b", re.M),
    "numpy": re.compile(r"^\s*(Parameters|Returns|Raises|Yields|Notes|Examples)\s*\n\s*-{3,}", re.M),
    "google": re.compile(r"^\s*(Args|Arguments|Parameters|Params|Returns|Raises|Yields|Notes?|Examples?):\s*$", re.M),
}
"""How docstrings with more than a description are told apart; griffe is imported for those only."""


class Arguments(Protocol):
    """What a tool takes, wherever that is written down."""

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema, an object's."""
        ...

    @property
    def description(self) -> str:
        """What the tool does, in the words of who wrote it."""
        ...

    @property
    def context(self) -> str | None:
        """The parameter that the worker fills in, which the schema does not show."""
        ...

    def parse(self, text: str) -> dict[str, object]:
        """Check JSON text against the schema and give the arguments by name. Raises `Invalid` with what to correct."""
        ...


@dataclass(frozen=True, slots=True)
class HintedArguments:
    """What a function takes, by its type hints and its docstring."""

    schema: dict[str, Any]
    description: str
    context: str | None
    model: type[BaseModel]
    fields: tuple[tuple[str, str], ...]
    """By position: a field of `model` (whose names cannot clash with anything) and the parameter it stands for."""

    def parse(self, text: str) -> dict[str, object]:
        """Check JSON text and give the arguments by name. Raises `Invalid` with what to correct."""
        try:
            parsed = self.model.model_validate_json(text)
        except ValidationError as error:
            raise Invalid(text[:80], _advice(error)) from error
        return {parameter: getattr(parsed, field) for field, parameter in self.fields}


def describe(function: Callable[..., object], name: str, hidden: type[object]) -> HintedArguments:
    """Read a function's hints and docstring. Raises `Misconfigured`, which says what to change.

    A parameter annotated `hidden` (perhaps `| None`) is left out of the schema.
    """
    description, documented = _read_docstring(inspect.getdoc(function) or "")
    hints = _hints(function, name)
    context: str | None = None
    fields: dict[str, Any] = {}
    shown: list[tuple[str, str]] = []
    for parameter in inspect.signature(function).parameters.values():
        hint = _hint(parameter, hints, name)
        if hint is hidden or hidden in get_args(hint):
            if context is not None:
                raise Misconfigured(f"tool {name}: only one parameter can be a {hidden.__name__}")
            context = parameter.name
            continue
        field = f"field_{len(shown)}"
        shown.append((field, parameter.name))
        default = ... if parameter.default is parameter.empty else parameter.default
        text = documented.get(parameter.name)
        fields[field] = (Annotated[hint, _field(hint, parameter.name, text)], default)
    model = _model(name, fields)
    return HintedArguments(_schema(model, name), description, context, model, tuple(shown))


def _hints(function: Callable[..., object], name: str) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        raise Misconfigured(
            f"tool {name}: the type hints name {error.name!r}, which does not exist when the tool is declared; "
            "define or import it at the top of the module, not under TYPE_CHECKING"
        ) from error


def _hint(parameter: inspect.Parameter, hints: Mapping[str, Any], name: str) -> Any:
    match parameter.kind:
        case parameter.VAR_POSITIONAL | parameter.VAR_KEYWORD:
            raise Misconfigured(f"tool {name}: a model cannot fill {parameter}; name each parameter")
        case parameter.POSITIONAL_ONLY:
            raise Misconfigured(f"tool {name}: parameter {parameter.name} is positional-only; remove the `/`")
        case _:
            pass
    if parameter.name not in hints:
        raise Misconfigured(f"tool {name}: parameter {parameter.name} needs a type hint")
    return hints[parameter.name]


def _field(hint: Any, parameter: str, description: str | None) -> Any:
    own = FieldInfo.from_annotation(hint).description
    # What the hint itself says (`Annotated[int, Field(description=…)]`) is closer to the parameter than the docstring.
    return Field(alias=parameter, description=own or description)


def _model(name: str, fields: dict[str, Any]) -> type[BaseModel]:
    try:
        return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
    except PydanticUserError as error:
        raise Misconfigured(f"tool {name}: a type hint is not something JSON can carry: {_first(error)}") from error


class _Untitled(GenerateJsonSchema):
    """A JSON Schema without a title at each property: they only repeat its name and cost tokens."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _schema(model: type[BaseModel], name: str) -> dict[str, Any]:
    try:
        schema = model.model_json_schema(schema_generator=_Untitled)
    except PydanticUserError as error:
        raise Misconfigured(f"tool {name}: no JSON Schema for its type hints: {_first(error)}") from error
    schema.pop("title", None)
    return schema


def _first(error: Exception) -> str:
    return str(error).split("\n", maxsplit=1)[0].split(". ", maxsplit=1)[0]


def _advice(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    told = [
        f"{'.'.join(str(part) for part in problem['loc']) or 'arguments'}: {problem['msg']}"[:PROBLEM_CHARS_MAX]
        for problem in problems[:PROBLEMS_SHOWN_MAX]
    ]
    if len(problems) > PROBLEMS_SHOWN_MAX:
        told.append(f"and {len(problems) - PROBLEMS_SHOWN_MAX} more")
    return "; ".join(told)


def _read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """Give a docstring's description and what it says of each parameter, in Google's, numpy's or Sphinx's style."""
    style: Style | None = next((style for style, sign in STYLES.items() if sign.search(text)), None)
    if style is None:
        return text, {}
    from griffe import Docstring, DocstringSectionParameters, DocstringSectionText  # noqa: PLC0415 - 70 ms to import

    parsed = Docstring(text, parser=style, parser_options={"warnings": False}).parse()
    description = ""
    documented: dict[str, str] = {}
    for section in parsed:
        if isinstance(section, DocstringSectionText) and not description:
            description = section.value.strip()
        elif isinstance(section, DocstringSectionParameters):
            documented |= {parameter.name: " ".join(parameter.description.split()) for parameter in section.value}
    return description, documented
