"""Plots of what `build.py` and `scaling.py` measured, as SVG that reads on light and on dark pages.

    python -m tests.benchmarks.plot RESULT.json... --dir docs/explanation

Writes `build.svg` (a group of bars for each workload) and `scaling.svg` (lines on log-log axes): the same bytes for the
same results.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

__all__ = ["plot_build", "plot_scaling"]

_STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #333 }
.dim { fill: #777 } .head { font-weight: 600 } .right { text-anchor: end } .middle { text-anchor: middle }
.grid { stroke: #ddd } .bar { fill: #a9b4c2 } .ours { fill: #2a6fbb } .line { fill: none; stroke-width: 2 }
.s0 { stroke: #2a6fbb; fill: #2a6fbb } .s1 { stroke: #c2651a; fill: #c2651a } .s2 { stroke: #5b8a3c; fill: #5b8a3c }
.ideal { stroke: #999; stroke-dasharray: 3 4 } .line { fill: none }
@media (prefers-color-scheme: dark) {
text { fill: #ddd } .dim { fill: #999 } .grid { stroke: #444 } .bar { fill: #5d6875 } .ours { fill: #5aa2ee }
.s0 { stroke: #5aa2ee; fill: #5aa2ee } .s1 { stroke: #f0a060; fill: #f0a060 } .s2 { stroke: #9cc97a; fill: #9cc97a }
.ideal { stroke: #777 } .line { fill: none } }
"""

_WIDTH = 720
_NAME, _VALUE = 150, 150
_ROW = 20
_PLOT, _HIGH, _GAP = 280, 220, 80


def plot_build(results: Mapping[str, Any]) -> str:
    """Bars: the wall time of every tool, for each workload on a scale of its own."""
    parts: list[str] = []
    top = 24
    for name, work in results["work"].items():
        title = f"{name}: {work['files']:,} files, {work['size'] / 1e6:,.0f} MB"
        parts.append(_text(0, top, title, "head"))
        parts.append(_text(_WIDTH, top, "seconds, size of output", "dim right"))
        longest = max(row["wall"] for row in work["tools"])
        for row in sorted(work["tools"], key=lambda row: (row["wall"], row["tool"])):
            top += _ROW
            length = row["wall"] / longest * (_WIDTH - _NAME - _VALUE)
            kind = "ours" if row["tool"].startswith("ocibuild") else "bar"
            parts.append(_text(_NAME - 8, top, row["tool"], "right"))
            parts.append(f'<rect class="{kind}" x="{_NAME}" y="{top - 11}" width="{max(length, 1):.1f}" height="14"/>')
            parts.append(_text(_NAME + length + 6, top, f"{row['wall']:.3g} s"))
            parts.append(_text(_WIDTH, top, f"{row['size'] / 1e6:,.2f} MB", "dim right"))
        top += 36
    return _svg("Wall time of builds", top - 20, parts)


def plot_scaling(results: Mapping[str, Any]) -> str:
    """Lines on log-log axes, one plot for files and one for bytes; dashed, what grows linearly from the last point."""
    parts: list[str] = []
    for number, (kind, title) in enumerate((("files", "small files"), ("bytes", "GiB in eight files"))):
        series = [item for item in results["series"] if item["by"] == kind]
        if series:
            parts += _lines(series, kind, title, left=50 + number * (_PLOT + _GAP))
    return _svg("Wall time of a build as its input grows", _HIGH + 110, parts)


def _lines(series: Sequence[Mapping[str, Any]], kind: str, title: str, *, left: int) -> Iterator[str]:
    points = [point for item in series for point in item["points"]]
    at = sorted({point["at"] for point in points})
    low, high = math.log10(at[0]), math.log10(at[-1])
    floor = math.floor(math.log10(min(point["wall"] for point in points)))
    ceiling = math.ceil(math.log10(max(point["wall"] for point in points)))
    top = 34

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - low) / ((high - low) or 1) * (_PLOT - 20) + 10
        down = (ceiling - math.log10(y)) / ((ceiling - floor) or 1) * _HIGH
        return left + across, top + down

    yield _text(left, 18, f"seconds by {title}", "head")
    for power in range(floor, ceiling + 1):
        _, y = place(at[0], 10.0**power)
        yield f'<path class="grid" d="M{left} {y:.1f}h{_PLOT}"/>'
        yield _text(left - 6, y + 4, f"{10.0**power:g}", "dim right")
    for value in at:
        x, _ = place(value, 1)
        shown = f"{value:,}" if kind == "files" else f"{value / 1024**3:.2g}"
        yield _text(x, top + _HIGH + 18, shown, "dim middle")
    for number, item in enumerate(series):
        found = [(point["at"], point["wall"]) for point in item["points"]]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (place(*point) for point in found))
        last_at, last = found[-1]
        # Down to the left edge, or to the floor.
        first = max(found[0][0], last_at * 10.0**floor / last)
        ends = (place(first, last * first / last_at), place(last_at, last))
        yield '<path class="line ideal" d="M' + "L".join(f"{x:.1f} {y:.1f}" for x, y in ends) + '"/>'
        yield f'<path class="line s{number % 3}" d="M{path}"/>'
        for point in found:
            x, y = place(*point)
            yield f'<circle class="s{number % 3}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
        y = top + _HIGH + 38 + number * 16
        yield f'<path class="line s{number % 3}" d="M{left} {y - 4}h18"/>'
        yield _text(left + 24, y, f"{item['tool']}: slope {item['slope']:.2f}, {item['net']:.2f} without the start")


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    chosen = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{chosen}>{escape(text)}</text>'


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" role="img">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE}</style>\n"
    )
    return head + "\n".join(parts) + "\n</svg>\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULT")
    parser.add_argument("--dir", type=Path, default=Path(), help="where the plots go (default: here)")
    options = parser.parse_args()
    plots = {"build": plot_build, "scaling": plot_scaling}
    for path in options.results:
        results = json.loads(path.read_text())
        target = options.dir / f"{results['kind']}.svg"
        target.write_text(plots[results["kind"]](results), encoding="utf-8")
        print(target)


if __name__ == "__main__":
    main()
