"""What an operator can set: every `PLAYHEAD_*` variable that is not only a flag of one command.

A flag of the command line wins over the environment, the environment over a file in `/run/secrets` (named as
the variable), that over the default. Secrets are never printed. The model providers' own variables
(`ANTHROPIC_API_KEY`, …) are their SDKs' affair.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from playhead.queue import Topics

__all__ = ["SECRETS_FOLDER", "Settings"]

SECRETS_FOLDER = Path("/run/secrets")


class Settings(BaseSettings):
    """The settings of one process. Read once, by the command line, and handed down."""

    model_config = SettingsConfigDict(
        env_prefix="PLAYHEAD_",
        secrets_dir=SECRETS_FOLDER if SECRETS_FOLDER.is_dir() else None,
        extra="ignore",
        frozen=True,
    )

    data: Path = Path(".playhead")
    """The folder of the embedded log."""
    host: str = "127.0.0.1"
    """The address that the gateway listens on."""
    port: int = Field(4141, ge=0, le=65535)
    """The gateway's port; 0 is any free one."""
    auth_file: str | None = None
    """The gateway's access file: who may ask it, and how they are known. `off` asks nobody, wherever it listens."""
    grpc_port: int | None = Field(None, ge=0, le=65535)
    """Where the gateway serves gRPC as well; 0 is any free port. Needs the extra `grpc`."""
    tls_cert: Path | None = None
    """The gateway's certificate with all that leads to it, PEM. With its key, it speaks TLS alone."""
    tls_key: Path | None = None
    metrics_port: int = Field(9400, ge=-1, le=65535)
    """Where a role answers `/livez`, `/readyz` and `/metrics`; 0 is any free port, -1 none."""
    grace_seconds: float = Field(10.0, ge=0)
    """How long a stopping process may finish what it has begun."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_style: Literal["auto", "json", "console"] = "auto"
    """`auto` is `console` on a terminal and `json` elsewhere."""

    lease_secret: SecretStr | None = None
    """The key of the leases that calls carry: one for all orchestrators of a deployment, unknown to workers."""

    kafka: str | None = None
    """Bootstrap servers, `HOST:PORT[,HOST:PORT…]`."""
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_username: str | None = None
    kafka_password: SecretStr | None = None
    kafka_ca_file: Path | None = None
    kafka_replication_factor: int | None = Field(None, ge=1)
    """Copies of each topic that is made; the broker's default unless set. Three is what survives a broker."""
    kafka_min_insync_replicas: int | None = Field(None, ge=1)
    kafka_placement: Literal["topic", "lanes"] = "topic"
    """Where sessions are kept: a topic for each, or lanes that they share. It stays what the deployment began with."""
    kafka_lanes: int = Field(64, ge=1, le=4096)
    """How many lanes are made. There may be more later; they are for new sessions."""
    topic_prefix: str = Field("agent", pattern=r"^[A-Za-z0-9._-]{1,100}$")
    session_partitions: int = Field(12, ge=1, le=1000)
    pool_partitions: int = Field(24, ge=1, le=1000)
    session_timeout_seconds: float = Field(10.0, ge=1)
    """How long a silent member of a consumer group keeps its partitions: what a crash costs."""

    lost_seconds: float = Field(15.0, ge=7)
    """How long nothing is heard of a running `once` call until it counts as lost. At least three heartbeats."""

    archive: str | None = None
    """The folder for what is too large for events; all processes of a deployment must reach the same."""
    concurrency: int = Field(32, ge=1, le=10_000)
    """How many calls one worker runs at a time."""

    failpoint: str | None = None
    """Where this process kills or stops itself, in tests (see `playhead.failpoints`)."""
    scenario: Path | None = None
    """What the scripted model says, in tests."""
    scripted_pace: float | None = Field(None, ge=0)
    """Seconds between the scripted model's deltas."""

    @property
    def topics(self) -> Topics:
        """The topics of this deployment."""
        lanes = self.kafka_lanes if self.kafka_placement == "lanes" else 0
        return Topics(self.topic_prefix, self.session_partitions, self.pool_partitions, lanes)
