"""What is stored is never lost and never computed twice: five killed runs of the fifty of `make stress`, and Ctrl-C."""

import io
import json
import os
import signal
import sys
import time

import numpy as np
import pytest
from stress.kill import BATCH, CORES, SHARED, Ground, N, Watch

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither SIGKILL nor a fork server")
UNDER_WAY = BATCH * (max(CORES, 2) + 1)  # images: a batch a thread, and one that waits


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    return Ground(tmp_path_factory.mktemp("stress"))


@pytest.mark.parametrize(("number", "processes"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)])
def test_a_killed_run_goes_on_where_it_was_and_ends_with_the_same_bits(ground, number, processes):
    line = ground.moment(number, processes, seed=number)
    assert line.wrong == ""
    assert line.equal
    assert line.again == 0


def test_ctrl_c_ends_a_run_within_a_batch_or_so_and_keeps_what_is_done(ground):
    place = ground.place("interrupted")
    (run,) = ground.start(place, ["run"], 1)
    while len(ground.log(place, "run")) < N // 3:
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGINT)
    when = time.monotonic()
    run.join(60)
    log = ground.log(place, "run")
    assert (run.exitcode, (place / "run.interrupted").exists()) == (130, True)
    assert sum(each > when for each in log.values()) <= UNDER_WAY
    stored = Watch(place / "cache", ground.numbers).look()
    assert len(stored) >= len(log) - UNDER_WAY > 0
    (resumed,) = ground.start(place, ["resumed"], 1)
    resumed.join(60)
    assert set(ground.log(place, "resumed")) == set(range(N)) - stored
    assert ground.result(place, "resumed") == ground.result(ground.top / "calm-1", "calm0")


def test_an_undisturbed_run_has_a_vector_or_a_failure_for_each_file(ground):
    vectors, rest = ground.result(ground.top / "calm-1", "calm0")
    ids, failed, _ = json.loads(rest)
    assert ids == [f"{number:03d}.png" for number in range(N)]
    assert failed == ["0-broken.png", "100-broken.png", "200-broken.png"]
    assert len(np.unique(np.load(io.BytesIO(vectors)).round(4), axis=0)) == N  # equal bits mean something


def test_two_runs_that_share_a_cache_share_the_work(ground):
    assert ground.times[1] == 1
    assert 1 <= ground.times[2] < SHARED
