"""What many simulations came to, in a few lines."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.history.report import percentile

__all__ = ["Totals", "counted"]

SHOWN_MAX = 20


@dataclass
class Totals:
    """What many simulations came to."""

    seeds: int = 0
    faults: Counter[str] = field(default_factory=Counter[str])
    reached: Counter[str] = field(default_factory=Counter[str])
    checked: Counter[str] = field(default_factory=Counter[str])
    recovery_seconds: list[float] = field(default_factory=list[float])
    sums: Counter[str] = field(default_factory=Counter[str])
    failed: dict[int, list[list[str]]] = field(default_factory=dict[int, list[list[str]]])

    def add(self, found: dict[str, Any]) -> None:
        """Add what one came to."""
        self.seeds += 1
        self.faults.update(found["faults"])
        self.reached.update(found["reached"])
        self.checked.update(found["checked"])
        self.recovery_seconds += found["recovery_seconds"]
        for name in ("events", "runs", "steps", "virtual_seconds"):
            self.sums[name] += found[name]
        if found["violations"]:
            self.failed[found["seed"]] = found["violations"]

    def told(self, seconds: float) -> str:
        """Say it."""
        sums = self.sums
        rate = self.seeds / max(seconds, 1e-9)
        lines = [
            f"{self.seeds:,} seeds in {seconds:,.0f} s ({rate:.1f}/s): {sums['runs']:,} runs,"
            f" {sums['events']:,} events, {sums['steps']:,} callbacks,"
            f" {sums['virtual_seconds'] / 3600:,.1f} h of virtual time",
            f"{sum(self.faults.values()):,} faults: {counted(self.faults)}",
            f"reached: {counted(self.reached)}",
            f"checked: {counted(self.checked)}",
        ]
        if self.recovery_seconds:
            p50, p99 = percentile(self.recovery_seconds, 0.5), percentile(self.recovery_seconds, 0.99)
            lines.append(f"{len(self.recovery_seconds):,} recoveries: p50 {p50:.2f} s, p99 {p99:.2f} s of virtual time")
        lines.append(f"violations: {sum(map(len, self.failed.values())) or 'none'}")
        for seed, violations in list(self.failed.items())[:SHOWN_MAX]:
            lines += [f"  seed {seed}: {invariant}: {text[:600]}" for invariant, text in violations[:3]]
        return "\n".join(lines)


def counted(counts: Counter[str]) -> str:
    """Say counts by name."""
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
