"""The renewer as its own process: what clients, the operator and supervisor see of it."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.appliance import eventually
from support.chains import Authority
from support.renewer import Renewer
from support.unix_http import get

HOST = "mail.example.org"


@pytest.fixture
def renewer(tmp_path: Path) -> Iterator[Renewer]:
    renewer = Renewer(tmp_path)
    yield renewer
    renewer.kill()


def handshake(certs: Path, name: str) -> dict[str, object]:
    """A client that trusts ``ca.pem`` meets a server that serves ``current``; the certificate as the client sees it."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certs / "current" / "fullchain.pem", certs / "current" / "privkey.pem")
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs, contextlib.suppress(OSError), serving.wrap_socket(theirs, server_side=True) as connection:
            connection.recv(1)  # a client that refuses us says so here

    thread = threading.Thread(target=serve)
    thread.start()
    trusting = ssl.create_default_context(cafile=str(certs / "ca.pem"))
    try:
        with ours, trusting.wrap_socket(ours, server_hostname=name) as connection:
            return dict(connection.getpeercert() or {})
    finally:
        thread.join()


def test_self_signed_from_an_empty_folder_to_a_handshake(renewer: Renewer) -> None:
    renewer.start()
    renewer.published()
    for name in (HOST, "localhost", "127.0.0.1", "::1"):
        handshake(renewer.certs, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(renewer.certs, "mail.example.net")
    assert get(renewer.socket, "/livez") == (200, b'{"alive": true}\n')
    assert renewer.status()["last_error"] == ""
    assert b"ownpost_renewer_certificate_not_after_timestamp_seconds" in get(renewer.socket, "/metrics")[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_at_once_and_starts_again_with_the_same_certificate(renewer: Renewer, number: int) -> None:
    renewer.start()
    name = renewer.published()
    eventually(lambda: get(renewer.socket, "/livez")[0] == 200, "no answer")
    assert renewer.stop(number) == 0
    assert not renewer.socket.exists()
    renewer.start()
    eventually(lambda: get(renewer.socket, "/livez")[0] == 200, "no answer")
    eventually(lambda: renewer.status()["last_success"], "no attempt")
    assert renewer.published() == name


def test_after_a_kill_it_simply_starts_again(renewer: Renewer) -> None:
    renewer.start()
    name = renewer.published()
    renewer.stop(signal.SIGKILL)
    (renewer.certs / ".new-0123").mkdir()
    renewer.start()
    eventually(lambda: get(renewer.socket, "/livez")[0] == 200, "no answer")
    assert renewer.published() == name
    assert not (renewer.certs / ".new-0123").exists()


def test_files_are_published_and_a_bad_pair_is_one_sentence(tmp_path: Path) -> None:
    authority = Authority.new(now=time.time())
    leaf = authority.leaf(HOST)
    (tmp_path / "c.pem").write_bytes(leaf.pem + authority.intermediate.pem)
    (tmp_path / "k.pem").write_bytes(leaf.key_pem())
    files = {"RENEWER_FILES_CERT": str(tmp_path / "c.pem"), "RENEWER_FILES_KEY": str(tmp_path / "k.pem")}
    renewer = Renewer(tmp_path, OWNPOST_TLS="files", **files)
    renewer.start()
    try:
        name = renewer.published()
        assert not (renewer.certs / "ca.pem").exists()
        renewer.stop()
        (tmp_path / "k.pem").write_bytes(authority.leaf(HOST).key_pem())
        renewer.start()
        eventually(lambda: get(renewer.socket, "/livez")[0] == 200, "no answer")
        eventually(lambda: renewer.status()["last_error"], "no failure")
        assert renewer.status()["last_error"] == f"{tmp_path}/c.pem: The key does not belong to the certificate."
        assert renewer.published() == name
    finally:
        renewer.kill()
    assert b"PRIVATE" not in renewer.log.read_bytes()


def test_check_names_every_problem_and_ends_with_78(tmp_path: Path) -> None:
    renewer = Renewer(tmp_path, OWNPOST_TLS="perhaps", OWNPOST_HOSTNAME="mail")
    for arguments in (["--check"], []):
        answer = renewer.check(*arguments)
        assert answer.returncode == 78
        assert answer.stdout == ""
        assert [line.partition(":")[0] for line in answer.stderr.splitlines()] == ["OWNPOST_TLS", "OWNPOST_HOSTNAME"]


def test_check_of_good_settings_says_nothing_and_writes_nothing(tmp_path: Path) -> None:
    renewer = Renewer(tmp_path)
    answer = renewer.check("--check")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    assert list(renewer.certs.iterdir()) == []


def test_an_unknown_argument_is_told_the_usage(tmp_path: Path) -> None:
    assert Renewer(tmp_path).check("--help").returncode == 64


def test_a_second_renewer_in_the_same_folder_leaves_with_75(renewer: Renewer, tmp_path: Path) -> None:
    renewer.start()
    renewer.published()
    (tmp_path / "format").write_text("text\n")
    second = Renewer(tmp_path, RENEWER_LOG_FORMAT="json", RENEWER_LOG_FORMAT_FILE=str(tmp_path / "format")).check()
    assert second.returncode == 75
    assert 'warning text="RENEWER_LOG_FORMAT: given together with RENEWER_LOG_FORMAT_FILE; the' in second.stdout
    assert f"Another renewer works in {renewer.certs}." in second.stdout


def test_a_run_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = Renewer(tmp_path, RENEWER_RUN=str(tmp_path / "file")).check()
    assert answer.returncode == 75
    assert len(answer.stdout.splitlines()) == 1
    assert "cannot be opened: Not a directory." in answer.stdout
