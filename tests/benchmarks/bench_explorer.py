"""Explore 2,000, 20,000 and 100,000 points with pictures in a real JupyterLab, beside what people use: one protocol.

    python tests/benchmarks/bench_explorer.py [compare | delivery] [--short] [--sizes 2000,20000,100000]
        [--tools vizkit,plotly,bokeh,jscatter] [--rounds 3] [--cache FOLDER] [--limit SECONDS]

Every run has a server, a browser, a kernel and a notebook of its own, in a process that ends with it. The tools take
turns in an order that changes with every round. With --cache, runs that are done are not done again. --short: one round
of 2,000 points, without the deliveries.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1]), str(HERE.parents[1] / "tests")]

from explorer_data import Points  # noqa: E402
from explorer_table import delivery_lines, table  # noqa: E402
from explorer_tools import TOOLS  # noqa: E402

_ROUNDS = 3
_MEASURING = 240  # seconds that a run may take beside the first points: loading, hovering, panning, zooming
_DELIVERING = 1200  # the same for 100 clicks, 100 lassos and 100 changes
_LOADING = {100_000: 240}  # more for drawing so many pictures and their thumbnails, which no clock counts


def main() -> None:
    """Run what is asked for and print it."""
    asked = _arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(asked.cache or temporary).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        if asked.one:
            _one(asked.what, asked.one, folder, asked.limit)
            return
        sizes = [2000] if asked.short else [int(size) for size in asked.sizes.split(",")]
        if asked.what in ("all", "delivery") and not asked.short:
            for n in dict.fromkeys([2000, max(sizes)]):
                Points(n, folder).prepare()
            _say("\n".join(delivery_lines(_deliveries(folder, max(sizes), asked.limit))))
        if asked.what in ("all", "compare"):
            _compare(
                folder, sizes, asked.tools.split(","), rounds=1 if asked.short else asked.rounds, limit=asked.limit
            )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="all", choices=["all", "compare", "delivery"])
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--sizes", default="2000,20000,100000")
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    parser.add_argument("--cache")
    parser.add_argument(
        "--limit", type=float, default=120.0, help="seconds to the first points before a run is given up"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)  # TOOL:N, in a process of its own; prints JSON
    return parser.parse_args()


def _compare(folder: Path, sizes: list[int], tools: list[str], *, rounds: int, limit: float) -> None:
    results: dict[tuple[str, int], list[dict]] = {}
    for n in sizes:
        Points(n, folder).prepare()
        for turn in range(rounds):
            for tool in [*tools[turn % len(tools) :], *tools[: turn % len(tools)]]:
                before = results.setdefault((tool, n), [])
                if len(before) == turn and any("failed" in result for result in before):
                    continue  # what did not run once is not tried again
                before.append(_run(folder, "compare", f"{tool}:{n}", turn, limit=limit))
    _say(table(results, sizes, tools, {n: Points(n, folder).thumbnail_size() for n in sizes}))


def _deliveries(folder: Path, n: int, limit: float) -> dict[str, dict]:
    named = {"vizkit": n, "plotly": 2000}
    return {tool: _run(folder, "delivery", f"{tool}:{size}", 0, limit=limit) for tool, size in named.items()}


def _run(folder: Path, what: str, name: str, turn: int, *, limit: float) -> dict:
    """Do one run in a process of its own, or read what it gave before; {"failed": why} where it did not run."""
    kept = folder / f"{what}-{name.replace(':', '-')}-{turn}.json"
    if not kept.exists():
        _say(f"... {what} {name}, round {turn + 1}", error=True)
        result = _in_process(folder, what, name, limit)
        kept.write_text(json.dumps(result), encoding="utf-8")
    return json.loads(kept.read_text(encoding="utf-8"))


def _in_process(folder: Path, what: str, name: str, limit: float) -> dict:
    n = int(name.split(":")[1])
    seconds = (
        limit
        + (_DELIVERING if what == "delivery" else _MEASURING)
        + max((more for size, more in _LOADING.items() if n >= size), default=0)
    )
    command = [sys.executable, __file__, what, "--one", name, "--cache", str(folder), "--limit", str(limit)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, error = running.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        _end(running.pid)
        running.communicate()
        return {"failed": f"not done within {seconds:.0f} s"}
    lines = error.strip().splitlines() or ["no word"]
    if running.returncode:
        _say(error, error=True)
        return {"failed": lines[-1][:200]}
    return json.loads(out.splitlines()[-1])


def _end(pid: int) -> None:
    """End a process and all that it has started: kernels and browsers have groups of their own."""
    family = [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=20)


def _one(what: str, name: str, folder: Path, limit: float) -> None:
    from explorer_delivery import deliver
    from explorer_run import measure

    tool, n = name.split(":")
    result = (deliver if what == "delivery" else measure)(TOOLS[tool], int(n), folder, limit)
    _say(json.dumps(result))


def _say(text: str, *, error: bool = False) -> None:
    (sys.stderr if error else sys.stdout).write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
