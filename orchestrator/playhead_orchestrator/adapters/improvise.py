"""What the scripted model does when no scenario tells it: rules over the words of the request. Pure, always the same.

It uses the tools whose names or descriptions share words with what the user said, all at once, and then tells what they
returned. It says that it is a script: nobody should take it for a language model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson

from playhead_orchestrator.adapters.scenario import Say, Step, Think, Use
from playhead_orchestrator.model import Block, ModelRequest, ToolOffer

__all__ = ["improvise"]

CALLS_MAX = 4
QUOTED_CHARACTERS_MAX = 600
"""How much of a tool's result is quoted in an answer."""
ASKED_CHARACTERS_MAX = 4000
"""How much of what the user said is searched for words."""
DEPTH_MAX = 5
"""How deep a schema is followed for an argument."""

I_AM = "I am Playhead's scripted model: I follow rules over words and am no language model."

WORD = re.compile(r"[^\W\d_]{3,}")
QUOTED = re.compile(r"[\"“”„«»]([^\"“”„«»]+)[\"“”„«»]|(?<!\w)'([^']+)'(?!\w)")
NAME = re.compile(r"[A-Z]\w+(?:[ /_-][A-Z]\w+)*")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
EXPRESSION = re.compile(r"\(*-?\d[\d.]*(?:[\s()]*(?:\*\*|//|[-+*/%])[\s()]*-?\d[\d.]*)+\)*")
SENTENCE_END = re.compile(r"(?:^|[.!?]\s+)$")
SMALL_WORDS = """
about all also and any are ask can call compare could did does each every find for from get give given had has have
hello help her him his how into its know let like many may more much need new not one our out please return returns say
she should show some such tell than thank thanks that the their them then there they this tool two use using want was
were what when where which who why will with work would you your
"""
COMMON = frozenset(SMALL_WORDS.split())
WHOLE_TEXT = {"text", "content", "message", "body", "question", "input", "prompt", "query"}
"""The names of arguments that take what the user said, not a name in it."""


def improvise(request: ModelRequest, asked: str, results: Sequence[Block]) -> list[Step]:
    """Decide what to say to the last thing that the user asked, given the results of the calls made for it so far."""
    if results:
        return [Think("The tools have returned. I quote what they say."), Say(_quote(results))]
    uses = _uses(request.tools, asked[:ASKED_CHARACTERS_MAX])
    if uses:
        names = ", ".join(dict.fromkeys(use.tool for use in uses))
        return [Think(f"Words of the question match {names}."), Say("Let me look that up. "), *uses]
    return [Think("No tool's words match the question."), Say(_explain(request.tools, asked))]


def _explain(tools: Sequence[ToolOffer], asked: str) -> str:
    said = f"You said: “{asked[:QUOTED_CHARACTERS_MAX]}”. {I_AM} "
    if not tools:
        return said + "I have no tools here, so all that I can do is repeat it."
    names = ", ".join(tool.name for tool in tools)
    return f"{said}Use words from the name or the description of one of my tools and I will call it: {names}."


def _quote(results: Sequence[Block]) -> str:
    lines = [
        f"- {'failed: ' if result.get('is_error') else ''}{_text(result.get('content'))[:QUOTED_CHARACTERS_MAX]}"
        for result in results
    ]
    many = f"{len(lines)} calls" if len(lines) > 1 else "the call"
    return f"Here is what {many} brought:\n\n" + "\n".join(lines) + f"\n\n({I_AM})"


def _text(content: object) -> str:
    return content if isinstance(content, str) else orjson.dumps(content).decode()


def _uses(tools: Sequence[ToolOffer], asked: str) -> list[Use]:
    words, names = _words(asked), _names(asked)
    matching = [tool for tool in tools if _matches(tool, words, asked)]
    if len(matching) == 1 and _wants_name(matching[0]):
        # A question about several things is several calls of the one tool that answers such questions.
        return [_use(matching[0], asked, [name]) for name in names[:CALLS_MAX] or [""]]
    return [_use(tool, asked, names) for tool in matching[:CALLS_MAX]]


