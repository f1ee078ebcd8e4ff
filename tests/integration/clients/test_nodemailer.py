"""nodemailer: what applications written in JavaScript use (Ghost, n8n, Strapi, ...)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from support.clients import PASSWORD, USER, Matrix, run
from support.install_clients import CACHE, COMMAND
from support.letters import BY_NAME, SENDER, Letter
from support.peers import need

SCRIPT = """
const fs = require("fs");
const { port, secure, user, pass, from, to, file } = JSON.parse(fs.readFileSync(0, "utf8"));
const transport = require("nodemailer").createTransport({
  host: "localhost", port, secure, requireTLS: true, auth: { user, pass },
});
transport.sendMail({ envelope: { from, to }, raw: fs.readFileSync(file) }).then(
  (info) => console.log(JSON.stringify(info.rejected)),
  (error) => { console.error(error.message); process.exit(1); },
);
"""


def nodemailer(matrix: Matrix, folder: Path, letter: Letter, secure: bool = True) -> subprocess.CompletedProcess[bytes]:
    modules = CACHE / "nodemailer" / "node_modules"
    if not modules.is_dir():
        pytest.skip(f"nodemailer is missing: {COMMAND}")
    file = folder / "mail.eml"
    file.write_bytes(letter.data)
    relay = matrix.relay
    order = {
        "port": relay.submissions if secure else relay.submission,
        "secure": secure,
        "user": USER,
        "pass": PASSWORD,
    }
    order |= {"from": SENDER, "to": [*letter.recipients, *letter.refused], "file": str(file)}
    environ = {"NODE_PATH": str(modules), "NODE_EXTRA_CA_CERTS": matrix.ca}
    return run(need("node"), "-e", SCRIPT, stdin=json.dumps(order).encode(), env=environ)


def test_letters(matrix: Matrix, letter: Letter, tmp_path: Path) -> None:
    done = nodemailer(matrix, tmp_path, letter)
    assert done.returncode == 0, done.stderr
    assert sorted(json.loads(done.stdout)) == sorted(letter.refused)
    matrix.arrived(letter)


def test_starttls(matrix: Matrix, tmp_path: Path) -> None:
    assert nodemailer(matrix, tmp_path, BY_NAME["dots"], secure=False).returncode == 0
    matrix.arrived(BY_NAME["dots"])
