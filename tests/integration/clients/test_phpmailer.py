"""PHPMailer: WordPress, Joomla, Nextcloud's older apps and most of PHP. It breaks lines over 998 bytes itself."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from support.clients import PASSWORD, USER, Matrix, run
from support.letters import BY_NAME, SENDER, Letter
from support.peers import need

LIBRARY = Path("/usr/share/php/libphp-phpmailer/autoload.php")
SCRIPT = """
[$port, $secure, $user, $pass, $from, $to, $file, $ca] = json_decode(stream_get_contents(STDIN));
require '/usr/share/php/libphp-phpmailer/autoload.php';
$smtp = new PHPMailer\\PHPMailer\\SMTP();
$options = ['ssl' => ['cafile' => $ca]];
$smtp->connect(($secure ? 'ssl://' : '') . 'localhost', $port, 30, $options) or exit(2);
$smtp->hello('wordpress.example.org') or exit(3);
if (!$secure) { $smtp->startTLS() or exit(4); $smtp->hello('wordpress.example.org') or exit(5); }
$smtp->authenticate($user, $pass, $secure ? 'LOGIN' : '') or exit(6);
$smtp->mail($from) or exit(7);
$refused = [];
foreach ($to as $one) { if (!$smtp->recipient($one)) { $refused[] = $one; } }
if (!$smtp->data(file_get_contents($file))) { fwrite(STDERR, json_encode($smtp->getError())); exit(8); }
$smtp->quit();
echo json_encode($refused);
"""


def phpmailer(matrix: Matrix, folder: Path, letter: Letter, secure: bool = True) -> subprocess.CompletedProcess[bytes]:
    php = need("php")
    if not LIBRARY.exists():
        pytest.skip("PHPMailer is missing: apt-get install libphp-phpmailer")
    file = folder / "mail.eml"
    file.write_bytes(letter.data.removesuffix(b"\r\n"))  # it writes one itself, also behind the last line
    port = matrix.relay.submissions if secure else matrix.relay.submission
    order = [port, secure, USER, PASSWORD, SENDER, [*letter.recipients, *letter.refused], str(file), matrix.ca]
    return run(php, "-d", "memory_limit=1G", "-r", SCRIPT, stdin=json.dumps(order).encode())


def broken(data: bytes) -> bytes:
    """What its ``SMTP::data`` makes of lines over 998 bytes without a space: pieces of 997."""
    lines = []
    for line in data.split(b"\r\n"):
        while len(line) > 998:
            lines.append(line[:997])
            line = line[997:]
        lines.append(line)
    return b"\r\n".join(lines)


def test_letters(matrix: Matrix, letter: Letter, tmp_path: Path) -> None:
    done = phpmailer(matrix, tmp_path, letter)
    assert done.returncode == 0, done.stderr
    assert sorted(json.loads(done.stdout)) == sorted(letter.refused)
    matrix.arrived(letter, change=broken)


def test_starttls(matrix: Matrix, tmp_path: Path) -> None:
    done = phpmailer(matrix, tmp_path, BY_NAME["dots"], secure=False)
    assert done.returncode == 0, done.stderr
    matrix.arrived(BY_NAME["dots"])
