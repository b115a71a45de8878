"""The Avro schemas as data: the current ones (`*.avsc`) and, in `history/`, every one that was ever released.

They are derived from the classes in `playhead.events` and `playhead.commands` by `make schemas`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

__all__ = ["load_history", "load_schemas"]

Schema = Mapping[str, Any]


def load_schemas() -> dict[str, Schema]:
    """Read the current schemas, by record name."""
    return {schema["name"]: schema for schema in _read(files(__name__))}


def load_history() -> list[Schema]:
    """Read every released schema that is no longer current."""
    return _read(files(__name__) / "history")


def _read(folder: Traversable) -> list[Schema]:
    found = (entry for entry in folder.iterdir() if entry.name.endswith(".avsc"))
    return [json.loads(entry.read_text("utf-8")) for entry in sorted(found, key=lambda entry: entry.name)]
