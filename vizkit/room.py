"""Room for arrays that may be larger than memory."""

import errno
import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def room(shape: tuple[int, ...], *, among: int = 1, limit: int | None = None) -> "NDArray[np.float32]":
    """Return an array of zeros, float32, that may be larger than memory.

    Above the limit it lies in a temporary file without a name, which goes when the array goes, also after a kill. The
    file lies in the folder that TMPDIR names, or else in /var/tmp where there is one: /tmp is often memory itself.

    Parameters
    ----------
    shape
        Its shape.
    among
        How many such arrays are wanted: memory counts as free until an array is written to.
    limit
        Bytes that may lie in memory; by default half of what is free, divided among the arrays.

    Raises
    ------
    StoreError
        The disk has no room for the file.
    """
    size = 4 * math.prod(shape)
    if limit is None:
        import psutil

        limit = psutil.virtual_memory().available // (2 * among)
    if size <= limit:
        return np.zeros(shape, np.float32)
    folder = _scratch()
    try:
        with tempfile.TemporaryFile(prefix="vizkit-", dir=folder) as file:
            # Without blocks of its own, a write into the mapped file would end the process once the disk is full.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            elif shutil.disk_usage(folder).free < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return np.memmap(file, np.float32, "w+", shape=shape)
    except OSError as error:
        raise StoreError(
            f"An array of shape {shape} takes {size / 2**30:.1f} GiB, more than memory has to spare, and there is no "
            f"room for it in {folder!r} ({error}). Name a folder on a larger disk with the environment variable TMPDIR."
        ) from error


def _scratch() -> str:
    named = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    usual = "/var/tmp"
    return usual if not named and os.access(usual, os.W_OK) and Path(usual).is_dir() else tempfile.gettempdir()
