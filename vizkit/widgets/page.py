"""One HTML file that shows an explorer without a kernel, a server or a network."""

import base64
import html
import json
from pathlib import Path
from typing import Any

from ..errors import InputError
from .bundle import bundle, styles

# Nothing may be fetched from anywhere: what the page shows is in the page.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
body {{ margin: 16px; background: Canvas; color-scheme: light dark; }}
{styles}
details {{ margin-top: 16px; font: 12px system-ui, sans-serif; color: GrayText; }}
</style>
</head>
<body>
<div id="vizkit-explorer"></div>
<details><summary>How this was made</summary><pre>{provenance}</pre></details>
<script type="application/json" id="vizkit-study">{study}</script>
<script type="module">
{code}
</script>
</body>
</html>
"""


def page(
    title: str, traits: dict[str, Any], evidence: dict[str, Any], *, state: dict[str, Any], provenance: Any
) -> str:
    """Return the page.

    Parameters
    ----------
    title
        Title of the page.
    traits
        The explorer's bulk traits by name; bytes anywhere inside are written as base64.
    evidence
        By query id: {"fields": ..., "buffers": [bytes, ...]}, as the explorer answers a view.
    state
        Where to begin: {"query": id or None, "selection": [rows]}.
    provenance
        How the vectors and the map were made; shown at the foot.
    """
    packed = {
        id: {"fields": answer["fields"], "buffers": [_base64(b) for b in answer["buffers"]]}
        for id, answer in evidence.items()
    }
    study = json.dumps({"traits": traits, "evidence": packed, **state}, default=_bytes, allow_nan=False)
    return _PAGE.format(
        policy=_POLICY,
        title=html.escape(title),
        styles=styles(),
        provenance=html.escape(json.dumps(provenance, indent=2, default=str)),
        # Inside a script element only "<" could end it or begin a comment; JSON may write it as an escape.
        study=study.replace("<", "\\u003c"),
        code=bundle("page.js"),
    )


def page_file(path: str | Path) -> Path:
    """Return the absolute path of a file that can be written; InputError where it is a folder or in none."""
    target = Path(path).absolute()
    if target.is_dir():
        raise InputError(f"{str(target)!r} is a folder: name a file in it, like {str(target / 'study.html')!r}.")
    if not target.parent.is_dir():
        raise InputError(f"There is no folder {str(target.parent)!r} to write {target.name!r} into: make it first.")
    return target


def write_page(target: Path, text: str) -> Path:
    """Write a page; a file that exists is replaced once the new one is complete."""
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    return temporary.replace(target)


def _bytes(value: Any) -> dict[str, str]:
    if isinstance(value, bytes):
        return {"$bytes": _base64(value)}
    raise TypeError(f"{type(value).__name__} cannot stand in a page")


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
