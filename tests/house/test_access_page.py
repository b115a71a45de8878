"""What docs/access.md shows is what the gateway reads."""

from __future__ import annotations

import re
from pathlib import Path

from playhead_gateway.access.rules import read_rules
from playhead_gateway.principal import SCOPES

PAGE = (Path(__file__).parents[2] / "docs" / "access.md").read_text("utf-8")


def test_the_access_file_of_the_page_is_one_that_is_read():
    [shown] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    rules = read_rules(shown, {"SIGNING_SECRET": "s" * 32})
    [key] = rules.keys.values()
    assert (key.name, key.tenant, key.granted.quotas.streams) == ("ci", "acme", 100)
    assert rules.tenants["acme"].quotas.runs == 200
    assert rules.issuer is not None
    assert rules.stream_seconds == 3600
    assert str(rules.stream_seconds) in PAGE


def test_each_scope_is_explained_and_no_other():
    assert set(re.findall(r"^\| `([a-z:]+)` \|", PAGE, re.MULTILINE)) == SCOPES
