"""Every bound of the gateway, named. A test shortens what it must wait for; an operator rarely needs to."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of anything the gateway takes on. `None` for hosts is any; no origins is no cross-origin browser."""

    body_bytes_max: int = MIB
    """The largest request body."""
    content_bytes_max: int = 768 * KIB
    """The largest message: the event made of it must fit into one record of the log."""
    output_bytes_max: int = 64 * MIB
    """How large an archived output may be to be given."""
    metadata_bytes_max: int = 64 * KIB
    json_depth_max: int = 64

    page_events: int = 500
    """How many events a JSON page has unless the client says otherwise."""
    page_events_max: int = 2_000
    page_scanned_max: int = 20_000
    """How many events one page with a filter looks at."""
    wait_seconds_max: float = 60.0
    """How long a page may be waited for. Proxies often give up on what is silent for a minute."""
    response_seconds_max: float = 300.0
    """How long a client waits for a whole answer of the Responses API before it is given what there is. White space is
    sent meanwhile, so no proxy takes the silence for the end. Held to about a heartbeat."""
    directory_page: int = 50
    directory_page_max: int = 500
    directory_max: int = 20_000
    """How many sessions the directory remembers; past that the ones longest untouched are forgotten."""
    catalog_max: int = 5_000
    letters_page: int = 50
    letters_page_max: int = 500
    letters_max: int = 10_000
    """How many dead letters are looked at, the newest; past that, and past the bytes, older ones are out of reach."""
    letters_bytes_max: int = 64 * MIB
    letter_input_bytes_max: int = 4 * KIB
    """How large the input of a call may be to be shown in a list of dead letters."""

    heartbeat_seconds: float = 10.0
    send_timeout_seconds: float = 30.0
    """How long one write to a viewer may be stuck before the viewer is dropped."""
    linger_seconds: float = 5.0
    """How long a session stays open without viewers: a reconnect finds it warm."""
    settle_seconds: float = 5.0
    """How long a viewer whose cursor is ahead of this gateway waits for it to catch up, and how long a gateway that
    starts does not listen yet, for it to learn what is announced and listed."""
    retry_ms: int = 2_000
    retry_jitter_ms: int = 3_000
    """Clients that are sent away together come back spread over this much more than `retry_ms`."""

    channels_max: int = 50
    """How many sessions one stream may tell."""

    ring_bytes_max: int = 16 * MIB
    """What one open session keeps in memory to serve its viewers from."""
    rings_bytes_max: int = 256 * MIB
    """The same for all open sessions together. Past it each has a share, and who falls behind that is sent away."""
    chunk_bytes_max: int = 64 * KIB
    """The most that is written to a viewer at once."""
    sessions_open_max: int = 2_000
    viewers_max: int = 20_000

    states_max: int = 1_000
    states_bytes_max: int = 64 * MIB
    """What is kept of folded sessions that nobody has open, in bytes of the records that they were folded from."""
    questions_bytes_max: int = 8 * MIB
    """What is kept of open questions, so that they need not be looked up again."""
    recent_max: int = 10_000
    """How many requests are remembered until the log shows them."""

    allowed_hosts: tuple[str, ...] | None = None
    """The `Host` names that are answered; the local mode names its own, against DNS rebinding."""
    allowed_origins: tuple[str, ...] = ()
    """The web origins that may call from a browser, exactly as in `Origin`."""
