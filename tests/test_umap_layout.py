"""UMAP epoch by epoch: the bytes of umap-learn's own class, one array, and nobody else's cache."""

import os
import subprocess
import sys
import threading
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

from vizkit import umap_layout
from vizkit.umap_layout import unfold, warm_up

EPOCHS = 40


def graph_of(vectors, k):
    """The k nearest others by another library; equal rows may come in any order."""
    distances, rows = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(vectors).kneighbors()
    return rows.astype(np.int32), distances.astype(np.float32)


def random_start(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 2)).astype(np.float32) * [3, 1]


def first(graph, k):
    return tuple(array[:, :k] for array in graph)


def by_the_class(graph, start, *, epochs, step=1.0, **options):
    """The layout as umap-learn's class makes it of the same graph and the same start."""
    import umap

    own = np.arange(len(start), dtype=np.int32)[:, None]
    knn = (np.hstack([own, graph[0]]), np.hstack([np.zeros_like(own, np.float32), graph[1]]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reducer = umap.UMAP(
            n_neighbors=knn[0].shape[1],
            precomputed_knn=knn,
            init=start.astype(np.float32),
            n_epochs=epochs,
            learning_rate=step,
            n_jobs=1,
            random_state=options.pop("seed"),
            **options,
        )
        return reducer.fit_transform(start)


@pytest.fixture(scope="module")
def digits():
    return load_digits().data[:700].astype(np.float32)


@pytest.fixture(scope="module")
def graph(digits):
    return graph_of(digits, 14)


def last(frames):
    return deque(frames, maxlen=1).pop()


@pytest.mark.parametrize(
    ("k", "options"),
    [
        (14, {"seed": 0, "min_dist": 0.1}),
        (4, {"seed": 2**32 - 1, "min_dist": 0.7, "step": 0.5}),
        (14, {"seed": 3, "min_dist": 0.0, "densmap": True}),
    ],
)
def test_the_layout_is_that_of_umap_learns_class_byte_for_byte(graph, digits, k, options):
    start = random_start(len(digits))
    ours = last(unfold(*first(graph, k), start, epochs=EPOCHS, **options))
    theirs = by_the_class(first(graph, k), start, epochs=EPOCHS, **options)
    assert theirs.dtype == ours.dtype == np.float32
    assert ours.tobytes() == theirs.tobytes()
    assert not np.array_equal(ours, last(unfold(*first(graph, k), start, epochs=EPOCHS, **options | {"seed": 7})))


def test_copies_and_points_that_start_in_one_place_are_placed_as_the_class_places_them():
    copies = np.arange(60) % 3 * 10 + 1  # 1, 11 or 21 of a kind: with and without any neighbor that is no copy
    vectors = np.repeat(np.random.default_rng(0).standard_normal((60, 5)), copies, axis=0).astype(np.float32)
    graph = graph_of(vectors, 9)
    start = np.repeat(random_start(60), copies, axis=0)
    ours = last(unfold(*graph, start, min_dist=0.1, seed=0, epochs=EPOCHS))
    assert ours.tobytes() == by_the_class(graph, start, min_dist=0.1, seed=0, epochs=EPOCHS).tobytes()


def test_one_array_is_moved_once_an_epoch_and_the_start_is_left_alone(graph, digits):
    start = random_start(len(digits))
    before = start.copy()
    frames = unfold(*graph, start, min_dist=0.1, seed=0, epochs=EPOCHS)
    array = next(frames)
    seen = [array.copy()]
    for xy in frames:
        assert xy is array
        seen.append(xy.copy())
    assert len(seen) == EPOCHS
    assert all((a != b).any() for a, b in pairwise(seen[1:]))
    np.testing.assert_array_equal(start, before)


def test_a_start_that_is_a_map_is_taken_as_it_lies(graph, digits):
    start = (100 + random_start(len(digits))).astype(np.float32)
    before = start.copy()
    frames = unfold(*graph, start, min_dist=0.1, seed=0, epochs=9, boxed=False)
    np.testing.assert_array_equal(next(frames), before)  # no edge is due in the first epoch
    last(frames)
    np.testing.assert_array_equal(start, before)
    boxed = next(unfold(*graph, start, min_dist=0.1, seed=0, epochs=9))
    np.testing.assert_allclose((boxed.min(axis=0), boxed.max(axis=0)), ([0, 0], [10, 10]), atol=1e-6)


def test_equal_densities_everywhere_are_nothing_to_keep():
    # Three points, 20 times each: all neighbors are copies, and densMAP's own formula divides zero by zero.
    rows = np.arange(60)[:, None]
    indices = ((rows + 3 * np.arange(1, 10)) % 60).astype(np.int32)
    graph = indices, np.zeros(indices.shape, np.float32)
    xy = last(unfold(*graph, random_start(60), min_dist=0.1, seed=0, epochs=EPOCHS, densmap=True))
    assert np.isfinite(xy).all()


def test_a_run_that_is_closed_leaves_nothing_behind(graph, digits):
    import numba

    start, threads = random_start(len(digits)), numba.get_num_threads()
    whole = last(unfold(*graph, start, min_dist=0.1, seed=0, epochs=EPOCHS)).tobytes()
    frames = unfold(*graph, start, min_dist=0.1, seed=0, epochs=EPOCHS)
    next(frames)
    frames.close()
    assert next(frames, None) is None
    assert numba.get_num_threads() == threads
    assert last(unfold(*graph, start, min_dist=0.1, seed=0, epochs=EPOCHS)).tobytes() == whole


def test_two_threads_at_once_give_what_one_gives(graph, digits):
    start = random_start(len(digits))

    def run(seed):
        return last(unfold(*graph, start, min_dist=0.1, seed=seed, epochs=EPOCHS)).tobytes()

    alone = [run(seed) for seed in range(4)]
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(run, range(4))) == alone


def test_warming_up_from_many_threads_happens_once(monkeypatch):
    loaded, load = [], umap_layout._load
    monkeypatch.setattr(umap_layout, "_ready", [])
    monkeypatch.setattr(umap_layout, "_load", lambda: loaded.append(1) or load())
    assert not umap_layout.is_warm()
    threads = [threading.Thread(target=warm_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loaded == [1]
    assert umap_layout.is_warm()


def test_compiled_kernels_lie_apart_from_those_of_umap_learn():
    from umap import layouts

    warm_up()
    for kernel in umap_layout._ready[0]:
        folder = Path(kernel.stats.cache_path)
        if kernel.signatures:
            assert list(folder.glob(f"*.{kernel.__name__}-*.nbi"))
        assert kernel.__name__.startswith("vizkit_")
        assert not list(folder.glob("*._optimize_layout_euclidean_single_epoch-*"))
    # umap-learn's own, of which the parallel one would be handed the serial one's code, are not kept by us.
    for name in ("", "_parallel"):
        kernel = getattr(layouts, f"_nb_optimize_layout_euclidean_single_epoch{name}")
        assert kernel.stats.cache_path is None


READ_ONLY = """
import os, sys
sys.path.insert(0, sys.argv[1])
from vizkit import umap_layout
try:
    umap_layout._import_umap()
    import umap
    print(umap.doubled(21), umap.doubled.stats.cache_path, os.environ["NUMBA_CACHE_DIR"])
except RuntimeError as error:
    print(error)
"""


def run_read_only(folder, **environment):
    """Import a package called umap, one cached function in it, where numba may write neither beside it nor at home."""
    package = folder / "umap"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text("import numba\n@numba.njit(cache=True)\ndef doubled(x):\n    return 2 * x\n")
    (package / "__pycache__").touch()  # a file where the folder would be; the tests may run as root
    (folder / "file").touch()
    home = {"XDG_CACHE_HOME": str(folder / "file"), "HOME": str(folder / "file"), "LOCALAPPDATA": str(folder / "file")}
    kept = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        env=kept | home | environment,
    )
    return done.stdout.split()


def test_a_read_only_install_compiles_into_a_folder_that_goes_with_the_process(tmp_path):
    value, path, named = run_read_only(tmp_path)
    assert value == "42"
    assert Path(path).parent == Path(named)
    assert "vizkit-numba-" in named
    assert not Path(named).exists()


def test_a_numba_folder_of_the_users_is_used_and_kept(tmp_path):
    mine = tmp_path / "mine"
    value, path, named = run_read_only(tmp_path, NUMBA_CACHE_DIR=str(mine))
    assert (value, named) == ("42", str(mine))
    assert list(Path(path).glob("*.nbi"))


BEHIND = """
import sys, threading
{imported}
import vizkit as vk
images, encoder = vk.scenes("held-out").subset(range(8)), vk.Encoder("scenes")
vk.embed(images, encoder, cache=sys.argv[1], progress=False)
from vizkit.umap_layout import is_warm
behind = [thread for thread in threading.enumerate() if thread.name == "vizkit-warm-up"]
for thread in behind:
    thread.join()
print(len(behind), is_warm(), "umap" in sys.modules)
"""


@pytest.mark.parametrize(("imported", "told"), [("import ipykernel", "1 True True"), ("", "0 False False")])
def test_a_notebook_warms_up_behind_embed_and_a_script_does_not(imported, told, tmp_path):
    command = [sys.executable, "-c", BEHIND.format(imported=imported), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == told


def test_warming_up_in_a_thread_leaves_the_users_filters_alone(monkeypatch):
    seen = threading.Event(), threading.Event()

    def wait():
        seen[0].set()
        seen[1].wait(20)

    monkeypatch.setattr(umap_layout, "_import_umap", wait)
    with warnings.catch_warnings():
        thread = threading.Thread(target=umap_layout._load)
        thread.start()
        seen[0].wait(20)
        warnings.filterwarnings("error", message="mine")  # as the user's next cell may
        seen[1].set()
        thread.join()
        assert any(line[0] == "error" and line[1] and line[1].pattern == "mine" for line in warnings.filters)


FORKED = """
import os, signal, sys, threading
from vizkit import umap_layout
inside, go, load = threading.Event(), threading.Event(), umap_layout._load
umap_layout._load = lambda: (inside.set(), go.wait(60), load())[2]
thread = threading.Thread(target=umap_layout.warm_up)
if sys.argv[1] == "during":
    thread.start()
    inside.wait(60)
else:
    go.set()
child = os.fork()
if child == 0:
    signal.alarm(60)  # a process that hangs is ended
    try:
        umap_layout.warm_up()
        print("warm", flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    os._exit(0)
_, status = os.waitpid(child, 0)
go.set()
if thread.is_alive():
    thread.join()
umap_layout.warm_up()
print(status, umap_layout.is_warm())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that are forked")
@pytest.mark.parametrize(
    ("when", "told"), [("during", "VizkitError This process was forked while"), ("before", "warm")]
)
def test_a_process_that_is_forked_while_umap_loads_says_so_instead_of_hanging(when, told):
    command = [sys.executable, "-W", "ignore", "-c", FORKED, when]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, last_line = done.stdout.splitlines()
    assert first.startswith(told)
    assert last_line == "0 True"


LOADED = """
import sys, threading
import ipykernel
import numpy as np, pandas as pd
from vizkit.embeddings import Embeddings
def behind():
    return [thread for thread in threading.enumerate() if thread.name == "vizkit-warm-up"]
made = Embeddings(np.eye(3), pd.DataFrame(index=list("abc")))
assert not behind()
if sys.argv[1] == "load":
    Embeddings.load(made.save(sys.argv[2]))
else:
    Embeddings.from_frame(pd.DataFrame({"embedding": list(np.eye(3))}))
print(len(behind()))
"""


@pytest.mark.parametrize("way", ["load", "from_frame"])
def test_a_notebook_warms_up_behind_loaded_vectors_too(way, tmp_path):
    command = [sys.executable, "-c", LOADED, way, str(tmp_path / "saved")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "1"
