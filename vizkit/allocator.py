"""Keep freed memory at hand while many large blocks come and go.

glibc gives large blocks back to the kernel when they are freed, and the kernel clears every page of the next one. A
forward pass, or a photo of 12 megapixels, spends much of its time there.
"""

import os
import platform
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctypes import CDLL

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # mallopt's names for them, in malloc.h
_MOST = 2**31 - 1
# Where glibc's own adjustment of the thresholds ends, which is off once they have been set.
_AFTERWARDS = {_MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 64 << 20, _TOP_PAD: 128 << 10}
_MEANWHILE = {_MMAP_THRESHOLD: _MOST, _TRIM_THRESHOLD: _MOST, _TOP_PAD: 64 << 20}

_changing = Lock()
_users = 0


@contextmanager
def kept_pages() -> Generator[None]:
    """Let malloc keep freed blocks, of any size, until the end; what is free then goes back to the system.

    It concerns the whole process. Where malloc is not glibc's, or where the user has set it by environment variables,
    nothing changes.
    """
    global _users
    libc = _glibc()
    if libc is None:
        yield
        return
    with _changing:
        _users += 1
        if _users == 1:
            _set(libc, _MEANWHILE)
    try:
        yield
    finally:
        with _changing:
            _users -= 1
            if _users == 0:
                _set(libc, _AFTERWARDS)
                libc.malloc_trim(0)


@cache
def _glibc() -> "CDLL | None":
    import ctypes

    chosen = any(name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "LD_PRELOAD") for name in os.environ)
    return None if chosen or platform.libc_ver()[0] != "glibc" else ctypes.CDLL(None)


def _set(libc: "CDLL", values: dict[int, int]) -> None:
    for name, value in values.items():
        libc.mallopt(name, value)
