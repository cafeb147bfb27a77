"""Freed memory that stays at hand, counted by the kernel: pages that it had to give and clear."""

import os
import subprocess
import sys

import pytest

from vizkit.allocator import kept_pages

PROGRAM = """
import ctypes, resource
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: huge pages would make the count one of luck
import numpy as np
from vizkit.allocator import kept_pages

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for size in (36 << 20, 10 << 20) * 10:
        block = np.empty(size, np.uint8)
        block[::4096] = 1
        del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

plain = faults()
with kept_pages():
    with kept_pages():
        pass
    kept = faults()
    held = resident()
print(plain, kept, held - resident())
"""


def counted(**environment):
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment})
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is Linux's")
def test_large_blocks_are_cleared_once_and_given_back_at_the_end():
    plain, kept, given_back = counted()
    assert kept < plain / 4
    assert given_back > 30 << 20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is Linux's")
def test_what_the_user_chose_for_malloc_stays():
    plain, kept, _ = counted(MALLOC_TOP_PAD_="131072")
    assert kept > plain / 2


def test_an_error_inside_is_passed_on():
    with pytest.raises(KeyError, match="mine"), kept_pages():
        raise KeyError("mine")
