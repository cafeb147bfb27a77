"""What every test shares: the folder of real photos and weights, and a cache folder of the tests' own."""

import os
import shutil
import signal
import socket
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]

# With several workers (pytest -n 2): what stands on one browser and server, or on one compilation of umap-learn, stays
# with one worker, and so does a file. What takes longest begins first, so that none is left with it at the end.
TOGETHER = {
    "browser": ("tests/browser/",),
    "layers": ("tests/test_notebooks.py",),
    "models": ("tests/test_notebook_models.py",),
    "maps": ("tests/test_notebook_maps.py",),
    "shortcuts": ("tests/test_shortcuts.py",),
    "why alike": ("tests/test_why_alike.py",),
    "umap": ("tests/test_umap_layout.py", "tests/test_projection.py", "tests/test_placing.py"),
}


def kept_with(nodeid):
    """Return the name of those that a test stays with."""
    return next((name for name, paths in TOGETHER.items() if nodeid.startswith(paths)), nodeid.split("::")[0])


def pytest_collection_modifyitems(items):
    names = list(TOGETHER)
    items.sort(key=lambda item: names.index(name) if (name := kept_with(item.nodeid)) in names else len(names))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give a worker the next of the above as soon as it has nothing left."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return kept_with(nodeid)

    return Scheduling(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Take over from a worker where its screenshots are."""
    folder = getattr(node, "workeroutput", {}).get("screenshots")
    if folder:
        node.config.vizkit_screenshots = Path(folder)


def pytest_terminal_summary(terminalreporter, config):
    folder = getattr(config, "vizkit_screenshots", None)
    if folder is not None and any(folder.iterdir()):
        terminalreporter.write_line(f"screenshots: {folder}")


@pytest.fixture(scope="session", autouse=True)
def signals_as_a_terminal_gives_them():
    """Take signals that nohup or a background job has told this process to ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def own_cache_folder(tmp_path_factory):
    """Keep the tests out of the user's cache folder, and what lies there out of the tests."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield Path(os.environ["XDG_CACHE_HOME"])
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(scope="session")
def shared():
    """Give the folder of real photos and weights, or skip: it is no part of the repository."""
    folder = Path(os.environ.get("VIZKIT_SHARED", REPO.parent / "shared"))
    missing = [name for name in ("images", "torch") if not (folder / name).is_dir()]
    if missing:
        wanted = " and ".join(f"{name}/" for name in missing)
        pytest.skip(f"real photos and weights: no {wanted} in {folder} (name another folder with VIZKIT_SHARED)")
    return folder


@pytest.fixture(scope="session")
def clothing(shared, tmp_path_factory):
    """Give a folder of twenty photos a class, the subfolders being the labels."""
    folder = tmp_path_factory.mktemp("clothing")
    for label in sorted(path for path in (shared / "images/clothing10").iterdir() if path.is_dir()):
        (folder / label.name).mkdir()
        for photo in sorted(label.iterdir())[:20]:
            shutil.copy(photo, folder / label.name)
    return folder


@pytest.fixture(scope="session")
def embeddings(own_cache_folder):
    """Give sixty drawn scenes as the network of the scenes embeds them."""
    import vizkit as vk

    images = vk.scenes("held-out").subset(range(60))
    return vk.embed(images, vk.Encoder("scenes"), cache=own_cache_folder, progress=False)


@pytest.fixture
def no_thread_is_left():
    """See that all of vizkit's threads have ended when a test has."""
    from recording import threads

    yield
    assert threads() == []


@pytest.fixture
def no_network(monkeypatch):
    """Block every connection, and list the attempts: a library might swallow the error."""
    attempts = []

    def refuse(*arguments, **_):
        attempts.append(arguments)
        raise OSError("blocked by the test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return attempts
