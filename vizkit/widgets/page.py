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
body {{ margin: 8px; font: 13px system-ui, sans-serif; color-scheme: light dark; color: #5c6068; background: #ffffff; }}
@media (prefers-color-scheme: dark) {{ body {{ color: #a2a6ae; background: #131416; }} }}
{styles}
body > details {{ margin: 16px 10px; font-size: 12px; }}
body > details pre {{ overflow: auto; max-height: 60vh; }}
</style>
</head>
<body>
<main id="vizkit-explorer"><p>Opening… <noscript>This page needs JavaScript.</noscript></p></main>
<details><summary>How this was made</summary><pre>{provenance}</pre></details>
{parts}
<script type="module">
{code}
</script>
</body>
</html>
"""


def page(title: str, parts: dict[str, bytes], *, provenance: Any) -> str:
    """Return the page.

    Parameters
    ----------
    title
        Title of the page.
    parts
        What `page.js` reads, by name; written as base64, which no content can end.
    provenance
        How the vectors and the maps were made; shown at the foot.
    """
    scripts = [f'<script type="text/plain" id="vizkit-{name}">{_base64(part)}</script>' for name, part in parts.items()]
    return _PAGE.format(
        policy=_POLICY,
        title=html.escape(title),
        styles=styles(),
        provenance=html.escape(json.dumps(provenance, indent=2, default=str)),
        parts="\n".join(scripts),
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


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
