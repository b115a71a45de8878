"""The agent of the hand-over: it speaks for ten seconds, so that many speak when the group of orchestrators changes."""

from __future__ import annotations

from playhead import Agent

from bench.app import look_up

__all__ = ["MODEL", "look_up", "story"]

MODEL = "bench-f20-d200-r20"

story = Agent("story", model=f"anthropic:{MODEL}", instructions="Be brief.", tools=[look_up])
