"""`playhead keys`: making API keys. A key is shown when it is made, and nowhere keeps it."""

from __future__ import annotations

import json
import secrets

from playhead_gateway.access.keys import ENTROPY_BYTES, new_key
from playhead_gateway.access.rules import read_rules

from playhead_cli.terminal import Terminal

__all__ = ["new"]


def new(terminal: Terminal, name: str, tenant: str | None, scopes: str) -> int:
    """Make a key: what is stored of it goes to stdout, to be put into an access file; the key itself to stderr.

    Raises `Misconfigured` for a name, a tenant or a scope that cannot be.
    """
    key = new_key(secrets.token_bytes(ENTROPY_BYTES))
    entries = {"id": key.id, "name": name, "hash": key.hash, "tenant": tenant}
    lines = [f"{entry} = {_quoted(value)}" for entry, value in entries.items() if value is not None]
    named = ", ".join(_quoted(scope) for scope in scopes.replace(",", " ").split())
    table = "\n".join(["[[keys]]", *lines, f"scopes = [{named}]"])
    read_rules(table, {})
    terminal.line(table + "\n")
    terminal.note("Put that into the access file of your gateways. The key, which is shown only now:")
    terminal.note(f"\n  {key.text}\n")
    return 0


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
