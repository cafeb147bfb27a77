"""Figures of all runs as Markdown, with the goals beside them."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
from explorer_tools import TOOLS

_FRAME = 1000 / 60  # milliseconds
_HEAD = (
    "tool",
    "first points, s",
    "MB to the browser",
    "hover p50 / p95, ms",
    "right",
    "pan p50 / p95, ms",
    "zoom p50 / p95, ms",
    "renderer, MB",
)
Results = dict[tuple[str, int], list[dict[str, Any]]]


def table(
    results: Results, sizes: Sequence[int], tools: Sequence[str], thumbnails: dict[int, tuple[int, float]]
) -> str:
    """Return a table for each number of points, medians over the rounds, and whether vizkit meets its goals.

    `thumbnails` says, by the number of points, the longer side in pixels of the smallest one and bytes a point.
    """
    lines = []
    for n in sizes:
        runs = {tool: [run for run in results[tool, n] if "failed" not in run] for tool in tools}
        rounds = max(map(len, runs.values()))
        lines += [
            f"\n### {n:,} points ({rounds} {'round' if rounds == 1 else 'rounds'})\n",
            _row(_HEAD),
            _row(["---"] * len(_HEAD)),
        ]
        for tool in tools:
            failed = [run["failed"] for run in results[tool, n] if "failed" in run]
            lines.append(_row(_cells(TOOLS[tool].title, runs[tool], failed)))
        lines += ["", *_goals(runs), _thumbnail_goal(n, *thumbnails[n])]
    return "\n".join(lines)


def delivery_lines(results: dict[str, dict[str, Any]]) -> list[str]:
    """Return what arrived of what was done while the pointer kept moving."""
    lines = [
        "\n### Deliveries\n",
        _row(["tool", "points", "what", "arrived whole, in order and once"]),
        _row(["---"] * 4),
    ]
    for tool, result in results.items():
        if "failed" in result:
            lines.append(_row([TOOLS[tool].title, "", f"does not run: {result['failed']}", ""]))
            continue
        for what, (arrived, asked) in result["arrived"].items():
            lines.append(_row([TOOLS[tool].title, f"{result['points']:,}", what, f"{arrived} of {asked}"]))
    if "arrived" in results.get("vizkit", {}):
        met = all(arrived == asked for arrived, asked in results["vizkit"]["arrived"].values())
        lines += ["", f"- everything arrives whole, in order and once: {_met(met)}"]
    return lines


def _cells(title: str, runs: list[dict[str, Any]], failed: list[str]) -> list[str]:
    if not runs:
        return [title, f"does not run: {failed[0] if failed else 'not tried'}", *[""] * (len(_HEAD) - 2)]
    received = _median(runs, lambda run: (run["socket"] + run["http"]) / 1e6)
    right, asked = sum(len(run["hover"]) for run in runs), sum(run["hovers"] for run in runs)
    cells = [title, f"{_median(runs, _first) / 1000:.2f}", f"{received:.1f}"]
    cells += [_spread(runs, "hover"), f"{right} of {asked}", _spread(runs, "pan"), _spread(runs, "zoom")]
    cells.append(f"{_median(runs, lambda run: run['renderer MB']):+.0f}")
    return cells


def _goals(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return the goals of the explorer, each with its figures."""
    own = runs.get("vizkit")
    if not own:
        return ["- vizkit: not measured"]
    peers = {tool: found for tool, found in runs.items() if tool != "vizkit" and found}
    lines = []
    first = _median(own, _first)
    if peers:
        fastest = min(peers, key=lambda tool: _median(peers[tool], _first))
        other = _median(peers[fastest], _first)
        told = f"{first / 1000:.2f} s, {TOOLS[fastest].title} {other / 1000:.2f} s"
        lines.append(f"- first points no later than the fastest peer: {told}: {_met(first <= other)}")
    p50, p95 = _quantile(own, "hover", 50), _quantile(own, "hover", 95)
    lines.append(f"- hover p50 within one frame: {p50:.1f} ms of {_FRAME:.1f}: {_met(p50 <= _FRAME)}")
    lines.append(f"- hover p95 within two frames: {p95:.1f} ms of {2 * _FRAME:.1f}: {_met(p95 <= 2 * _FRAME)}")
    right, asked = sum(len(run["hover"]) for run in own), sum(run["hovers"] for run in own)
    lines.append(f"- always the picture of the exact nearest point: {right} of {asked}: {_met(right == asked)}")
    pan, best = _quantile(own, "pan", 50), min((_quantile(found, "pan", 50) for found in peers.values()), default=0.0)
    told = f"{1000 / pan:.0f} a second" + (f", the fastest peer {1000 / best:.0f}" if best else "")
    met = _met(pan <= max(1000 / 30, best))
    lines.append(f"- 30 frames a second while panning, or as many as the fastest peer: {told}: {met}")
    return lines


def _thumbnail_goal(n: int, side: int, size: float) -> str:
    least = 32 if n > 50_000 else 48
    said = f"{side} px of {least}, {size / 1000:.2f} KB a point of 1.00"
    return f"- thumbnails large enough and small enough: {said}: {_met(side >= least and size <= 1000)}"


def _first(run: dict[str, Any]) -> float:
    return run["first points"]


def _median(runs: list[dict[str, Any]], of: Callable[[dict[str, Any]], float]) -> float:
    return median(map(of, runs))


def _quantile(runs: list[dict[str, Any]], name: str, percent: float) -> float:
    """Return the median over the runs of a percentile in each; infinite where nothing was seen."""
    return median(float(np.percentile(run[name], percent)) if run[name] else float("inf") for run in runs)


def _spread(runs: list[dict[str, Any]], name: str) -> str:
    return " / ".join(f"{_quantile(runs, name, percent):.0f}" for percent in (50, 95)).replace("inf", "never")


def _met(holds: bool) -> str:
    return "met" if holds else "**missed**"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |"
