"""The rows of the table, with the targets of the design. One without a target is there to be read beside another."""

from __future__ import annotations

from bench.table import ITSELF, Row, Target

__all__ = ["ROWS", "SESSION_TIMEOUT_SECONDS"]

SESSION_TIMEOUT_SECONDS = 10.0
"""The deployment's default: how long a silent member of a consumer group keeps its partitions."""

ROWS = (
    Row(
        "delta_p50",
        "added latency of a delta at the client, p50 (ms)",
        {"embedded": Target("at most times", 1.8), "kafka": Target("at most times", 1.5, "raw kafka")},
    ),
    Row("delta_p99", "added latency of a delta at the client, p99 (ms)", {}),
    Row(
        "first_event",
        "first event after POST, p50 (ms)",
        {"embedded": Target("at most plus", 3), "kafka": Target("at most plus", 10)},
    ),
    Row(
        "first_delta",
        "first delta after POST, over the model's time, p50 (ms)",
        {"embedded": Target("at most plus", 3), "kafka": Target("at most plus", 10)},
    ),
    Row(
        "tools",
        "two parallel tools: overhead over model + tool time, p50 (ms)",
        {"embedded": Target("at most times", 1.2), "kafka": Target("at most times", 2.5)},
    ),
    Row(
        "sessions",
        "200 sessions at once (sessions per second)",
        {"embedded": Target("at least times", 1), "kafka": Target("at least times", 0.7)},
    ),
    Row(
        "cpu",
        "CPU of the system's processes per session (ms)",
        {"embedded": Target("at most times", 1), "kafka": Target("at most times", 1.5)},
    ),
    Row(
        "flood",
        "deltas into the log, one session (thousands per second)",
        {"embedded": Target("at least times", 1, "memory"), "kafka": Target("at least times", 1, "memory")},
    ),
    Row(
        "replay_cold",
        "replay of 10,000 events, first reader (thousand events per second)",
        {"embedded": Target("at least", 100), "kafka": Target("at least", 100)},
    ),
    Row(
        "replay_warm",
        "replay of 10,000 events, another viewer has it open (thousand events per second)",
        {"embedded": Target("at least", 700), "kafka": Target("at least", 700)},
    ),
    Row(
        "viewers_p99",
        "1,000 viewers of one session at 200 deltas/s, p99 (ms)",
        {"embedded": Target("at most times", 1.5, "memory"), "kafka": Target("at most times", 1.5, "memory")},
    ),
    Row(
        "viewers_share",
        "of these, deltas that arrived exactly once (%)",
        {"embedded": Target("at least", 100), "kafka": Target("at least", 100)},
    ),
    Row("crash_ready", "kill -9: from restart to ready (s)", {"embedded": Target("at most", 1)}),
    Row("crash_next", "kill -9: from ready to the client's next event (s)", {"embedded": Target("at most", 0.3)}),
    Row(
        "crash_gap",
        "kill -9: from the kill to the client's next event (s)",
        {"kafka": Target("at most", SESSION_TIMEOUT_SECONDS + 2)},
    ),
    Row(
        "crash_whole",
        "kill -9: runs that end, nothing missing or twice, the lost attempt marked (%)",
        {"embedded": Target("at least", 100), "kafka": Target("at least", 100)},
    ),
    Row("live_10", "10 live sessions of 2 deltas/s: added latency of a delta, p50 (ms)", {}),
    Row(
        "live_1000",
        "1,000 live sessions of 2 deltas/s: added latency of a delta, p50 (ms)",
        {
            "embedded": Target("at most times", 1.5, ITSELF, "live_10", "at 10"),
            "kafka": Target("at most times", 3, ITSELF, "live_10", "at 10"),
            "lanes": Target("at most times", 1.5, ITSELF, "live_10", "at 10"),
        },
    ),
    Row("live_1000_p99", "1,000 live sessions of 2 deltas/s: the same, p99 (ms)", {}),
    Row("pool_1", "1 tool worker, calls that wait (calls per second)", {}),
    Row(
        "pool_4",
        "4 tool workers, calls that wait (calls per second)",
        {"kafka": Target("at least times", 3.5, ITSELF, "pool_1", "1 worker")},
    ),
)
