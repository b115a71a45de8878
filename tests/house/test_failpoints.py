"""Whatever leaves something behind has a failpoint, and no service does it in another way.

The ports say what there is to do, the services' source says who does what of it, and the registry of failpoints must
say the same. What a test cannot see in the source is in a table here, with its reason.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from playhead.accept import genesis
from playhead.adapters.failing import FailingArchive, FailingLog, FailingQueue
from playhead.archive import Archive
from playhead.failpoints import BOUNDARIES, OWNER_POINTS, POINTS, WORKER_POINTS, Faults
from playhead.ids import SessionId
from playhead.log import SessionLog
from playhead.queue import Member, Queue, Topics, TopicSpec
from playhead_orchestrator.model import Model

ROOT = Path(__file__).parents[2]
PACKAGES = {"owner": "orchestrator", "worker": "tool_workers", "gateway": "gateway"}

WRITES: Mapping[type, Mapping[str, str]] = {
    SessionLog: {"create": "create", "append": "append", "delete": "delete"},
    Queue: {"prepare": "prepare", "publish": "publish"},
    Member: {"receive": "receive", "acknowledge": "acknowledge"},
    Archive: {"put": "put"},
    Model: {"stream": "model"},
}
"""The methods of ports that leave something behind, or outside, by the boundary that each is."""

READS: Mapping[type, Mapping[str, str]] = {
    SessionLog: {"read": "reads", "end": "reads"},
    Queue: {
        "join": "what a member does is in `Member`; a group that has had a member is as it was",
        "replay": "reads",
        "partition_of": "computes",
    },
    Member: {},
    Archive: {"get": "reads"},
    Model: {"provider": "a name", "close": "frees what this process holds"},
}
"""Those that do not, and why not."""

RECEIVERS = {
    "log": SessionLog,
    "_log": SessionLog,
    "queue": Queue,
    "_queue": Queue,
    "member": Member,
    "_member": Member,
    "archive": Archive,
    "model": Model,
}
"""By what names services hold their ports."""

PUBLISHING = ("publish", "surely")
"""Methods that publish, or hand on to one that does: their first argument is the topic."""

FORWARDERS: Mapping[str, frozenset[str]] = {
    "orchestrator/playhead_orchestrator/parts.py: OrchestratorParts.publish": frozenset(),  # its callers name the topic
    "tool_workers/playhead_tool_workers/reports.py: Sender.surely": frozenset(),  # its callers name the topic
    "gateway/playhead_gateway/intake.py: Publisher.__call__": frozenset({"requests"}),  # its topic is given when made
    "gateway/playhead_gateway/deliveries.py: Deliveries.deliver": frozenset({"results"}),  # so is this one's
    "gateway/playhead_gateway/redrive.py: Redrive._send": frozenset({"requests", "results", "tools"}),  # as it was sent
}
"""Where a topic comes from elsewhere, and of which kinds it may be."""

UNARMED = {
    "cli/playhead_cli/arming.py": "puts the failpoints in",
    "cli/playhead_cli/doctor.py": "an operator's command: it tries whether a store can be written",
    "cli/playhead_cli/roles.py: create_topics": "an operator's command: it may be given again",
}
"""Who may take a port as the store gives it."""


def kinds() -> frozenset[str]:
    """Give the kinds of topics that there are: what of `Topics` is one topic, or one for each pool."""
    found = set[str]()
    for name, value in vars(Topics).items():
        function = value.fget if isinstance(value, property) else value
        if inspect.isfunction(function) and get_type_hints(function).get("return") is TopicSpec:
            found.add(name)
    return frozenset(found)


def methods(port: type) -> set[str]:
    return {name for name in vars(port) if not name.startswith("_")}


def last_name(node: ast.expr) -> str:
    """Give the last name of `a.b.c`: what it is called where it is used."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(attr=name):
            return name
        case _:
            return ""


