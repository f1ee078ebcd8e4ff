"""The size of a TLS read no longer comes from the system and goes back to it each time."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNT = """
import ctypes
from relay.allocator import keep_read_buffers_on_the_heap
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd a b c d e".split()]
mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Info
def mapped(size):
    before = mallinfo2().hblks
    data = bytearray(size)
    return mallinfo2().hblks - before
print(mapped(256 * 1024), keep_read_buffers_on_the_heap(), mapped(256 * 1024), mapped(2 * 1024 * 1024))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the knobs are glibc's")
def test_a_read_buffer_comes_from_the_heap_and_what_is_larger_from_the_system() -> None:
    command = [sys.executable, "-c", COUNT]
    printed = subprocess.run(
        command, env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=True
    )
    assert printed.stdout.split() == ["1", "True", "0", "1"]
