"""The times of a bench as an SVG: a bar to the median, a line to the 95th percentile, on a logarithmic scale."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping

WIDTH, LABEL, ROW, RIGHT = 820, 270, 24, 90
"""Of the whole, of the names, of a row and of the figures, in pixels."""
STYLE = "text{font:13px system-ui,sans-serif;fill:#333}line.grid{stroke:#ddd}line.p95{stroke:#555;stroke-width:1.5}"


def svg(times: Mapping[str, Mapping[str, float]], title: str) -> str:
    """Draw some times.

    Args:
        times: Of every case `p50` and `p95`, in milliseconds, > 0.
        title: One line.

    Returns:
        The SVG's text; what comes from outside is escaped.
    """
    low = 10 ** math.floor(math.log10(min(t["p50"] for t in times.values())))
    high = 10 ** math.ceil(math.log10(max(t["p95"] for t in times.values())) + 1e-9)
    span = max(1.0, math.log10(high / low))

    def x(value: float) -> float:
        return LABEL + (WIDTH - LABEL - RIGHT) * math.log10(max(value, low) / low) / span

    height = 60 + ROW * len(times)
    parts = [f'<text x="8" y="20" font-weight="bold">{html.escape(title)}</text>']
    decade = low
    while decade <= high * 1.001:
        parts.append(f'<line class="grid" x1="{x(decade):.1f}" x2="{x(decade):.1f}" y1="30" y2="{height - 24}"/>')
        parts.append(f'<text x="{x(decade):.1f}" y="{height - 8}" text-anchor="middle">{decade:g} ms</text>')
        decade *= 10
    for index, (name, t) in enumerate(times.items()):
        parts.append(_bar(name, t, 34 + ROW * index, x))
    body = "\n".join(parts)
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>\n{body}\n</svg>\n'


def _bar(name: str, t: Mapping[str, float], top: int, x: Callable[[float], float]) -> str:
    left, middle = LABEL, top + ROW / 2 - 2
    width = max(1.0, x(t["p50"]) - left)
    colour = "#c9803a" if name.startswith("peer:") else "#3a6ea5"
    return (
        f'<text x="{LABEL - 8}" y="{middle + 4}" text-anchor="end">{html.escape(name)}</text>'
        f'<rect x="{left}" y="{top + 2}" width="{width:.1f}" height="{ROW - 8}" fill="{colour}"/>'
        f'<line class="p95" x1="{x(t["p50"]):.1f}" x2="{x(t["p95"]):.1f}" y1="{middle}" y2="{middle}"/>'
        f'<text x="{x(t["p95"]) + 6:.1f}" y="{middle + 4}">{t["p50"]:.0f}</text>'
    )
