"""Every parser that meets others' words is given as much of them as it ever gets, of the most awkward kinds: its work
grows with the size and no faster. ``docs/security.md`` lists them with their bounds.

Time is measured, but not against the clock on the wall: either it is next to nothing, or sixteen times as much takes a
good sixteen times the work, where the square would be 256 times.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import email.utils
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import h11
import httpx
import pytest
from aiosmtplib.esmtp import parse_esmtp_extensions

from common import names
from domain import aliases, api, dmarc, dotenv, pasted, records, spf
from exporter import client, exposition, privacy, words
from exporter.guard import Guard, Names
from relay import accounts, control, limits
from relay.accounts import Account
from relay.delivery import content, login, notice
from relay.delivery.outcome import Finding, Reply, judge
from relay.delivery.replies import Link
from relay.oauth import http as token_http
from relay.providers import file as providers_file
from relay.providers.presets import PRESETS
from relay.providers.rules import Stage
from relay.submission import auth, paths
from relay.submission.content import Decoder
from relay.submission.prepare import Trace, prepare
from renewer import certbot, trouble
from support.appliance import ROOT

KIB, MIB = 1024, 1024**2
NOTHING = 0.05  # seconds of work that are next to nothing, whatever the machine
STEP, MOST = 16, 80.0  # times the size, and times the work: 16 if it is linear, 256 if it is the square
ATOMS = [
    *("a", "A", "1", "é", "e\u0301", "\u202e", "\u3002", "ä.", "=", "-", "_", "%", "~", "#", "/", "'", '"', "\\", "\0"),
    *(
        "<",
        ">",
        "<a",
        "<a@b>",
        "@",
        "a@",
        "a@b ",
        "a@b,",
        ".",
        "a.",
        '"a".',
        '"a" ',
        '\\"',
        "(",
        ")",
        "()",
        ":",
        ";",
        ",",
    ),
    *(
        "[",
        "]",
        "[::",
        "{",
        '{"a":',
        "[1,",
        " ",
        "\t",
        "\r\n ",
        "\r\n",
        "\n",
        "\r",
        "=?a?q?x ",
        "=?",
        "?=",
        "=?utf-8?b?4oK9",
    ),
    *(
        "250-a\r\n",
        "250 a\r\n",
        "X-A: b\r\n",
        "From: a@b\r\n",
        "Received: x\r\n",
        "xn--a.",
        "https://a ",
        "AUTH PLAIN\n",
    ),
    *("your account is ", "exceeded the limit ", "sending limit ", "too many ", "quota ", "sender is not ", "api key "),
    *("host='a' ", "host='", "Error code: 400 - ", "'code': 1, 'message': 'a", "CERTIFICATE_VERIFY_FAILED] "),
    *(
        "acme.messages.Error: ",
        "urn:ietf:params:acme:error:a :: ",
        '"type": "urn:ietf:params:acme:error:a", ',
        '"detail": "',
    ),
    *(
        " Domain: a\n Type: b\n",
        "retry-after: 9",
        "a = [",
        "x = {a = ",
        "a = 1\n",
        "a='''\n",
        "[a]\n",
        "[[a]]\n",
        "# TYPE a counter\n",
    ),
    *('a="b",', "v=spf1 ", "include:a ", "v=DMARC1;", "Mon, "),
]


class Parser(NamedTuple):
    """What is called, and how many bytes it ever gets."""

    call: Callable[[bytes], object]
    size: int


def text(call: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: call(data.decode("utf-8", "replace"))


def refusing(call: Callable[[Any], object], *refusals: type[Exception]) -> Callable[[Any], object]:
    def refused(data: Any) -> None:
        with contextlib.suppress(*refusals):
            call(data)

    return refused


STRICT = Account(name="anna", password_hash="", senders=("anna@example.org",))
REWRITE = Account(name="nas", password_hash="", senders=("anna@example.org",), rewrite=True)
TRACE = Trace.make(hostname="m.example.org", domain="example.org", client_name="pc", client_address="192.0.2.1")


def header(account: Account, start: bytes) -> Callable[[bytes], object]:
    def call(data: bytes) -> object:
        whole, id_ = start + data + b"\r\n\r\n", "01KC6W3V2M7Z9QH8R5T4XY0AB1"
        return [
            prepare(whole, account=account, sender="", trace=TRACE, message_id=id_, now=1.8e9, lenient=lenient)
            for lenient in (False, True)
        ]

    return call


def greeting(name: str) -> object:
    return [
        Trace.make(hostname="m", domain="d.example", client_name=name, client_address=one)
        for one in ("192.0.2.1", "2001:db8::7")
    ]


def command(data: bytes) -> object:
    return [
        read(start + data + end, smtputf8=True, lenient=lenient)
        for read, starts in ((paths.read_mail, (b"FROM:", b"FROM:<")), (paths.read_rcpt, (b"TO:", b"TO:<")))
        for start in starts
        for end in (b"", b">")
        for lenient in (False, True)
    ]


def body(data: bytes) -> None:
    decoder = Decoder(limits.MESSAGE_SIZE, normalize=True)
    for start in range(0, len(data), 64 * KIB):
        decoder.feed(data[start : start + 64 * KIB])


def reply(data: bytes) -> None:
    """Out of the provider's packets, and then what it means, for each stage and with everybody's rules."""
    transport: Any = SimpleNamespace(abort=lambda: None)
    loop: Any = SimpleNamespace(time=lambda: 0.0)
    link = Link(loop, transport)
    link._wanted = 10**9
    for start in range(0, len(data), 16 * KIB):
        link.data_received(data[start : start + 16 * KIB])
    answers = [Reply(code, data.decode("utf-8", "replace")[: limits.REPLY_SIZE]) for code in (250, 452, 550)]
    rules = [rule for preset in PRESETS.values() for rule in preset.rules]
    quoted = [data[:500].decode("utf-8", "replace")]
    for answer in [*answers, *link._got[:1]]:
        for stage in (Stage.MAIL, Stage.RCPT, Stage.FINAL):
            judge(Finding(stage, answer), rules, quoted, ["x@y.example"])


def request(data: bytes) -> None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=control.REQUEST_SIZE)
    with contextlib.suppress(h11.RemoteProtocolError):
        for start in range(0, len(data), 100):
            connection.receive_data(data[start : start + 100])
            connection.next_event()


def token_answer(data: bytes) -> None:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=token_http.HEADER_SIZE)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    with contextlib.suppress(h11.RemoteProtocolError):
        connection.receive_data(b"HTTP/1.1 200 OK\r\nX: " + data[: token_http.HEADER_SIZE])
        connection.next_event()
    with contextlib.suppress(token_http.Unreachable):
        token_http._fields("a", 200, data)


def service_answer(data: bytes) -> None:
    head = (
        data.decode("ascii", "replace").replace("\n", "").replace("\r", "")[:8_000].encode("ascii", "replace").decode()
    )
    answers = iter([httpx.Response(429, headers={"retry-after": head}), httpx.Response(400, content=data)])
    http = api.bounded(httpx.Client(transport=httpx.MockTransport(lambda _: next(answers))))
    service = api.Api("A", "https://a.example", {"X-Key": "secret-secret"}, api.words, http, sleep=lambda _: None)
    with contextlib.suppress(api.ApiError):
        service.get("/")


def page_password(value: str) -> object:
    return asyncio.run(
        Guard("$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$AAAA", lambda: 0.0).check(f"Basic {value}", "192.0.2.1")
    )


def certbot_said(data: str) -> None:
    for output in (trouble.Output(data, "", ""), trouble.Output("", data, ""), trouble.Output("", "", data)):
        trouble.explain(output, names=["m.example.org"], now=1.8e9)


STRIPPED, KEPT = content.field_pattern(["X-SMTPAPI", "X-PM-*"]), content.field_pattern(["X-*"], ["From", "X-A*"])
DOMAINS = ("example.org",)
PARSERS = {
    # clients
    "commands": Parser(command, limits.COMMAND_LINE),
    "EHLO": Parser(text(greeting), limits.COMMAND_LINE),
    "AUTH": Parser(lambda data: (auth.decode_plain(data), auth.decode_login(data)), limits.AUTH_LINE),
    "header": Parser(header(STRICT, b""), limits.HEADER_SIZE - 100),
    "From": Parser(header(STRICT, b"From: "), limits.HEADER_SIZE - 100),
    "From rewritten": Parser(header(REWRITE, b"From: "), limits.HEADER_SIZE - 100),
    "Message-ID": Parser(header(STRICT, b"From: anna@example.org\r\nMessage-ID: "), limits.HEADER_SIZE - 100),
    "body": Parser(body, 4 * MIB),
    # on the way out, and what is told of it
    "fields out": Parser(lambda data: content.without_fields(data + b"\r\n\r\n", STRIPPED), limits.HEADER_KEPT),
    "fields kept": Parser(lambda data: content.without_fields(data + b"\r\n\r\n", KEPT), limits.HEADER_KEPT),
    "References": Parser(
        lambda data: content.with_reference(b"References: " + data + b"\r\n\r\n", "<a@b>"), limits.HEADER_KEPT
    ),
    "short fields": Parser(lambda data: content.with_short_fields(data + b"\r\n\r\n", 1_000), limits.HEADER_KEPT),
    "Subject": Parser(lambda data: notice.subject(b"Subject: " + data), limits.HEADER_KEPT),
    # providers
    "EHLO's answer": Parser(text(lambda data: parse_esmtp_extensions(f"a\n{data}")), 32 * KIB),
    "reply": Parser(reply, limits.REPLY_LINE * limits.REPLY_LINES),
    "reply of many lines": Parser(lambda data: reply(b"250-" + data), limits.REPLY_LINE * limits.REPLY_LINES),
    "XOAUTH2": Parser(lambda data: login.explained(b64encode(data).decode()), 24 * KIB),
    "token endpoint": Parser(token_answer, token_http.ANSWER_SIZE),
    # files that people edit
    "accounts.toml": Parser(refusing(accounts.parse, accounts.AccountsError), accounts.FILE_SIZE),
    "providers.toml": Parser(providers_file.parse, providers_file.FILE_SIZE),
    "providers.toml, DNS": Parser(text(refusing(lambda one: pasted.parse(one, DOMAINS), pasted.PastedError)), MIB),
    "aliases.toml": Parser(text(refusing(lambda one: aliases.parse(one, DOMAINS), aliases.AliasesError)), MIB),
    ".env": Parser(text(dotenv.parse), dotenv.FILE_LENGTH),
    # sockets and the page
    "control socket": Parser(request, control.REQUEST_SIZE),
    "metrics": Parser(text(refusing(exposition.parse, ValueError)), client.MOST_TEXT),
    "metrics' labels": Parser(
        text(refusing(lambda one: exposition.parse("# TYPE ownpost_a gauge\nownpost_a{" + one), ValueError)),
        client.MOST_TEXT,
    ),
    "shown": Parser(text(lambda one: (privacy.shorten(one), words.readable(one), names.printable(one))), 64 * KIB),
    "page's password": Parser(text(page_password), 8 * KIB),
    "Host": Parser(text(Names(["a"]).are_ours), 8 * KIB),
    # services and zones
    "certbot": Parser(text(certbot_said), certbot.LOG_READ),
    "API": Parser(service_answer, api.MOST),
    "Date": Parser(text(refusing(email.utils.parsedate_to_datetime, ValueError, OverflowError)), 64 * KIB),
    "TXT": Parser(text(lambda one: records.unquote('"' + one)), 64 * KIB),
    "SPF": Parser(text(refusing(lambda one: spf.parse("v=spf1 " + one), spf.Unreadable)), 64 * KIB),
    "DMARC": Parser(text(lambda one: (dmarc.is_dmarc(one), dmarc.strictness(one))), 64 * KIB),
    "names": Parser(
        text(
            lambda one: (
                names.host_name(one),
                names.server(one),
                names.readable(one),
                records.ascii_form(one),
                refusing(names.address, names.BadName)(one),
            )
        ),
        64 * KIB,
    ),
}


def work(parser: Parser, atom: str, frame: str, size: int) -> float:
    """Seconds of this process, for so much of ``atom``."""
    data = (frame % (atom * max(1, size // len(atom.encode())))).encode()[:size]
    began = time.process_time()
    parser.call(data)
    return time.process_time() - began


def least(parser: Parser, atom: str, frame: str, size: int) -> float:
    """The least of some tries: others use the machine too."""
    return min(work(parser, atom, frame, size) for _ in range(3))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", list(PARSERS))
def test_the_largest_and_most_awkward_input_takes_linear_work(name: str) -> None:
    parser = PARSERS[name]
    few = max(parser.size // STEP**2, min(parser.size, 4 * KIB))
    kinds = sorted((work(parser, atom, frame, few), atom, frame) for atom in ATOMS for frame in ("%s", '%s"'))
    for _, atom, frame in kinds[-2:]:
        size = few
        while size < parser.size:
            before, size = size, min(parser.size, STEP * size)
            once = work(parser, atom, frame, size)
            if once > NOTHING and once > MOST * work(parser, atom, frame, before):
                grown = least(parser, atom, frame, size) / least(parser, atom, frame, before)
                assert grown < MOST, f"{atom!r}, {size} bytes of it"


def test_a_key_of_many_names_is_refused_in_every_file_and_a_list_of_many_dots_is_not() -> None:
    deep = "a." * 100_000 + "a = 1\n"
    with pytest.raises(accounts.AccountsError, match="a key is made of more than"):
        accounts.parse(deep.encode())
    assert "a key is made of more than" in providers_file.parse(f"[{deep[:90]}]".encode()).problems[0]
    senders = ", ".join(f'"a.b.c.{n}@mail.example.org"' for n in range(100))
    kept = accounts.parse(f'# {"." * 100}\n[accounts.anna]\npassword_hash = ""\nsenders = [{senders}]\n'.encode())
    assert len(kept.find("anna").senders) == 100  # type: ignore[union-attr]


def test_an_answer_without_end_and_one_that_hides_its_size_are_not_read() -> None:
    def endless() -> Any:
        while True:
            yield b" " * MIB

    def asked(**answer: Any) -> None:
        http = api.bounded(httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, **answer))))
        api.Api("A", "https://a.example", {}, api.words, http, sleep=lambda _: None).get("/")

    with pytest.raises(api.Unreachable, match="larger than 16 MiB"):
        asked(content=endless())
    with pytest.raises(api.Unreachable, match="compressed"):
        asked(headers={"content-encoding": "gzip"}, content=b"x")


def test_the_email_package_reads_nothing() -> None:
    """Its parsers and its header decoder take the square of their input; we need it to write dates, and to read one."""
    allowed = {"format_datetime", "parsedate_to_datetime"}
    used = set()
    for path in Path(ROOT, "services").glob("*/src/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "email":
                used |= {one.name for one in node.names}
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "email.utils":
                used.add(node.attr)
            if isinstance(node, ast.Import):
                assert not [
                    one.name for one in node.names if one.name.startswith("email") and one.name != "email.utils"
                ]
    assert used == allowed
