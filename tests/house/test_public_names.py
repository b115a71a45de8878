"""Public means: in `__all__` (STYLE 9)."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

PACKAGES = (
    "playhead",
    "playhead_cli",
    "playhead_gateway",
    "playhead_orchestrator",
    "playhead_schemas",
    "playhead_tool_workers",
)


def modules() -> Iterator[str]:
    for package in PACKAGES:
        yield package
        found = importlib.import_module(package)
        yield from (module.name for module in pkgutil.walk_packages(found.__path__, f"{package}."))


@pytest.mark.parametrize("name", sorted(modules()))
def test_what_a_module_says_is_public_is_there_once(name: str):
    module = importlib.import_module(name)
    public = list(getattr(module, "__all__", ()))
    assert len(public) == len(set(public))
    assert [one for one in public if not hasattr(module, one)] == []


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_module_with_content_says_what_is_public(name: str):
    module = importlib.import_module(name)
    defined = [
        one
        for one, value in vars(module).items()
        if not one.startswith("_") and getattr(value, "__module__", None) == name and callable(value)
    ]
    if defined:
        assert hasattr(module, "__all__"), f"{name} defines {defined} and has no __all__"