class Sources(ast.NodeVisitor):
    """Reads one file: which boundaries its code is, and what it does that cannot be followed."""

    def __init__(self, path: Path) -> None:
        self.file = path.relative_to(ROOT).as_posix()
        self.boundaries = set[str]()
        self.points = set[str]()
        self.strange = list[str]()
        self._scope = list[str]()
        self._known = dict[str, ast.expr]()
        self._called = set[ast.expr]()
        self.visit(ast.parse(path.read_text("utf-8")))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for one in ast.walk(node):
            self._note_assigned(one)
        self._within(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for one in ast.walk(node):
            self._note_assigned(one)
        self._within(node)

    def _within(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._scope.append(node.name)
        self.generic_visit(node)
        self._scope.pop()

    def _note_assigned(self, node: ast.AST) -> None:
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                self._known |= {ast.unparse(name): value for name, value in zip(names, values, strict=False)}
            case ast.Assign(targets=[name], value=value):
                self._known[ast.unparse(name)] = value
            case _:
                pass

    def visit_Call(self, node: ast.Call) -> None:
        match node.func:
            case ast.Attribute(value=receiver, attr=method):
                self._called.add(node.func)
                self._called_method(node, receiver, method)
            case _:
                pass
        if last_name(node.func) == "reach" and node.args and isinstance(node.args[0], ast.Constant):
            self.points.add(str(node.args[0].value))
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """A method of a port that is handed on is called where nobody looks."""
        port = RECEIVERS.get(last_name(node.value))
        if port is not None and node.attr in WRITES[port] and node not in self._called:
            self.strange.append(f"{self._place}: {ast.unparse(node)} is handed on")
        self.generic_visit(node)

    def _called_method(self, node: ast.Call, receiver: ast.expr, method: str) -> None:
        port = RECEIVERS.get(last_name(receiver))
        if method in PUBLISHING:
            of = self._kinds(node.args[0])
            self.boundaries |= {f"publish.{kind}" for kind in of}
            if not of and self._place not in FORWARDERS:
                self.strange.append(f"{self._place}: nobody can see which topic {ast.unparse(node)} is to")
        elif port is not None and method in WRITES[port]:
            self.boundaries.add(WRITES[port][method])
        elif method in ("acknowledge", "prepare"):
            self.strange.append(f"{self._place}: {ast.unparse(node.func)} is called by a name that is not looked for")

    def _kinds(self, topic: ast.expr) -> set[str]:
        """Find the kinds of topics that an expression, or what it was assigned, names."""
        topic = self._known.get(ast.unparse(topic), topic)
        found = {
            one.attr
            for one in ast.walk(topic)
            if isinstance(one, ast.Attribute) and last_name(one.value) in ("topics", "_topics") and one.attr in kinds()
        }
        return found or set(FORWARDERS.get(self._place, ()))

    @property
    def _place(self) -> str:
        return f"{self.file}: {'.'.join(self._scope)}"


def sources(folder: str) -> Iterator[Sources]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        if path.name != "failing.py":
            yield Sources(path)


def boundaries_in_cli() -> dict[str, set[str]]:
    """Find what the composition root does in the name of a role: `….ports("worker").queue.prepare(…)`."""
    found: dict[str, set[str]] = {role: set() for role in PACKAGES}
    for path in sorted((ROOT / "cli").rglob("*.py")):
        text = path.read_text("utf-8")
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.Attribute(
                    value=ast.Attribute(value=ast.Call(args=[ast.Constant(value=role)]) as call), attr=method
                ):
                    if last_name(call.func) == "ports":
                        found[str(role)].add(method)
                case _:
                    pass
    return found


@pytest.mark.parametrize("port", WRITES, ids=lambda port: port.__name__)
def test_of_every_method_of_a_port_it_is_known_whether_it_leaves_something_behind(port: type) -> None:
    assert methods(port) == WRITES[port].keys() | READS[port].keys()
    assert not WRITES[port].keys() & READS[port].keys()


def test_the_name_of_a_topic_tells_its_kind() -> None:
    topics = Topics(prefix="a.b")
    for kind in kinds():
        found = getattr(topics, kind)
        assert topics.kind_of((found if isinstance(found, TopicSpec) else found("a-pool")).name) == kind


def test_to_publish_to_each_kind_of_topic_is_a_boundary_of_somebody() -> None:
    published = {boundary for boundaries in BOUNDARIES.values() for boundary in boundaries}
    assert {f"publish.{kind}" for kind in kinds()} == {one for one in published if one.startswith("publish.")}


@pytest.mark.parametrize("role", PACKAGES)
def test_what_a_role_does_that_leaves_something_behind_is_what_has_failpoints(role: str) -> None:
    found = boundaries_in_cli()[role] & {"prepare", "create", "append", "delete"}
    for source in sources(PACKAGES[role]):
        assert source.strange == []
        found |= source.boundaries
    assert found == set(BOUNDARIES[role])


def test_the_tables_of_this_test_have_nothing_that_is_gone() -> None:
    seen = {
        f"{source.file}: {'.'.join(place)}"
        for folder in PACKAGES.values()
        for source in sources(folder)
        for place in places(ast.parse((ROOT / source.file).read_text("utf-8")))
    }
    assert set(FORWARDERS) <= seen


def places(tree: ast.AST, scope: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for node in ast.iter_child_nodes(tree):
        named = isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        inner = (*scope, node.name) if named else scope
        if named:
            yield inner
        yield from places(node, inner)


@pytest.mark.parametrize(("role", "registered"), [("owner", OWNER_POINTS), ("worker", WORKER_POINTS)])
def test_the_points_between_boundaries_are_those_that_services_come_to(role: str, registered: tuple[str, ...]) -> None:
    assert {point for source in sources(PACKAGES[role]) for point in source.points} == set(registered)


def test_no_point_has_two_names() -> None:
    assert len(set(POINTS)) == len(POINTS)


def test_the_ports_that_services_are_handed_are_those_with_failpoints() -> None:
    bare = list[str]()
    for path in sorted((ROOT / "cli").rglob("*.py")):
        file, tree = path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8"))
        for place, node in _placed(tree):
            is_port = (
                isinstance(node, ast.Attribute) and last_name(node.value) == "store" and node.attr in ("log", "queue")
            )
            if is_port and file not in UNARMED and f"{file}: {place}" not in UNARMED:
                bare.append(f"{file}: {place}")
    assert bare == []


def _placed(tree: ast.AST, place: str = "") -> Iterator[tuple[str, ast.AST]]:
    for node in ast.iter_child_nodes(tree):
        named = isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        inner = node.name if named else place
        yield inner, node
        yield from _placed(node, inner)


def test_no_service_makes_a_store_of_its_own() -> None:
    for folder in PACKAGES.values():
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not any(name.startswith("playhead.adapters") for name in names), path


class Sealed:
    """A port whose methods note that they were called, whatever with."""

    def __init__(self, seen: list[str]) -> None:
        self._seen = seen

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def called(*_: object, **__: object) -> Any:
            self._seen.append(method)
            return _done()

        return called


async def _done() -> None:
    """Nothing is to be done."""


SESSION = SessionId("ses_any")
TOPICS = Topics()

Wrapped = Callable[[Any, Faults], Coroutine[None, None, object]]

CALLS: Mapping[tuple[type, str], tuple[str, Wrapped]] = {
    (SessionLog, "create"): ("gateway.create", lambda port, faults: FailingLog(port, "gateway", faults).create()),
    (SessionLog, "append"): (
        "owner.append",
        lambda port, faults: FailingLog(port, "owner", faults).append(SESSION, genesis(SESSION), ()),
    ),
    (Queue, "prepare"): ("owner.prepare", lambda port, faults: FailingQueue(port, TOPICS, "owner", faults).prepare()),
    (Queue, "publish"): (
        "owner.publish.tools",
        lambda port, faults: FailingQueue(port, TOPICS, "owner", faults).publish(TOPICS.tools("any").name, "", b""),
    ),
    (Archive, "put"): (
        "worker.put",
        lambda port, faults: FailingArchive(port, "worker", faults).put(SESSION, "name", b""),
    ),
}


@pytest.mark.parametrize(("port", "method"), CALLS, ids=lambda one: one if isinstance(one, str) else one.__name__)
async def test_a_wrapper_comes_to_the_point_before_then_does_it_then_comes_to_the_point_after(
    port: type, method: str
) -> None:
    seen = list[str]()
    boundary, call = CALLS[port, method]
    await call(Sealed(seen), Faults(seen.append, lambda _: None))
    assert seen == [f"{boundary}.before", method, f"{boundary}.after"]


def test_the_wrappers_are_tried_for_all_that_somebody_does() -> None:
    done = {boundary.partition(".")[0] for boundaries in BOUNDARIES.values() for boundary in boundaries}
    tried_elsewhere = {"receive", "acknowledge", "model"}  # in tests/failpoints/test_points.py, where they can go wrong
    wrapped = {WRITES[port][method] for port, method in CALLS}
    assert done == wrapped | tried_elsewhere
