"""Series as an SVG that a browser shows: one panel a kind, one line a process, written by hand for want of anything.

Pure: it gives text. The part that is not judged is shaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bench.series import SETTLING_SHARE, TOLERANCES, Series

__all__ = ["drawn"]

WIDTH, LEFT, RIGHT = 900, 70, 190
PANEL, GAP, TOP = 110, 34, 44
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f")
POINTS_MAX = 400
"""Of more samples every second, third, … is drawn."""


def drawn(title: str, series: Sequence[Series]) -> str:
    """Draw a panel for each kind of series, in the order in which they come."""
    kinds = dict.fromkeys(one.kind for one in series)
    panels = [(kind, [one for one in series if one.kind == kind]) for kind in kinds]
    height = TOP + len(panels) * (PANEL + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"'
        ' font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="14">{escape(title)}</text>',
    ]
    for number, (kind, lines) in enumerate(panels):
        parts += _panel(TOP + number * (PANEL + GAP), kind, lines)
    return "\n".join([*parts, "</svg>\n"])


def _panel(top: int, kind: str, lines: Sequence[Series]) -> list[str]:
    width = WIDTH - LEFT - RIGHT
    begin = min(one.seconds[0] for one in lines)
    span = max(max(one.seconds[-1] for one in lines) - begin, 1e-9)
    greatest = max(max(one.values) for one in lines) or 1.0
    unit = TOLERANCES[kind].unit if kind in TOLERANCES else ""
    bottom = top + PANEL
    parts = [
        f'<rect x="{LEFT}" y="{top}" width="{width * SETTLING_SHARE:.1f}" height="{PANEL}" fill="#f0f0f0"/>',
        f'<rect x="{LEFT}" y="{top}" width="{width}" height="{PANEL}" fill="none" stroke="#999"/>',
        f'<text x="{LEFT}" y="{top - 5}" font-weight="bold">{escape(f"{kind}, {unit}" if unit else kind)}</text>',
        f'<text x="{LEFT - 6}" y="{top + 9}" text-anchor="end">{_short(greatest)}</text>',
        f'<text x="{LEFT - 6}" y="{bottom}" text-anchor="end">0</text>',
        f'<text x="{LEFT + width}" y="{bottom + 13}" text-anchor="end">{span / 60:.1f} min</text>',
    ]
    for number, one in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        step = -(-len(one.values) // POINTS_MAX)
        points = " ".join(
            f"{LEFT + (second - begin) / span * width:.1f},{bottom - max(0.0, value) / greatest * PANEL:.1f}"
            for second, value in list(zip(one.seconds, one.values, strict=True))[::step]
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.3"/>')
        name = f"{one.name.rpartition('.')[0] or kind}: {_short(one.values[-1])}"
        parts.append(f'<text x="{LEFT + width + 8}" y="{top + 10 + 14 * number}" fill="{colour}">{escape(name)}</text>')
    return parts


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
