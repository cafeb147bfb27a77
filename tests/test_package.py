"""What is installed: a light import, names that lead where they say, and a wheel that works anywhere."""

import inspect
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import vizkit

REPO = Path(__file__).resolve().parents[1]
HEAVY = (
    "torch",
    "torchvision",
    "umap",
    "numba",
    "sklearn",
    "captum",
    "plotly",
    "ipywidgets",
    "anywidget",
    "matplotlib",
)


def run(code, *, cwd=None, path=""):
    """Run code in a fresh interpreter and return what it prints; `path` goes before everything else on sys.path."""
    code = f"import sys; sys.path[0:1] = [{str(path)!r}] if {bool(path)} else sys.path[0:1]\n{code}"
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_vizkit_loads_nothing_heavy():
    assert run(f"import vizkit; print([name for name in {HEAVY} if name in sys.modules])", cwd=REPO) == "[]"


def test_an_explorer_of_vectors_alone_opens_without_torch():
    code = """
import numpy as np, pandas as pd, vizkit as vk
vectors = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
embeddings = vk.Embeddings.from_frame(pd.DataFrame({"embedding": list(vectors)}))
explorer = vk.explore(embeddings, vk.project(embeddings, method="pca"))
print("torch" in sys.modules, explorer.errors)
"""
    assert run(code, cwd=REPO) == "False []"


def test_every_public_name_resolves_to_what_it_says():
    assert vizkit.__all__ == list(dict.fromkeys(vizkit.__all__))
    for name in vizkit.__all__:
        value = getattr(vizkit, name)
        if name == "__version__":
            assert value.count(".") >= 2
            continue
        assert callable(value), name
        assert value.__name__ == name
        assert inspect.isclass(value) == name[0].isupper(), name
        assert value.__doc__, name
    assert set(dir(vizkit)) == set(vizkit.__all__)


def test_the_contract_of_the_first_page_is_public():
    names = {"ImageSet", "Encoder", "embed", "neighbors", "project", "explain", "explain_pair", "explore", "scenes"}
    assert names <= set(vizkit.__all__)
    with pytest.raises(AttributeError, match="module 'vizkit' has no attribute 'nothing'"):
        vizkit.nothing  # noqa: B018


def test_no_module_hides_a_public_name_whatever_is_imported_first():
    modules = [path.relative_to(REPO) for path in (REPO / "vizkit").rglob("*.py") if path.name != "__init__.py"]
    names = [".".join(path.with_suffix("").parts) for path in sorted(modules)]
    code = f"import importlib, types, vizkit\nfor name in {names}: importlib.import_module(name)\n"
    code += "print([name for name in vizkit.__all__ if isinstance(getattr(vizkit, name), types.ModuleType)])"
    assert run(code, cwd=REPO) == "[]"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPO)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return next(folder.glob("vizkit-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(folder),
        str(wheel),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    ours = {path.relative_to(REPO).as_posix() for path in (REPO / "vizkit").rglob("*") if path.is_file()}
    ours = {name for name in ours if "__pycache__" not in name}
    data = {f"vizkit/data/{name}" for name in ("scenes.parquet", "scenes.safetensors", "scenes-biased.safetensors")}
    assert {name.rsplit(".", 1)[1] for name in ours} >= {"py", "js", "css", "typed"}
    others = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert others == ours | data
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_is_small(wheel):
    assert wheel.stat().st_size < 15_000_000


def test_the_installed_wheel_has_the_embedded_default(installed, tmp_path):
    code = (
        "import vizkit, pathlib\n"
        "images, encoder = vizkit.scenes(), vizkit.Encoder('scenes')\n"
        "found = vizkit.embed(images.subset(range(3)), encoder, cache=pathlib.Path('store'))\n"
        "print(pathlib.Path(vizkit.__file__).parent.parent, len(images), encoder.dim, found.vectors.shape)"
    )
    place, n, dim, *shape = run(code, cwd=tmp_path, path=installed).split()
    assert place == str(installed)
    assert int(n) >= 2000
    assert " ".join(shape) == f"(3, {dim})"


def test_the_version_is_that_of_the_wheel(wheel):
    assert wheel.name.startswith(f"vizkit-{vizkit.__version__}-")


def test_every_direct_dependency_has_a_tested_version():
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["test"]
    names = {re.match(r"[A-Za-z0-9_-]+", line)[0].replace("_", "-") for line in wanted}
    pins = dict(line.split("==") for line in (REPO / "constraints.txt").read_text().splitlines() if line[0] != "#")
    assert names <= set(pins)
