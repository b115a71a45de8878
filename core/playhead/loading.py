"""Finding a team's agents and tools: in a Python file or module, named on a command line.

Importing it runs the user's code, and whatever goes wrong there is told with the line of theirs where it happened.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import cast

from playhead.agents import Agent
from playhead.errors import Misconfigured
from playhead.ids import digest
from playhead.lifespan import Lifespan
from playhead.tools import Tool, distinct

__all__ = ["App", "load_app"]


@dataclass(frozen=True, slots=True)
class App:
    """What a reference leads to. Names are distinct, and at most one agent is the default."""

    agents: tuple[Agent, ...]
    tools: tuple[Tool[..., object], ...]
    lifespans: tuple[Lifespan, ...] = ()


def load_app(reference: str) -> App:
    """Import `path/to/app.py` or `package.module`, perhaps with `:attribute`, and find what it defines.

    Without an attribute those are the agents and tools at module level and the tools of the agents; an attribute is an
    agent, a tool, or a list of them. Lifespans are those at module level in any case. Raises `Misconfigured`.
    """
    target, attribute = _split(reference)
    module = _import(target, reference)
    if attribute is None:
        found: Iterable[object] = vars(module).values()
    else:
        try:
            named = cast("object", getattr(module, attribute))
        except AttributeError:
            raise Misconfigured(f"{reference}: {target} defines no {attribute!r}") from None
        wanted = cast("Sequence[object]", named) if isinstance(named, list | tuple) else (named,)
        # What a pool's tools share belongs to the pool, however they were found.
        found = (*wanted, *(each for each in vars(module).values() if isinstance(each, Lifespan)))
    return _collect(tuple(found), reference)


def _split(reference: str) -> tuple[str, str | None]:
    target, colon, attribute = reference.rpartition(":")
    if colon and attribute.isidentifier():
        return target, attribute
    return reference, None


def _collect(found: Sequence[object], reference: str) -> App:
    agents: dict[str, Agent] = {}
    tools: list[Tool[..., object]] = []
    lifespans: dict[str, Lifespan] = {}
    for each in found:
        if isinstance(each, Agent):
            if agents.setdefault(each.name, each) is not each:
                raise Misconfigured(f"{reference}: two agents are named {each.name!r}; rename one")
            tools.extend(each.own_tools)
        elif isinstance(each, Tool):
            tools.append(cast("Tool[..., object]", each))
        elif isinstance(each, Lifespan) and lifespans.setdefault(each.pool, each) is not each:
            raise Misconfigured(f"{reference}: pool {each.pool!r} has two lifespans; make one of them")
    if not agents and not tools:
        raise Misconfigured(f"{reference} defines no agent and no tool: make an `Agent(…)`, or decorate with `@tool`")
    defaults = [agent.name for agent in agents.values() if agent.default]
    if len(defaults) > 1:
        raise Misconfigured(f"{reference}: agents {', '.join(defaults)} all say `default=True`; leave it to one")
    try:
        return App(tuple(agents.values()), distinct(tools), tuple(lifespans.values()))
    except Misconfigured as error:
        raise Misconfigured(f"{reference}: {error}") from error


def _import(target: str, reference: str) -> ModuleType:
    looks_like_path = target.endswith(".py") or "/" in target or "\\" in target
    if not looks_like_path:
        if not all(part.isidentifier() for part in target.split(".")):
            raise Misconfigured(f"{reference!r} is neither a Python file nor the dotted name of a module")
        return _import_module(target)
    path = Path(target).resolve()
    if not path.is_file():
        raise Misconfigured(f"there is no file {target}")
    return _import_file(path)


def _import_module(name: str) -> ModuleType:
    _search_last(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise Misconfigured(
                f"there is no module {name}: it is neither installed nor in the working folder"
            ) from error
        raise _broken(name, Path.cwd(), error) from error
    except (Exception, SystemExit) as error:
        raise _broken(name, Path.cwd(), error) from error


def _import_file(path: Path) -> ModuleType:
    for known in list(sys.modules.values()):
        if getattr(known, "__file__", None) == str(path):
            return known
    _search_last(path.parent)
    # Under its own name if that is free, so that a file beside it which imports it gets the same objects.
    name = path.stem if _finds(path) else f"playhead_app_{digest(str(path))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise Misconfigured(f"{path.name} is not a Python file: its name ends in `.py`")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _broken(path.name, path.parent, error) from error
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _finds(path: Path) -> bool:
    """Tell whether an import by the file's own name would lead to this file."""
    if not path.stem.isidentifier() or path.stem in sys.modules:
        return False
    spec = importlib.util.find_spec(path.stem)
    return spec is not None and spec.origin == str(path)


def _search_last(folder: Path) -> None:
    """Let the user's modules import each other, without letting them stand in for anybody else's."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _broken(name: str, folder: Path, error: BaseException) -> Misconfigured:
    """Say what failed and on which line of the user's."""
    if isinstance(error, SyntaxError):
        return Misconfigured(f"{name} is not Python: {Path(error.filename or name).name}:{error.lineno}: {error.msg}")
    frames = traceback.extract_tb(error.__traceback__)
    # A virtual environment is often in the user's folder, but what is in it is not theirs.
    theirs = [frame for frame in frames if "site-packages" not in Path(frame.filename).parts]
    own = [frame for frame in theirs if Path(frame.filename).is_relative_to(folder)]
    where = next(iter(reversed(own or frames)), None)
    place = "" if where is None else f"{Path(where.filename).name}:{where.lineno}: {where.line}: "
    what = str(error) if isinstance(error, Misconfigured) else f"{type(error).__name__}: {error}"
    return Misconfigured(f"{name} cannot be imported: {place}{what}")
