"""The client that every command which talks to a gateway uses, with the credential of whoever runs it."""

from __future__ import annotations

import os

from playhead.client import Client

__all__ = ["TOKEN", "client_of"]

TOKEN = "PLAYHEAD_TOKEN"
"""An API key or a token of the gateway's issuer. A variable and no flag: what is on a command line, others can read."""


def client_of(url: str) -> Client:
    """Make a client of the gateway at a URL."""
    return Client(url, os.environ.get(TOKEN) or None)
