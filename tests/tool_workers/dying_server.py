"""An MCP server as a program of its own, which says what it was given and dies when it is told to."""

from __future__ import annotations

import os
import sys

from mcp.server.mcpserver import MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("dying")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def pid() -> str:
    """Say which process this is."""
    return str(os.getpid())


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def environment() -> str:
    """Say what variables there are, and the secret."""
    return f"{' '.join(sorted(os.environ))} / {os.environ.get('TOKEN')}"


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def die() -> str:
    """End the process at once."""
    os._exit(3)


if __name__ == "__main__":
    if "--broken" in sys.argv:
        sys.exit(f"cannot start: the token {os.environ.get('TOKEN')} is refused")
    server.run("stdio")
