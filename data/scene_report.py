"""Write the figures of the embedded default into README.md, between marks, so that no number is copied by hand."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from measure_scenes import interval

README = Path(__file__).resolve().parent / "README.md"


def write_block(name: str, *parts: Any) -> None:
    """Replace what stands between the marks of one block of README.md.

    Parameters
    ----------
    name
        "training", "figures" or "floors".
    *parts
        What the block's own function takes.

    Raises
    ------
    ValueError
        README.md has no such marks.
    """
    opening, closing = f"<!-- {name}: written by make_scenes.py -->", f"<!-- end of {name} -->"
    text = README.read_text()
    if opening not in text or closing not in text:
        raise ValueError(f"{README} lacks the marks {opening!r} and {closing!r}; put them where the figures belong")
    before, rest = text.split(opening)
    after = rest.split(closing)[1]
    README.write_text(f"{before}{opening}\n{_BLOCKS[name](*parts)}\n{closing}{after}")


def _table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [list(header), *([str(cell) for cell in row] for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spread(value: float, low: float, high: float) -> str:
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def _training(curves: Mapping[int, list[Any]], took: Mapping[str, float], facts: Mapping[str, Any]) -> str:
    said = ", ".join(f"{name} {value}" for name, value in facts.items())
    rows = [
        (seed, point.epoch, f"{point.loss:.3f}", f"{point.train:.3f}", f"{point.held_out:.3f}", f"{point.seconds:.0f}")
        for seed, curve in curves.items()
        for point in curve
    ]
    header = (
        "seed",
        "epoch",
        "mean loss",
        "accuracy, training scenes",
        "accuracy, held-out",
        "seconds since the start",
    )
    return (
        f"Made with {said}. Drawing and training took {took['wall']:.0f} s by the clock "
        f"and {took['cpu']:.0f} s of processor time.\n\n{_table(header, rows)}"
    )


def _figures(right: Mapping[str, np.ndarray], known: list[dict[str, Any]], shapes: np.ndarray) -> str:
    rows = [
        ("shape accuracy", name, _spread(*interval(hits)), f"{1 / len(np.unique(shapes)):.3f}")
        for name, hits in right.items()
    ]
    rows += [(r["measure"], r["of"], _spread(r["value"], r["low"], r["high"]), f"{r['chance']:.3f}") for r in known]
    families = [
        (shape, *(_spread(*interval(hits[shapes == shape])) for hits in right.values())) for shape in np.unique(shapes)
    ]
    return (
        _table(("measure", "of", "value (95% interval)", "chance"), rows)
        + "\n\nAccuracy by family:\n\n"
        + _table(("shape", *right), families)
    )


def _floors(rows: list[dict[str, Any]], area: tuple[float, float, float], n: int) -> str:
    lines = [(r["map"], _spread(r["value"], r["low"], r["high"])) for r in rows]
    return (
        f"Over {n} held-out scenes; the object covers {_spread(*area)} of the image, which is what pointing "
        f"at random hits.\n\n{_table(('map', 'points into the object (95% interval)'), lines)}"
    )


_BLOCKS: Mapping[str, Callable[..., str]] = {
    "training": _training,
    "figures": _figures,
    "floors": lambda found: _floors(*found),
}
