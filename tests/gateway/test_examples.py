"""Each answer that the OpenAPI document shows an example of is one that its own schema allows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
from playhead.adapters.memory import MemoryQueue, MemorySessionLog
from playhead_gateway.app import create_app
from playhead_gateway.examples import EXAMPLES

from tests.gateway.access.support import a_key, access_file, authenticator, key_table
from tests.gateway.support import World

OTHERS = ("/v1/responses", "/v1/models", "/v1/stream", "/agui", "/ui/")
"""Their shapes are those of their own specifications."""


def operations(folder: Path) -> list[tuple[str, str, dict[str, Any]]]:
    parts = World(MemorySessionLog(), MemoryQueue()).parts()
    app = create_app(replace(parts, authenticate=authenticator(access_file(folder, key_table(a_key())))))
    paths = app.openapi()["paths"]
    return [(method.upper(), path, said) for path, methods in paths.items() for method, said in methods.items()]


def test_every_answer_of_ours_has_an_example_that_its_schema_allows(tmp_path: Path) -> None:
    shown: set[tuple[str, str]] = set()
    for method, path, said in operations(tmp_path):
        for status, answer in said["responses"].items():
            whole = answer.get("content", {}).get("application/json")
            if status.startswith("2") and whole is not None and not path.startswith(OTHERS):
                jsonschema.validate(whole["example"], whole["schema"])
                shown.add((method, path))
    assert shown == EXAMPLES.keys()


def test_refusals_are_shown_as_they_are(tmp_path: Path) -> None:
    for method, path, said in operations(tmp_path):
        for status in ("4XX", "5XX"):
            refused = said["responses"][status]["content"]["application/problem+json"]
            for code, example in refused["examples"].items():
                jsonschema.validate(example["value"], refused["schema"])
                assert example["value"]["code"] == code, (method, path)
                assert str(example["value"]["status"])[0] == status[0]
