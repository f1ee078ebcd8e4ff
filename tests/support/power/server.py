"""The process behind a mount: shows a :class:`~support.power.disk.Disk` to programs, and spoils it on command.

`python -m support.power.server MOUNT COUNTER [FOLDER]`: mounts a disk that holds what is in FOLDER. Standard input is a
socket on which the tests give orders, one line of JSON each, answered by one line:

- ``{"do": "plan", "faults": [[what, end of name, n-th, action], …]}``: from now on do ``action`` ("off" or an errno) at
  the n-th such step of files whose names end so; ``what`` is an operation of the disk, "change" for any of them. The
  action replaces the step; "off" is a power cut: nothing is answered any more, and the test is told ``{"off": true}``.
- ``{"do": "leave", "folder": …, "loss": …, "seed": …}``: write what a power cut now leaves.
- ``{"do": "record", "file": …}``: write all operations so far to the file, to be read by ``replay``.
- ``{"do": "end"}``, or the end of the socket: unmount and leave.

COUNTER is a file of eight bytes that always holds the number of operations carried out; a test maps it, and so knows
what had happened on the disk when it saw something else happen.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import pickle
import select
import socket
import stat
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.power import fuse
from support.power.disk import PAGE, Disk, File, Folder, Loss, Operation
from support.power.fuse import Op

SIZE = 16 * 1024**3  # what the file system says of itself
CHANGES = frozenset({"create", "mkdir", "remove", "rename", "write", "truncate", "sync"})


class Off(Exception):
    """The power has gone."""


@dataclass
class Fault:
    """One planned fault; ``left`` counts down to it."""

    what: str
    ending: str
    left: int
    action: Any

    def meets(self, what: str, name: str) -> bool:
        """Count the step; true for the one that is meant."""
        if self.left <= 0 or self.what not in (what, "change") or not name.endswith(self.ending):
            return False
        if self.what == "change" and (what not in CHANGES or name.endswith("-shm")):
            return False
        self.left -= 1
        return self.left == 0


class Server:
    """Answers the kernel, one request at a time."""

    def __init__(self, disk: Disk, counter: mmap.mmap) -> None:
        self.disk, self._counter = disk, counter
        self.operations: list[Operation] = []
        self.faults: list[Fault] = []
        self.recording = False
        self._names: dict[int, str] = {}
        for node in disk.nodes.values():
            if isinstance(node, Folder):
                self._names.update((number, name) for name, number in node.names.items())

    def change(self, *operation: Any, name: str = "") -> Any:
        """Carry out an operation of the disk, or what is planned in its place; raises OSError or :class:`Off`."""
        name = name or self._names.get(operation[1], "")
        for fault in self.faults:
            if fault.meets(operation[0], name):
                if fault.action == "off":
                    raise Off
                if operation[0] == "sync":
                    self._apply(("fail_sync", operation[1]))
                raise OSError(fault.action, "as planned")
        return self._apply(operation)

    def _apply(self, operation: Operation) -> Any:
        result = self.disk.apply(operation)
        if self.recording:
            self.operations.append(operation)
        self._counter[:8] = struct.pack("=Q", self.disk.steps)
        return result

    def serve(self, request: bytes) -> bytes | None:
        """The answer to one request."""
        _, opcode, unique, node, *_ = fuse.HEADER.unpack_from(request)
        body = request[fuse.HEADER.size :]
        if opcode in fuse.SILENT:
            return None
        handler = _HANDLERS.get(opcode)
        if handler is None:
            return fuse.answer(unique, error=errno.ENOSYS)
        try:
            return fuse.answer(unique, handler(self, node, body))
        except OSError as error:
            return fuse.answer(unique, error=error.errno or errno.EIO)

    # --- requests: what the kernel names a node is its number on the disk
    def _attributes(self, number: int) -> bytes:
        node = self.disk.nodes[number]
        if isinstance(node, File):
            return fuse.attributes(number, stat.S_IFREG | node.mode, node.size)
        return fuse.attributes(number, stat.S_IFDIR | node.mode, PAGE)

    def _entry(self, number: int) -> bytes:
        return fuse.entry(number, self._attributes(number))

    def _find(self, parent: int, name: str) -> int:
        number = self.disk.folder(parent).names.get(name, 0)
        if not number:
            raise OSError(errno.ENOENT, name)
        return number

    def lookup(self, node: int, body: bytes) -> bytes:
        return self._entry(self._find(node, _name(body)))

    def getattr(self, node: int, body: bytes) -> bytes:
        return fuse.attribute_answer(self._attributes(node))

    def setattr(self, node: int, body: bytes) -> bytes:
        valid, size, mode = struct.unpack_from("=I12xQ", body) + struct.unpack_from("=I", body, 68)
        if valid & 1:
            self.change("chmod", node, mode & 0o7777)
        if valid & 8:
            self.change("truncate", node, size)
        return fuse.attribute_answer(self._attributes(node))

    def mkdir(self, node: int, body: bytes) -> bytes:
        mode, umask = struct.unpack_from("=II", body)
        return self._entry(self._made("mkdir", node, _name(body[8:]), mode & ~umask & 0o7777))

    def create(self, node: int, body: bytes) -> bytes:
        _, mode, umask = struct.unpack_from("=III", body)
        number = self._made("create", node, _name(body[16:]), mode & ~umask & 0o7777)
        return self._entry(number) + bytes(16)

    def _made(self, what: str, parent: int, name: str, mode: int) -> int:
        number: int = self.change(what, parent, name, mode, name=name)
        self._names[number] = name
        return number

    def remove(self, node: int, body: bytes) -> bytes:
        name = _name(body)
        found = self.disk.nodes[self._find(node, name)]
        if isinstance(found, Folder) and found.names:
            raise OSError(errno.ENOTEMPTY, name)
        self.change("remove", node, name, name=name)
        return b""

    def rename(self, node: int, body: bytes, skip: int = 8) -> bytes:
        (parent,) = struct.unpack_from("=Q", body)
        old, new = (os.fsdecode(one) for one in body[skip:].split(b"\0")[:2])
        number = self._find(node, old)
        self.change("rename", node, old, parent, new, name=new)
        self._names[number] = new
        return b""

    def rename2(self, node: int, body: bytes) -> bytes:
        if struct.unpack_from("=I", body, 8)[0]:
            raise OSError(errno.EINVAL, "RENAME_EXCHANGE and the like")
        return self.rename(node, body, 16)

    def open(self, node: int, body: bytes) -> bytes:
        return struct.pack("=QII", 0, 2, 0)  # FOPEN_KEEP_CACHE

    def read(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("=QQI", body)
        return self.disk.file(node).read(offset, size)

    def readdir(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("=QQI", body)
        found = [(name, number, self._kind(number)) for name, number in self.disk.folder(node).names.items()]
        return fuse.listing([(".", node, stat.S_IFDIR), ("..", node, stat.S_IFDIR), *found], offset, size)

    def _kind(self, number: int) -> int:
        return stat.S_IFREG if isinstance(self.disk.nodes[number], File) else stat.S_IFDIR

    def write(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("=QQI", body)
        self.change("write", node, offset, body[40 : 40 + size])
        return struct.pack("=II", size, 0)

    def fsync(self, node: int, body: bytes) -> bytes:
        self.change("sync", node)
        return b""

    def fallocate(self, node: int, body: bytes) -> bytes:
        _, offset, length, mode = struct.unpack_from("=QQQI", body)
        if mode:
            raise OSError(errno.EOPNOTSUPP, "holes")
        if offset + length > self.disk.file(node).size:
            self.change("truncate", node, offset + length)
        return b""

    def statfs(self, node: int, body: bytes) -> bytes:
        used = sum(file.size for file in self.disk.nodes.values() if isinstance(file, File))
        return fuse.statistics(SIZE // 4096, (SIZE - used) // 4096)

    def init(self, node: int, body: bytes) -> bytes:
        return fuse.init(body)

    def nothing(self, node: int, body: bytes) -> bytes:
        return b""


_HANDLERS = {
    Op.LOOKUP: Server.lookup, Op.GETATTR: Server.getattr, Op.SETATTR: Server.setattr, Op.MKDIR: Server.mkdir,
    Op.UNLINK: Server.remove, Op.RMDIR: Server.remove, Op.RENAME: Server.rename, Op.RENAME2: Server.rename2,
    Op.OPEN: Server.open, Op.OPENDIR: Server.open, Op.READ: Server.read, Op.READDIR: Server.readdir,
    Op.WRITE: Server.write, Op.STATFS: Server.statfs, Op.FSYNC: Server.fsync, Op.FSYNCDIR: Server.fsync,
    Op.CREATE: Server.create, Op.FALLOCATE: Server.fallocate, Op.INIT: Server.init, Op.FLUSH: Server.nothing,
    Op.RELEASE: Server.nothing, Op.RELEASEDIR: Server.nothing, Op.DESTROY: Server.nothing,
}  # fmt: skip


def _name(body: bytes) -> str:
    return os.fsdecode(body.partition(b"\0")[0])


def _order(server: Server, order: dict[str, Any]) -> dict[str, Any]:
    """Carry out one order of the tests."""
    waiting = [fault.left for fault in server.faults]
    match order["do"]:
        case "plan":
            server.faults = [Fault(*one) for one in order["faults"]]
        case "leave":
            server.disk.leave(Path(order["folder"]), Loss(order["loss"]), order["seed"])
        case "record":
            Path(order["file"]).write_bytes(pickle.dumps(server.operations, protocol=5))
        case "recording":
            server.recording = True
    return {"steps": server.disk.steps, "waiting": waiting}


def _run(server: Server, device: int, orders: socket.socket) -> None:
    lines = orders.makefile("rwb", buffering=0)
    on, poll = True, select.poll()
    poll.register(orders, select.POLLIN)
    poll.register(device, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if orders.fileno() in ready:
            order = json.loads(lines.readline() or b'{"do": "end"}')
            if order["do"] == "end":
                return
            lines.write(json.dumps(_order(server, order)).encode() + b"\n")
        if on and device in ready:
            try:
                request = os.read(device, fuse.REQUEST_BYTES)
                if (reply := server.serve(request)) is not None:
                    os.write(device, reply)
            except Off:
                on = False
                poll.unregister(device)
                lines.write(b'{"off": true}\n')
            except OSError as error:
                if error.errno == errno.ENODEV:  # unmounted by somebody else
                    return
                if error.errno not in (errno.ENOENT, errno.EINTR, errno.EAGAIN):  # ENOENT: who asked was killed
                    raise


def main(arguments: list[str]) -> int:
    """See the module. Prints its reason and ends with 77 where it cannot mount."""
    point, counter = Path(arguments[0]), Path(arguments[1])
    disk = Disk.load(Path(arguments[2])) if len(arguments) > 2 else Disk()
    try:
        device = fuse.mount(point)
    except OSError as error:
        print(error)
        return 77
    try:
        with counter.open("r+b") as file, socket.socket(fileno=0) as orders:
            orders.send(b'{"mounted": true}\n')
            _run(Server(disk, mmap.mmap(file.fileno(), 8)), device, orders)
    finally:
        fuse.unmount(point)
        os.close(device)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
