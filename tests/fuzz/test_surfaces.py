"""Every surface is tried: each module that reads what others wrote, each route, each method, each type of command."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from playhead.commands import command_types
from playhead.events import event_types
from playhead_gateway.grpc import sessions_pb2 as pb
from playhead_gateway.sockets.commands import KINDS

from tests.fuzz.asked import http_seeds, message_seeds
from tests.fuzz.called import METHODS
from tests.fuzz.stored import PLAIN, stored_values
from tests.fuzz.surfaces import NOT_FROM_STRANGERS, SURFACES, TARGETS
from tests.fuzz.target import CORPUS
from tests.gateway.test_openapi import DOCUMENT

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "core": "playhead",
    "gateway": "playhead_gateway",
    "orchestrator": "playhead_orchestrator",
    "tool_workers": "playhead_tool_workers",
}
READS = re.compile(
    r"\b(?:orjson|json)\.loads|model_validate|validate_json|validate_python|FromString|read_body\(|urlsplit\(|fullmatch\("
)
"""What those call that take apart what others wrote."""


def readers() -> set[str]:
    found: set[str] = set()
    for folder, package in PACKAGES.items():
        for path in (ROOT / folder / package).rglob("*.py"):
            if READS.search(path.read_text()) and not path.name.endswith("_pb2.py"):
                found.add(".".join(path.relative_to(ROOT / folder).with_suffix("").parts))
    return found


def test_each_module_that_reads_what_others_wrote_has_a_target_or_a_reason_why_not():
    assert readers() <= SURFACES.keys() | NOT_FROM_STRANGERS.keys()
    assert not SURFACES.keys() & NOT_FROM_STRANGERS.keys()
    assert [name for name in (*SURFACES, *NOT_FROM_STRANGERS) if find_spec(name) is None] == []


def test_each_target_is_of_a_surface_and_each_surface_has_targets():
    names = [target.name for target in TARGETS]
    assert len(names) == len(set(names))
    assert set(names) == {name for of_one in SURFACES.values() for name in of_one} | {"javascript-client"}
    assert all(SURFACES.values())


def test_each_regression_is_of_a_target():
    assert {path.name for path in CORPUS.iterdir()} <= {target.name for target in TARGETS}


def test_each_route_is_among_the_requests_that_http_begins_with():
    asked = {b" ".join(seed.split(b"\r\n")[0].split(b" ")[:2]).decode().partition("?")[0] for seed in http_seeds()}
    for path, methods in DOCUMENT["paths"].items():
        of_path = re.compile(re.sub(r"\\\{[^}]*\\\}", "[^ ]+", re.escape(path)))
        for method in methods:
            wanted = f"{method.upper()} "
            assert any(one.startswith(wanted) and of_path.fullmatch(one.removeprefix(wanted)) for one in asked), path


def test_each_command_of_a_websocket_and_each_method_of_grpc_is_tried():
    said = b"".join(message_seeds()).decode()
    assert all(f'"type":"{kind}"' in said for kind in KINDS)
    assert set(METHODS) == set(pb.DESCRIPTOR.services_by_name["Sessions"].methods_by_name)


def test_each_type_of_command_and_of_event_is_among_the_stored_values():
    assert {PLAIN.kind(value) for value in stored_values() if value[:1] == b"\xc3"} == {
        *command_types(),
        *event_types(),
    }
