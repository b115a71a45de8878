"""The flags that several commands share, each with its variable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "BROKER_WAIT_SECONDS",
    "DEFAULT_URL",
    "App",
    "AsJson",
    "Data",
    "Host",
    "Kafka",
    "MetricsPort",
    "Pools",
    "Port",
    "Session",
    "Url",
    "Wait",
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
Host = Annotated[
    str | None,
    typer.Option("--host", envvar="PLAYHEAD_HOST", help="Listen here.  [default: 127.0.0.1]", show_default=False),
]
Data = Annotated[
    Path | None,
    typer.Option("--data", envvar="PLAYHEAD_DATA", help="Folder of the log.  [default: .playhead]", show_default=False),
]
Pools = Annotated[
    list[str] | None,
    typer.Option("--pool", envvar="PLAYHEAD_POOL", metavar="NAME", help="Repeat for several.", show_default=False),
]