def _names(asked: str) -> list[str]:
    """Find what the user quoted, and words with a capital that no sentence's beginning explains."""
    names = [next(filter(None, found.groups())) for found in QUOTED.finditer(asked)]
    begin: list[str] = []
    for found in NAME.finditer(asked):
        if found[0].lower() not in COMMON:
            (begin if SENTENCE_END.search(asked[: found.start()]) else names).append(found[0])
    return list(dict.fromkeys(names or begin))


def _words(text: str) -> set[str]:
    return {
        word for word in (found[0].lower() for found in WORD.finditer(text.replace("_", " "))) if word not in COMMON
    }


def _shares(some: set[str], others: set[str]) -> bool:
    """Whether two sets share a word, or the beginning of one (`order`, `orders`)."""
    return any(
        one == other or (min(len(one), len(other)) >= 4 and (one.startswith(other) or other.startswith(one)))
        for one in some
        for other in others
    )


def _matches(tool: ToolOffer, words: set[str], asked: str) -> bool:
    if "expression" in _required(tool.input_schema) and EXPRESSION.search(asked):
        return True
    return _shares(words, _words(tool.name) | _words(tool.description))


def _required(schema: Mapping[str, Any]) -> list[str]:
    return [str(name) for name in schema.get("required") or ()]


def _wants_name(tool: ToolOffer) -> bool:
    required = _required(tool.input_schema)
    properties: Mapping[str, Any] = tool.input_schema.get("properties") or {}
    if len(required) != 1 or required[0] in WHOLE_TEXT | {"expression"}:
        return False
    schema = properties.get(required[0])
    return isinstance(schema, dict) and "enum" not in schema and cast("Block", schema).get("type") == "string"


def _use(tool: ToolOffer, asked: str, names: list[str]) -> Use:
    filling = _Filling(asked, names, tool.input_schema)
    return Use(tool.name, orjson.dumps(filling.object(tool.input_schema, DEPTH_MAX)).decode())


class _Filling:
    """Makes up arguments from what the user said: each name and number is used once, as long as there are any."""

    def __init__(self, asked: str, names: list[str], root: Mapping[str, Any]) -> None:
        self._asked = asked
        self._root = root
        self._names = list(names)
        self._numbers = [float(found[0]) for found in NUMBER.finditer(asked)]

    def object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties: Mapping[str, Any] = schema.get("properties") or {}
        return {name: self.value(name, properties.get(name) or {}, depth - 1) for name in _required(schema)}

    def value(self, name: str, schema: Mapping[str, Any], depth: int) -> Any:
        schema = self._simple(schema)
        if "default" in schema:
            return schema["default"]
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            options: list[Any] = schema["enum"]
            return next((one for one in options if str(one).lower() in self._asked.lower()), options[0])
        match schema.get("type"):
            case "integer":
                return int(self._number(schema))
            case "number":
                return self._number(schema)
            case "boolean":
                return True
            case "null":
                return None
            case "array":
                return [] if depth <= 0 else [self.value(name, schema.get("items") or {}, depth - 1)]
            case "object":
                return {} if depth <= 0 else self.object(schema, depth)
            case _:
                return self._string(name)

    def _simple(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Follow references and choices to a schema that has one type."""
        definitions: Mapping[str, Any] = self._root.get("$defs") or {}
        for _ in range(DEPTH_MAX):
            if "$ref" in schema:
                schema = definitions.get(str(schema["$ref"]).rpartition("/")[2]) or {}
            options: list[Block] = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf") or []
            schema = next((one for one in options if one.get("type") != "null"), schema)
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return {**schema, "type": next((one for one in cast("list[object]", kinds) if one != "null"), "null")}
        return schema

    def _number(self, schema: Mapping[str, Any]) -> float:
        number = self._numbers.pop(0) if self._numbers else 1.0
        low, high = schema.get("minimum", number), schema.get("maximum", number)
        return min(max(number, low), max(high, low))

    def _string(self, name: str) -> str:
        if name in ("expression", "formula"):
            found = EXPRESSION.search(self._asked)
            return found[0].strip() if found else self._asked
        if name in WHOLE_TEXT:
            quoted = QUOTED.search(self._asked)
            return next(filter(None, quoted.groups())) if quoted else self._asked
        if len(self._names) > 1:
            return self._names.pop(0)
        if self._names and self._names[0]:
            return self._names[0]
        return next((found[0] for found in NUMBER.finditer(self._asked)), self._asked)
