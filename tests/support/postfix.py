"""A real Postfix as provider: an instance of its own in a temporary folder, on a free loopback port, with STARTTLS
and SASL.

Needs root (Postfix's master does) and Debian's packages postfix, sasl2-bin and libsasl2-modules. Mail for example.net
ends in files, one a message; what is said about other recipients is up to the settings given.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

import pytest
import trustme

from support.peers import need
from support.ports import free_port

USER, PASSWORD = "relay", "postfix-secret"
MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
meta_directory = /etc/postfix
maillog_file = {folder}/log/mail.log
maillog_file_prefixes = {folder}
mail_owner = postfix
myhostname = provider.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
default_transport = error:5.4.4 nothing leaves this test
local_recipient_maps =
virtual_mailbox_domains = example.net
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = static:all/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
message_size_limit = 20000000
virtual_mailbox_limit = 0
smtpd_tls_security_level = encrypt
smtpd_tls_auth_only = yes
smtpd_tls_cert_file = {folder}/cert.pem
smtpd_tls_key_file = {folder}/key.pem
smtpd_sasl_auth_enable = yes
smtpd_sasl_path = smtpd
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions =
    check_recipient_access inline:{{ {{ unknown@example.net = 550 5.1.1 no such user }}, {{ later@example.net = 450
    4.2.0 later }} }}, permit_sasl_authenticated, reject
"""
MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
smtp unix - - n - - smtp
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """Runs inside a ``with`` block."""

    def __init__(self, more: str = "") -> None:
        if os.geteuid() != 0:
            pytest.skip("a Postfix of its own needs root")
        for program in ("postfix", "saslpasswd2"):
            need(program)
        self.more = more
        self.authority = trustme.CA()

    def __enter__(self) -> Postfix:
        self.folder = Path(tempfile.mkdtemp(prefix="ownpost-postfix-"))
        self.port = free_port()
        try:
            self._write()
            self._postfix("start")
            self._wait()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _write(self) -> None:
        folder, owner = self.folder, pwd.getpwnam("postfix")
        folder.chmod(0o755)
        for name in ("config", "queue", "data", "mail", "log", "config/sasl"):
            (folder / name).mkdir()
        os.chown(folder / "data", owner.pw_uid, owner.pw_gid)
        os.chown(folder / "mail", owner.pw_uid, owner.pw_gid)
        certificate = self.authority.issue_cert("127.0.0.1")
        certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
        (folder / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
        values = {"folder": folder, "uid": owner.pw_uid, "gid": owner.pw_gid, "port": self.port}
        (folder / "config" / "main.cf").write_text(_merged(MAIN.format(**values), self.more))
        (folder / "config" / "master.cf").write_text(MASTER.format(**values))
        # Debian's Postfix looks for it here, whatever cyrus_sasl_config_path says.
        (folder / "config/sasl/smtpd.conf").write_text(
            f"pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\nsasldb_path: {folder}/sasldb2\n"
        )
        subprocess.run(
            [need("saslpasswd2"), "-p", "-c", "-f", str(folder / "sasldb2"), "-u", "provider.test", USER],
            input=PASSWORD.encode(),
            check=True,
        )
        shutil.chown(folder / "sasldb2", "postfix", "postfix")

    def _postfix(self, command: str) -> None:
        subprocess.run(
            [need("postfix"), "-c", str(self.folder / "config"), command],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _wait(self) -> None:
        end = time.monotonic() + 20
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 5) as probe:
                    assert probe.recv(3) == b"220"
                    return
            except (OSError, AssertionError) as error:
                if time.monotonic() > end:
                    raise RuntimeError(f"Postfix does not answer: {self.log()}") from error
                time.sleep(0.05)

    def _end(self) -> None:
        if (self.folder / "queue/pid/master.pid").exists():
            self._postfix("stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        """What it has logged."""
        path = self.folder / "log/mail.log"
        return path.read_text() if path.exists() else ""

    def pem(self) -> str:
        """The authority to trust."""
        return self.authority.cert_pem.bytes().decode()

    def mail(self, number: int, seconds: float = 20) -> list[bytes]:
        """The delivered messages, once there are ``number``; Postfix delivers a little after its 250."""
        end = time.monotonic() + seconds
        while True:
            found = sorted((self.folder / "mail/all/new").glob("*"))
            if len(found) >= number or time.monotonic() > end:
                return [path.read_bytes() for path in found]
            time.sleep(0.02)


def _merged(settings: str, more: str) -> str:
    """``settings`` with those of ``more`` in their place.

    Each name once: Postfix warns of a repeated one in every process, and its log daemon waits for itself to take that.
    """
    entries = re.split(r"\n(?=\S)", f"{settings.strip()}\n{more.strip()}")
    return "\n".join({entry.partition("=")[0].strip(): entry for entry in entries if entry}.values()) + "\n"
