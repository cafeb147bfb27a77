"""What every test shares: the folder of real photos and weights, and a cache folder of the tests' own."""

import os
import socket
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]


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
