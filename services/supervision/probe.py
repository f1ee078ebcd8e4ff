"""Asks a program of ours over its Unix socket: ``python probe.py SOCKET PATH``.

Exit code 0 for an answer 200, else 1 and one line that says why. Compose's health checks and ``watch.py`` ask this way
because it leaves no trace in the mail log. Nothing but ``socket`` is imported: a health check runs for ever.
"""

import socket
import sys

ANSWER_READ = 64 * 1024  # bytes of an answer that are looked at


def ask(path: str, target: str, seconds: float) -> tuple[bool, str]:
    """Whether ``GET target`` on the socket ``path`` is answered by 200 within ``seconds``, and its body or why not."""
    try:
        answer = _get(path, target, seconds)
    except OSError as error:
        return False, f"{path}: {error.strerror or error}"
    head, _, body = answer.partition(b"\r\n\r\n")
    fields = head.split(None, 2)
    if len(fields) < 2 or not fields[0].startswith(b"HTTP/1."):
        return False, f"{path}: no HTTP answer"
    return fields[1] == b"200", body.decode(errors="replace").strip()


def _get(path: str, target: str, seconds: float) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        connection.connect(path)
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while len(answer) < ANSWER_READ and (piece := connection.recv(ANSWER_READ)):
            answer += piece
    return answer


if __name__ == "__main__":
    well, text = ask(sys.argv[1], sys.argv[2], 4.0)
    if not well:
        print(text)
    sys.exit(0 if well else 1)
