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
        "training", "figures", "floors" or "shortcut".
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


def _training(made: Mapping[str, list[Mapping[str, Any]]]) -> str:
    first = next(iter(made.values()))[0]
    settings = ("scenes", "epochs", "batch", "threads", "python", "torch", "torchvision", "numpy", "pillow")
    said = ", ".join(f"{name} {first[name]}" for name in settings)
    ends = [
        (name, notes["seed"], *_point(notes["curve"][-1])[1:4], notes["wall"], notes["cpu"])
        for name, networks in made.items()
        for notes in networks
    ]
    curves = [(name, *_point(point)) for name, networks in made.items() for point in networks[0]["curve"]]
    measured = ("mean loss", "accuracy, its training scenes", "accuracy, held-out")
    return (
        f"Made with {said}. Held-out scenes are decorrelated, whatever the network was trained on. Seconds are those "
        f"of drawing and training one network.\n\n"
        f"{_table(('network', 'seed', *measured, 'seconds', 'of processor time'), ends)}\n\n"
        f"How the committed two learned:\n\n"
        f"{_table(('network', 'epoch', *measured, 'seconds since the start'), curves)}"
    )


def _point(point: list[float]) -> tuple[str, ...]:
    epoch, loss, known, held_out, seconds = point
    return f"{epoch:.0f}", f"{loss:.3f}", f"{known:.3f}", f"{held_out:.3f}", f"{seconds:.0f}"


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


def _shortcut(behavior: list[dict[str, Any]], evidence: list[dict[str, Any]]) -> str:
    three = ("scenes", "scenes-biased", "random")
    words = ("`scenes`", "`scenes-biased`", "random weights, calibrated")
    order = list(dict.fromkeys(row["measure"] for row in behavior))
    behavior = sorted(behavior, key=lambda row: (order.index(row["measure"]), row["seed"]))
    first = [
        (
            r["measure"],
            r["seed"],
            *(_spread(*r[name]) for name in three),
            "" if r["chance"] is None else f"{r['chance']:.3f}",
        )
        for r in behavior
    ]
    kinds = list(dict.fromkeys((row["of"], row["method"]) for row in evidence))
    evidence = sorted(evidence, key=lambda row: (kinds.index((row["of"], row["method"])), row["seed"]))
    second = [
        (
            r["of"],
            r["method"],
            r["seed"],
            *(_spread(*r[name]) for name in (*three, "difference")),
            f"{r['area'][0]:.3f}",
            f"{r['center'][0]:.3f}",
        )
        for r in evidence
    ]
    return (
        _table(("measure", "seed", *words, "chance"), first)
        + "\n\nShare of the positive evidence that lies in the object, in aligned scenes:\n\n"
        + _table(("for", "method", "seed", *words, "`scenes` less `scenes-biased`", "area", "center"), second)
    )


_BLOCKS: Mapping[str, Callable[..., str]] = {
    "training": _training,
    "figures": _figures,
    "floors": lambda found: _floors(*found),
    "shortcut": _shortcut,
}
