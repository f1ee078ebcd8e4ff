"""Two knobs of the C library's allocator, for what TLS reads do to it.

For each read of a TLS connection the event loop asks for 256 KiB and gives most of it back at once. glibc serves such a
size by mmap, mremap and munmap, with page faults between them, which doubles the system time of a small message over
TLS (0.22 to 0.09 ms). Taken from the heap it costs none of them.
"""

from __future__ import annotations

import ctypes

from relay import limits

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
LARGE = 1 * limits.MIB  # from here on memory comes from, and goes back to, the system at once
KEPT_FREE = 8 * limits.MIB  # at the end of the heap, before it is trimmed


def keep_read_buffers_on_the_heap() -> bool:
    """Set the knobs for this process; False where the C library has none (musl needs them less)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGE)) and bool(mallopt(_M_TRIM_THRESHOLD, KEPT_FREE))
