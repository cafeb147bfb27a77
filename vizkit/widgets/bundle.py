"""Join the front end's modules into the one ES module that a notebook or a single HTML file can load.

anywidget loads one module and resolves no relative import, and a file on disk may load none; so the modules of
`static/` are put one after the other, each after those it imports. They keep to a convention that makes this safe, and
that is checked:

- an import is `import { a, b } from "./module.js";`, without renaming;
- an export is a declaration at the start of a line; `export default` only ends the module that is asked for;
- a name declared at the start of a line is declared once in all modules together.
"""

import re
from functools import cache
from pathlib import Path

from ..errors import VizkitError

STATIC = Path(__file__).parent / "static"

_IMPORT = re.compile(r'^import\s*\{([^}]*)\}\s*from\s*"\./([\w.-]+)";[ \t]*\n', re.MULTILINE)
_DECLARED = re.compile(r"^(export\s+)?(?:async\s+)?(?:function\*?|class|const|let|var)\s+([\w$]+|[\[{])", re.MULTILINE)
_EXPORT = re.compile(r"^export\s+(default\b)?", re.MULTILINE)


class BundleError(VizkitError, SyntaxError):
    """A module of the front end breaks the convention that lets it be joined."""


def bundle(entry: str = "jupyter.js", *, folder: Path = STATIC) -> str:
    """Return one ES module with everything that a module of the front end needs.

    Parameters
    ----------
    entry
        The module that is asked for. It alone keeps its exports.
    folder
        Where the modules are.

    Raises
    ------
    BundleError
        If a module breaks the convention in this file's head, is missing, or imports itself in a circle.
    """
    sources: dict[str, str] = {}
    _collect(entry, folder, sources, ())
    _check_names(sources)
    parts = [f"// {name}\n{_strip(name, text, keep_exports=name == entry)}" for name, text in sources.items()]
    return "\n".join(parts)


@cache
def styles() -> str:
    """Return the style sheets of the front end as one, in the order of their names."""
    return "\n".join(file.read_text(encoding="utf-8") for file in sorted(STATIC.glob("*.css")))


def _collect(name: str, folder: Path, sources: dict[str, str], path: tuple[str, ...]) -> None:
    """Read a module after those it imports; `sources` keeps that order."""
    if name in path:
        raise BundleError(
            f"{' -> '.join((*path, name))} import each other in a circle; move what both need into a third."
        )
    if name in sources:
        return
    file = folder / name
    if not file.is_file():
        raise BundleError(f"{path[-1] if path else 'The bundle'} needs {name!r}, which is not in {folder}.")
    text = file.read_text(encoding="utf-8").replace("\r\n", "\n")
    for names, other in _IMPORT.findall(text):
        _collect(other, folder, sources, (*path, name))
        exported = {found for keyword, found in _DECLARED.findall(sources[other]) if keyword}
        for wanted in filter(None, (part.strip() for part in names.split(","))):
            if wanted not in exported:
                raise BundleError(
                    f"{name} imports {wanted!r} from {other}, which exports {sorted(exported)}. "
                    "Import a name as it is exported, without renaming."
                )
    sources[name] = text


def _check_names(sources: dict[str, str]) -> None:
    """Refuse a name that two modules declare: joined, they would share one scope."""
    home: dict[str, str] = {}
    for module, text in sources.items():
        for _, name in _DECLARED.findall(text):
            if name in "[{":
                raise BundleError(f"{module} takes names apart at its top level; declare each name by itself.")
            if name in home:
                raise BundleError(
                    f"{module} and {home[name]} both declare {name!r} at their top level; rename one of them."
                )
            home[name] = module


def _strip(module: str, text: str, *, keep_exports: bool) -> str:
    """Take the imports, and where they are not wanted the exports, out of a module's text."""
    text = _IMPORT.sub("", text)
    if left := re.search(r"^(import\b.*|export\s*[*{].*)$", text, re.MULTILINE):
        raise BundleError(
            f'{module}: {left[0]!r} cannot be joined; write `import {{ a }} from "./x.js";` or `export function a`.'
        )
    if keep_exports:
        return text
    if any(default for default in _EXPORT.findall(text)):
        raise BundleError(f"{module} has an `export default`, but only the module that is asked for may end with one.")
    return _EXPORT.sub("", text)
