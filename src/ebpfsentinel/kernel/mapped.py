"""Arrays of the kernel as memory of this process (``BPF_F_MMAPABLE``)."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PAGE = mmap.PAGESIZE


def mapped(fd: int, element: np.dtype[Any], first: int, count: int) -> NDArray[Any]:
    """``count`` elements from ``first`` on, shape ``(count,)``; only their pages are mapped.

    The descriptor is closed.
    """
    begin, end = first * element.itemsize, (first + count) * element.itemsize
    page = begin // _PAGE * _PAGE
    memory = mmap.mmap(fd, -(-(end - page) // _PAGE) * _PAGE, offset=page)
    os.close(fd)
    return np.frombuffer(memory, np.uint8)[begin - page : end - page].view(element)
