"""The protocol between Linux and a file system in a program (``/dev/fuse``, linux/fuse.h), as far as a spool needs it.

Spoken directly: the few dozen lines here need no library, no compiler and no package, and every step of a program is
seen one by one and in order. Version 7.31 (Linux 5.4) is announced; newer kernels speak it too.

Memory maps: the kernel keeps the pages of files that are open without FOPEN_DIRECT_IO, and shares them between all who
map them. SQLite's ``-shm`` needs no more than that. Its pages are written back when the kernel likes, as on any disk:
SQLite never trusts that file after a restart. Of ``write`` nothing is kept back: without FUSE_WRITEBACK_CACHE the
kernel passes every one on before it returns.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import struct
import subprocess
from enum import IntEnum
from pathlib import Path
from typing import Final

MAX_WRITE: Final = 128 * 1024
REQUEST_BYTES: Final = MAX_WRITE + 4096
FOREVER: Final = 1 << 30  # seconds that the kernel may keep names and attributes: nobody else changes them
HEADER: Final = struct.Struct("=IIQQIIIHH")  # length, opcode, unique, node, uid, gid, pid, …
_ANSWER: Final = struct.Struct("=IiQ")
_ATTRIBUTES: Final = struct.Struct("=QQQQQQIIIIIIIIII")
_DETACH: Final = 2  # MNT_DETACH
_NOSUID_NODEV: Final = 6

OPEN_FLAGS: Final = 1 << 0 | 1 << 5 | 1 << 22  # FUSE_ASYNC_READ, FUSE_BIG_WRITES, FUSE_MAX_PAGES


class Op(IntEnum):
    """Requests that are answered; all others get ENOSYS."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    FALLOCATE = 43
    RENAME2 = 45


SILENT: Final = frozenset({Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT})  # no answer is expected


def answer(unique: int, body: bytes = b"", error: int = 0) -> bytes:
    """The bytes of an answer."""
    return _ANSWER.pack(_ANSWER.size + len(body), -error, unique) + body


def init(body: bytes) -> bytes:
    """What INIT is answered with."""
    readahead = struct.unpack_from("=I", body, 8)[0]
    return struct.pack("=IIIIHHIIHHI28x", 7, 31, readahead, OPEN_FLAGS, 16, 12, MAX_WRITE, 1, MAX_WRITE // 4096, 0, 0)


def attributes(number: int, mode: int, size: int) -> bytes:
    """``struct fuse_attr``: everything belongs to the user of the tests, and is as old as the epoch."""
    blocks = -(-size // 512)
    times = (0,) * 6
    return _ATTRIBUTES.pack(number, size, blocks, *times, mode, 1, os.getuid(), os.getgid(), 0, 4096, 0)


def attribute_answer(attr: bytes) -> bytes:
    """``struct fuse_attr_out``."""
    return struct.pack("=QII", FOREVER, 0, 0) + attr


def entry(number: int, attr: bytes) -> bytes:
    """``struct fuse_entry_out``."""
    return struct.pack("=QQQQII", number, 0, FOREVER, FOREVER, 0, 0) + attr


def listing(names: list[tuple[str, int, int]], offset: int, size: int) -> bytes:
    """As many of (name, number, mode) behind ``offset`` as fit into ``size``."""
    out = b""
    for n, (name, number, mode) in enumerate(names[offset:], offset + 1):
        raw = os.fsencode(name)
        one = struct.pack("=QQII", number, n, len(raw), mode >> 12) + raw
        one += bytes(-len(one) % 8)
        if len(out) + len(one) > size:
            break
        out += one
    return out


def statistics(blocks: int, free: int) -> bytes:
    """``struct fuse_statfs_out`` in blocks of 4 KiB."""
    return struct.pack("=QQQQQIIII24x", blocks, free, free, 1 << 20, 1 << 19, 4096, 255, 4096, 0)


def mount(point: Path) -> int:
    """Mount on ``point`` and return the descriptor to serve; raises OSError, which says what is missing."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise OSError("/dev/fuse is missing or not ours: modprobe fuse; in a container: --device /dev/fuse")
    if os.geteuid() == 0:
        return _mount_as_root(point)
    if shutil.which("fusermount3") is None:
        raise OSError("only root can mount without fusermount3: apt-get install fuse3")
    return _mount_by_helper(point)


def _mount_as_root(point: Path) -> int:
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions".encode()
    if libc.mount(b"power", os.fsencode(point), b"fuse.power", _NOSUID_NODEV, options) != 0:
        code = ctypes.get_errno()
        os.close(device)
        raise OSError(code, f"mount(2): {os.strerror(code)}; in a container: --cap-add SYS_ADMIN", str(point))
    return device


def _mount_by_helper(point: Path) -> int:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        environ = {**os.environ, "_FUSE_COMMFD": str(theirs.fileno())}
        command = ["fusermount3", "-o", "default_permissions,fsname=power,subtype=power", "--", str(point)]
        done = subprocess.run(
            command, env=environ, pass_fds=[theirs.fileno()], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise OSError(done.stderr.strip())
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


def unmount(point: Path) -> None:
    """Take the mount away, whoever still has files open there; silent when there is none."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).umount2(os.fsencode(point), _DETACH)
    elif shutil.which("fusermount3"):
        subprocess.run(["fusermount3", "-u", "-z", "--", str(point)], capture_output=True, check=False)
