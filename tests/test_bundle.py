"""The front end's modules: their own tests under node, and the joining of all into one."""

import re
import subprocess
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright")

from vizkit.widgets.bundle import STATIC, BundleError, bundle, styles  # noqa: E402

FRONT = Path(__file__).parent / "front"
NODE = Path(playwright.__file__).parent / "driver" / "node"


def node(*arguments, **options):
    return subprocess.run([NODE, *map(str, arguments)], capture_output=True, text=True, check=False, **options)


def test_the_pure_parts_pass_their_own_tests():
    done = node("--test", *sorted(FRONT.glob("*.test.mjs")))
    assert done.returncode == 0, done.stdout[-6000:]
    assert int(re.search(r"pass (\d+)", done.stdout)[1]) >= 40


def test_the_bundle_is_one_module_that_gives_what_anywidget_asks_for(tmp_path):
    (tmp_path / "bundle.mjs").write_text(bundle(), encoding="utf-8")
    (tmp_path / "ask.mjs").write_text(
        'import * as all from "./bundle.mjs"; console.log(Object.keys(all), typeof all.default.render);',
        encoding="utf-8",
    )
    done = node(tmp_path / "ask.mjs")
    assert done.returncode == 0, done.stderr
    assert "default" in done.stdout
    assert done.stdout.endswith("function\n")


def test_the_bundles_hold_every_module_and_reach_for_nothing_outside():
    text = bundle() + bundle("page.js")
    assert [file.name for file in STATIC.glob("*.js") if f"// {file.name}\n" not in text] == []
    code = re.sub(r"/\*\*.*?\*/", "", text, flags=re.DOTALL)
    assert re.findall(r"^import\b|\bimport\(|https?://", code, re.MULTILINE) == []


def test_the_core_knows_nothing_of_jupyter():
    text = bundle("core.js")
    assert "export function createExplorer" in text
    assert "model.get" not in text


def test_every_rule_of_the_style_sheet_is_inside_the_root_class():
    rules = re.sub(r"/\*.*?\*/|@keyframes[^{]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}", "", styles(), flags=re.DOTALL)
    selectors = re.findall(r"([^{}@]+)\{", re.sub(r"@(media|container)[^{]*\{", "", rules))
    assert len(selectors) > 50
    apart = re.split(r",(?![^()]*\))", ",".join(selectors))  # not those within :is(a, b)
    assert [s for s in apart if ".vizkit-explorer" not in s] == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.js": 'import { x } from "./b.js";\n'}, r"a\.js needs 'b\.js', which is not in"),
        (
            {"a.js": 'import { x } from "./b.js";\n', "b.js": "const x = 1;\n"},
            r"imports 'x' from b\.js, which exports \[\]",
        ),
        (
            {"a.js": 'import { x as y } from "./b.js";\n', "b.js": "export const x = 1;\n"},
            r"imports 'x as y' .* without renaming",
        ),
        (
            {"a.js": 'import { x } from "./b.js";\nconst y = 1;\n', "b.js": "export const x = 1;\nfunction y() {}\n"},
            r"a\.js and b\.js both declare 'y'",
        ),
        (
            {"a.js": 'import { x } from "./b.js";\n', "b.js": 'import { y } from "./a.js";\nexport const x = 1;\n'},
            r"a\.js -> b\.js -> a\.js import each other in a circle",
        ),
        (
            {"a.js": 'import { x } from "./b.js";\n', "b.js": "export const x = 1;\nexport default x;\n"},
            r"b\.js has an `export default`",
        ),
        ({"a.js": 'import * as b from "./b.js";\n', "b.js": ""}, r"a\.js: 'import \* as b from .* cannot be joined"),
        ({"a.js": "const { x } = {};\n"}, r"a\.js takes names apart at its top level"),
        ({"a.js": "const x = 1;\nexport { x };\n"}, r"a\.js: 'export \{ x \};' cannot be joined"),
    ],
)
def test_a_module_that_cannot_be_joined_is_refused(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=message):
        bundle("a.js", folder=tmp_path)


def test_modules_come_after_what_they_import_and_once(tmp_path):
    (tmp_path / "a.js").write_text(
        'import { b } from "./b.js";\nimport { c } from "./c.js";\nexport const a = b + c;\n'
    )
    (tmp_path / "b.js").write_text('import { c } from "./c.js";\nexport const b = c + 1;\n')
    (tmp_path / "c.js").write_text("export const c = 20;\n")
    (tmp_path / "joined.mjs").write_text(bundle("a.js", folder=tmp_path))
    (tmp_path / "ask.mjs").write_text('import { a } from "./joined.mjs"; console.log(a);')
    assert node(tmp_path / "ask.mjs").stdout == "41\n"
