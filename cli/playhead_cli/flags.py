"""The flags that several commands share, each with its variable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "BROKER_WAIT_SECONDS",
    "DEFAULT_URL",
    "App",
    "AsJson",
    "Auth",
    "Data",
    "Host",
    "Kafka",
    "Mcp",
    "McpAllow",
    "McpAuth",
    "McpEffect",
    "McpEnv",
    "McpFlags",
    "McpTimeout",
    "McpWait",
    "MetricsPort",
    "Pools",
    "Port",
    "Session",
    "TlsCert",
    "TlsKey",
    "Url",
    "Wait",
    "lines_of",
]

DEFAULT_URL = "http://127.0.0.1:4141"

BROKER_WAIT_SECONDS = 0.0
"""How long a role waits for a broker that is not there; 0 is one try, which takes at most 5 s."""

Url = Annotated[str, typer.Option("--url", envvar="PLAYHEAD_URL", help="The gateway to talk to.", metavar="URL")]
AsJson = Annotated[bool, typer.Option("--json", envvar="PLAYHEAD_JSON", help="Print JSON, one value a line.")]
Session = Annotated[str, typer.Argument(metavar="SESSION", help="A session's id, ses_…", show_default=False)]
App = Annotated[
    str, typer.Argument(metavar="APP", envvar="PLAYHEAD_APP", help="A Python file or module.", show_default=False)
]
Kafka = Annotated[
    str | None,
    typer.Option(
        "--kafka", envvar="PLAYHEAD_KAFKA", metavar="HOST:PORT", help="Bootstrap servers.", show_default=False
    ),
]
Wait = Annotated[
    float, typer.Option("--wait", envvar="PLAYHEAD_WAIT", metavar="SECONDS", help="How long to wait for the broker.")
]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        envvar="PLAYHEAD_METRICS_PORT",
        help="Port of /livez, /readyz and /metrics: 0 any free one, -1 none.  [default: 9400]",
        show_default=False,
    ),
]
Port = Annotated[
    int | None,
    typer.Option("--port", envvar="PLAYHEAD_PORT", help="0 is any free one.  [default: 4141]", show_default=False),
]
GrpcPort = Annotated[
    int | None,
    typer.Option("--grpc-port", envvar="PLAYHEAD_GRPC_PORT", help="Serve gRPC here as well.", show_default=False),
]
Host = Annotated[
    str | None,
    typer.Option("--host", envvar="PLAYHEAD_HOST", help="Listen here.  [default: 127.0.0.1]", show_default=False),
]
Auth = Annotated[
    str | None,
    typer.Option(
        "--auth", envvar="PLAYHEAD_AUTH_FILE", metavar="FILE", help="Who may ask; or off.", show_default=False
    ),
]
TlsCert = Annotated[
    Path | None, typer.Option("--tls-cert", envvar="PLAYHEAD_TLS_CERT", help="PEM: serve HTTPS.", show_default=False)
]
TlsKey = Annotated[
    Path | None, typer.Option("--tls-key", envvar="PLAYHEAD_TLS_KEY", help="Its key, PEM.", show_default=False)
]
Data = Annotated[
    Path | None,
    typer.Option("--data", envvar="PLAYHEAD_DATA", help="Folder of the log.  [default: .playhead]", show_default=False),
]
Pools = Annotated[
    list[str] | None,
    typer.Option("--pool", envvar="PLAYHEAD_POOL", metavar="NAME", help="Repeat for several.", show_default=False),
]
# Without their variables, which would push the help off the screen: PLAYHEAD_MCP, PLAYHEAD_MCP_ALLOW, and so on.
Mcp = Annotated[
    list[str] | None,
    typer.Option(
        "--mcp", envvar="PLAYHEAD_MCP", metavar="SERVER", help="MCP: [NAME=]COMMAND or [NAME=]URL.", show_envvar=False
    ),
]
McpAllow = Annotated[
    list[str] | None,
    typer.Option(
        "--mcp-allow", envvar="PLAYHEAD_MCP_ALLOW", metavar="GLOB", help="Only these tools of it.", show_envvar=False
    ),
]
McpEffect = Annotated[
    list[str] | None,
    typer.Option(
        "--mcp-effect",
        envvar="PLAYHEAD_MCP_EFFECT",
        metavar="GLOB=EFFECT",
        help="EFFECT is read, write or once.",
        show_envvar=False,
    ),
]
McpEnv = Annotated[
    list[str] | None,
    typer.Option(
        "--mcp-env",
        envvar="PLAYHEAD_MCP_ENV",
        metavar="NAME=REF",
        help="REF is env:VARIABLE or file:PATH.",
        show_envvar=False,
    ),
]
McpAuth = Annotated[
    list[str] | None,
    typer.Option(
        "--mcp-auth", envvar="PLAYHEAD_MCP_AUTH", metavar="REF", help="Authorization of a URL.", show_envvar=False
    ),
]
McpWait = Annotated[
    float,
    typer.Option(
        "--mcp-wait", envvar="PLAYHEAD_MCP_WAIT", metavar="SECONDS", help="For it to start.", show_envvar=False, min=0
    ),
]
McpTimeout = Annotated[
    float,
    typer.Option(
        "--mcp-timeout",
        envvar="PLAYHEAD_MCP_TIMEOUT",
        metavar="SECONDS",
        help="Of each call.",
        show_envvar=False,
        min=0.1,
        max=24 * 3600,
    ),
]


@dataclass(frozen=True, slots=True)
class McpFlags:
    """What was said of MCP servers; read further where they are opened."""

    servers: Sequence[str]
    allow: Sequence[str] = ()
    effects: Sequence[str] = ()
    variables: Sequence[str] = ()
    authorizations: Sequence[str] = ()
    wait_seconds: float = 60.0
    timeout_seconds: float = 60.0


def lines_of(values: Sequence[str] | None, variable: str | None) -> tuple[str, ...]:
    """Give the values of a flag whose variable holds one a line: typer splits variables at each space."""
    values = tuple(values or ())
    if variable is not None and values == tuple(variable.split()):
        return tuple(line.strip() for line in variable.splitlines() if line.strip())
    return values
