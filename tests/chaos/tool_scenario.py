"""What the model says in the tests of tools. A text of the user picks the turn by a word."""

from __future__ import annotations

import os

from tests.chaos.scenario import SCENARIO, use

__all__ = ["EFFECTS", "LARGE_CALLS", "LASTING_SECONDS", "SHORTS", "STORM_CALLS", "TOOL_SCENARIO", "WORK_CALLS"]

EFFECTS = {"read": "reads", "write": "writes", "once": "pays"}
"""The tool of each effect; the word for a turn with it is the effect."""
BESIDE = {"read": "fails", "write": "fails", "once": "refuses"}
SECONDS = 0.2
TEXT = "ünï “quoted” \\ text"
WORK_CALLS = 6
STORM_CALLS = 10
STORM_SECONDS = 1.5
LASTING_SECONDS = 40.0 if os.environ.get("PLAYHEAD_CHAOS_ALL") == "1" else 16.0
"""Longer than the session timeout, and than silence is put up with."""
LARGE_CALLS = 3
SHORTS = 100
"""As many as a message may ask for."""


def call(tool: str, number: int, seconds: float = SECONDS, text: str = TEXT) -> dict[str, object]:
    return use(tool, number=number, seconds=seconds, text=text)


def work(effect: str) -> dict[str, object]:
    """Give a turn of six calls in two messages: one is never approved, and one fails."""
    tool = EFFECTS[effect]
    first = [*(call(tool, number) for number in range(3)), call("guarded", 3), call(BESIDE[effect], 4)]
    return {"when": effect, "steps": [*first, {"say": "One more."}, call(tool, 5), {"say": "That is all."}]}


def storm() -> dict[str, object]:
    halves = range(STORM_CALLS // 2), range(STORM_CALLS // 2, STORM_CALLS)
    first, second = ([call("pays", number) for number in half] for half in halves)
    return {"when": "storm", "steps": [*first, {"say": "Half of it."}, *second, {"say": "All of it."}]}


TOOL_SCENARIO: list[dict[str, object]] = [
    *(work(effect) for effect in EFFECTS),
    storm(),
    *(turn for turn in SCENARIO if turn["when"] == "story"),
    {
        "when": "large",
        "steps": [*(call("large", number, seconds=0) for number in range(LARGE_CALLS)), {"say": "Much."}],
    },
    {"when": "single", "steps": [call("pays", 0, seconds=0.5), {"say": "So it is."}]},
    {"when": "promise", "steps": [call("promises", 7), {"say": "It came."}]},
    {"when": "deliver", "steps": [call("delivers", 8), {"say": "I brought it."}]},
    {"when": "lasting", "steps": [call("writes", 0, seconds=LASTING_SECONDS), {"say": "At last."}]},
    {"when": "shorts", "steps": [*(call("reads", number, seconds=0) for number in range(SHORTS)), {"say": "Done."}]},
]
