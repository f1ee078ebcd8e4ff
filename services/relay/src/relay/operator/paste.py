"""One line from the terminal that is not shown while it is typed or pasted, and may be long.

Canonical mode would cut it at 4,095 characters (termios(3)), and echo would leave it in the scroll-back. Other things
may happen while the line is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import termios
from collections.abc import Iterator

LENGTH = 64 * 1024
_PIECE = 4096
_END = b"\x04"  # Ctrl-D, which no longer ends the input by itself


@contextlib.contextmanager
def hidden(fd: int) -> Iterator[None]:
    """Nothing that is typed at the terminal ``fd`` is shown; where it is no terminal, nothing is changed."""
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    quiet = termios.tcgetattr(fd)
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(fd, termios.TCSAFLUSH, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSAFLUSH, before)


async def line(fd: int) -> str:
    """The next line from ``fd``; waits for ever if the input has ended (something else may still come)."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[str] = loop.create_future()
    data = bytearray()

    def read() -> bool:
        """Takes what is there. Whether more may come."""
        try:
            piece = os.read(fd, _PIECE)
        except OSError:  # the terminal is gone
            piece = b""
        data.extend(piece)
        if b"\n" in data and not found.done():
            found.set_result(data.split(b"\n", 1)[0].decode("utf-8", "replace"))
        more = bool(piece) and _END not in piece and len(data) <= LENGTH and not found.done()
        if not more:
            loop.remove_reader(fd)
        return more

    try:
        loop.add_reader(fd, read)
    except PermissionError:  # epoll(7) takes no regular files
        while read():
            pass
    try:
        return await found
    finally:
        loop.remove_reader(fd)
