"""What a session keeps, how long it waits, and what it tells of our own mistakes."""

from __future__ import annotations

import asyncio
import logging
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP

from relay import limits
from relay.accounts import Accounts
from relay.submission import intake
from relay.submission.pace import Pace
from relay.submission.session import Session
from support.bare_session import BareSession
from support.fakes import FakeSpool
from support.reception import PASSWORD, person, reception, to_data, until

HEAD = b"From: anna@example.org\r\n\r\n"


# --- the commit ---


async def test_a_client_that_leaves_during_the_commit_does_not_stop_it(tmp_path: Path) -> None:
    async with reception(tmp_path) as host:
        client = await host.logged_in()
        await to_data(client)
        host.spool.gate.clear()
        await client.send(HEAD + b".\r\n")
        await until(lambda: not host.spool.gate.is_set() and host.journal.told("login"), "the message to arrive")
        client.abort()
        await until(lambda: all(session.lost for session in host.listener._sessions), "the hang-up to be seen")
        host.spool.gate.set()
        await asyncio.wait_for(host.spool.arrived.wait(), 10)
        assert host.spool.kept[0].message.recipients == ("bob@example.net",)


async def test_no_250_before_the_commit(tmp_path: Path) -> None:
    async with reception(tmp_path, "lan", tls=False) as host:
        client = await host.logged_in()
        await to_data(client)
        host.spool.gate.clear()
        await client.send(HEAD + b".\r\n")
        waiting = asyncio.create_task(client.line())
        await asyncio.sleep(0)
        done, _ = await asyncio.wait({waiting}, timeout=0.05)
        assert not done
        host.spool.gate.set()
        assert (await waiting).startswith(b"250 2.0.0 Kept safe as " + host.spool.kept[0].message.id.encode())


async def test_a_client_that_closes_its_half_after_the_dot_gets_its_answer(tmp_path: Path) -> None:
    async with reception(tmp_path, "lan", tls=False) as host:
        client = await host.logged_in()
        await to_data(client)
        await client.send(HEAD + b".\r\nQUIT\r\n")
        client.half_close()
        assert (await client.line()).startswith(b"250 ")
        assert (await client.line()).startswith(b"221 ")


async def test_a_large_message_travels_in_chunks_and_whole(tmp_path: Path) -> None:
    body = b"".join(b"%09d .leading\r\n.dot %d\r\n" % (number, number) for number in range(60_000))
    async with reception(tmp_path) as host:
        client = await host.logged_in()
        await to_data(client)
        await client.send(HEAD + body.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        assert (await client.line()).startswith(b"250 ")
        kept = host.spool.kept[0]
        assert kept.data.endswith(HEAD[-4:] + body)
        assert kept.message.size == len(kept.data)
        assert host.spool.largest == limits.CHUNK


async def test_what_was_reserved_is_given_back_however_a_message_ends(tmp_path: Path) -> None:
    async with reception(tmp_path, "lan", tls=False) as host:
        client = await host.logged_in()
        for ending in (b"RSET", b"EHLO again", b"DATA"):
            assert (await client.ask(b"MAIL FROM:<anna@example.org> SIZE=1000")).startswith(b"250")
            assert host.spool.reserved == 1000
            await client.ask(b"RCPT TO:<bob@example.net>")
            await client.ask(ending)
            if ending == b"DATA":
                await client.send(HEAD + b".\r\n")
                await client.line()
            assert host.spool.reserved == 0
        await client.ask(b"MAIL FROM:<anna@example.org> SIZE=1000")
        client.abort()
        await until(lambda: host.spool.reserved == 0, "the reservation to be given back")


async def test_what_is_refused_in_mid_body_leaves_the_spool_at_once(tmp_path: Path) -> None:
    async with reception(tmp_path, "lan", tls=False) as host:
        client = await host.logged_in()
        await to_data(client)
        await client.send(HEAD + b"x" * limits.CHUNK + b"\r\n" + b"y" * limits.CHUNK + b"\r\n\0")
        await until(lambda: host.spool.aborted, "the chunks to be given up")
        await client.send(b"z" * limits.CHUNK + b"\r\n.\r\n")
        assert (await client.line()).startswith(b"554 5.6.0 ")
        assert (host.spool.aborted, host.spool.kept) == (1, [])


async def test_two_sessions_cannot_pass_the_same_gap_and_the_loser_pays_nothing(tmp_path: Path) -> None:
    account = person(recipients_per_hour=2)
    async with reception(
        tmp_path, "lan", tls=False, settings={"RELAY_LAN_RECIPIENTS_PER_DAY": "1"}, accounts=[account]
    ) as host:
        clients = [await host.logged_in() for _ in range(2)]
        for client in clients:
            await to_data(client)
        for client, reply in zip(clients, (b"250 ", b"450 4.7.1 "), strict=True):
            await client.send(HEAD + b".\r\n")
            assert (await client.line()).startswith(reply)
        assert host.limiter.check(account, 1) is None
        assert host.limiter.check(account, 2) is not None


# --- the account ---


@pytest.mark.parametrize("change", [{"disabled": True}, {"password_hash": "another"}])
async def test_an_account_that_is_taken_away_in_mid_message_sends_nothing_more(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    async with reception(tmp_path) as host:
        client = await host.logged_in()
        await to_data(client)
        await client.send(HEAD)
        host.file.current = Accounts([person(**change)])
        await client.send(b"text\r\n.\r\n")
        assert (await client.line()).startswith(b"421 4.7.0 The account anna ")
        assert await client.line() == b""
        assert host.spool.kept == []


async def test_an_account_that_is_only_read_anew_in_mid_message_goes_on(tmp_path: Path) -> None:
    async with reception(tmp_path) as host:
        client = await host.logged_in()
        await to_data(client)
        host.file.current = Accounts([person(recipients_per_day=5)])
        await client.send(HEAD + b"text\r\n.\r\n")
        assert (await client.line()).startswith(b"250 ")


BOTH = ("anna@example.org", "boss@example.org")


async def test_a_sender_that_is_taken_away_before_data_is_refused_there(tmp_path: Path) -> None:
    async with reception(tmp_path, accounts=[person(senders=BOTH)]) as host:
        client = await host.logged_in()
        for narrowed, answer in (("anna@example.org", b"354 "), ("boss@example.org", b"550 5.7.1 ")):
            assert (await client.ask(b"MAIL FROM:<anna@example.org>")).startswith(b"250 ")
            assert (await client.ask(b"RCPT TO:<bob@example.net>")).startswith(b"250 ")
            host.file.current = Accounts([person(senders=(narrowed,))])
            assert (await client.ask(b"DATA")).startswith(answer)
            if answer == b"354 ":
                await client.send(b"From: boss@example.org\r\n\r\n.\r\n")
                assert (await client.line()).startswith(b"550 5.7.1 ")
        assert (await client.ask(b"RSET")).startswith(b"250 ")
        assert host.spool.kept == []


@pytest.mark.parametrize(
    ("senders", "answer"),
    [
        (("*@example.org",), b"250 "),
        ((*BOTH, "carol@example.org"), b"250 "),
        (("anna@example.org",), b"451 4.7.0 "),  # what From says is not remembered; the client's next try is judged
        (("boss@example.org",), b"550 5.7.1 "),
    ],
)
async def test_senders_that_change_in_mid_message(tmp_path: Path, senders: tuple[str, ...], answer: bytes) -> None:
    async with reception(tmp_path, accounts=[person(senders=BOTH)]) as host:
        client = await host.logged_in()
        await to_data(client)
        await client.send(b"From: boss@example.org\r\n\r\n")
        await until(lambda: any(one._trace for one in host.listener._sessions), "DATA")
        host.file.current = Accounts([person(senders=senders)])
        await client.send(b"text\r\n.\r\n")
        assert (await client.line()).startswith(answer)
        assert len(host.spool.kept) == (answer == b"250 ")
        assert (await client.ask(b"NOOP")).startswith(b"250 ")


async def test_limits_that_change_in_mid_message_count(tmp_path: Path) -> None:
    async with reception(tmp_path) as host:
        client = await host.logged_in()
        await to_data(client)
        host.file.current = Accounts([person(recipients_per_hour=0)])
        await client.send(HEAD + b"text\r\n.\r\n")
        assert (await client.line()).startswith(b"550 5.7.1 Account anna may send to 0 recipients in an hour")


async def test_a_new_password_is_nothing_to_the_lan_port(tmp_path: Path) -> None:
    async with reception(tmp_path, "lan", tls=False) as host:
        client = await host.logged_in()
        await to_data(client)
        host.file.current = Accounts([person(password_hash="another")])
        await client.send(HEAD + b"text\r\n.\r\n")
        assert (await client.line()).startswith(b"250 ")
        await to_data(client)
        host.file.current = Accounts([person(disabled=True)])
        await client.send(HEAD + b"text\r\n.\r\n")
        assert (await client.line()).startswith(b"421 4.7.0 The account anna is disabled")


# --- time ---


async def test_an_idle_client_is_told_and_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IDLE_BEFORE_AUTH", 0.05)
    async with reception(tmp_path) as host:
        client = await host.connect()
        await client.line()
        await client.send(b"EH")
        assert (await client.line()).startswith(b"421 4.4.2 ")
        assert await client.line() == b""


async def test_who_has_logged_in_may_idle_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IDLE_AFTER_AUTH", 0.1)
    async with reception(tmp_path) as host:
        client = await host.logged_in()
        monkeypatch.setattr(limits, "IDLE_BEFORE_AUTH", 0.0)
        assert (await client.line()).startswith(b"421 4.4.2 ")


async def test_room_announced_is_not_kept_for_who_only_talks() -> None:
    bare = BareSession("lan")
    await bare.codes(b"", b"EHLO camera\r\n", b"MAIL FROM:<anna@example.org> SIZE=52000000\r\n")
    session = bare.session
    assert session.envelope.data_by == pytest.approx(session.loop.time() + limits.TIME_BEFORE_DATA, abs=60)
    by = session.envelope.data_by
    assert await bare.codes(b"NOOP\r\n", b"RCPT TO:<bob@example.net>\r\n", b"NOOP\r\n") == [250] * 3
    assert bare.spool.reserved == 52000000
    assert session.envelope.data_by == by, "whatever is said meanwhile"
    session.envelope.data_by = session.loop.time()
    *_, reply = await bare.send(b"NOOP\r\n")
    assert reply == b"421 4.4.2 600 seconds have passed since MAIL without DATA; send the message again."
    assert bare.closed
    assert bare.spool.reserved == 0


async def test_nor_for_who_never_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = BareSession("lan")
    await bare.codes(b"", b"EHLO camera\r\n")
    monkeypatch.setattr(limits, "TIME_BEFORE_DATA", -1.0)
    codes = await bare.codes(b"MAIL FROM:<anna@example.org> SIZE=9\r\n" + b"NOOP\r\n" * 1000)
    assert codes == [250] * limits.COMMANDS_IN_A_ROW + [421]
    assert bare.spool.reserved == 0


async def test_time_for_a_message_begins_anew_with_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with reception(tmp_path, "lan", tls=False) as host:
        client = await host.logged_in()
        await to_data(client)
        session = next(iter(host.listener._sessions))
        session.envelope.data_by = 0.0
        assert (await client.ask(HEAD + b"text\r\n.")).startswith(b"250 "), "DATA has its own time"
        assert (await client.ask(b"NOOP")).startswith(b"250 ")
        monkeypatch.setattr(limits, "TIME_BEFORE_DATA", 0.05)
        assert (await client.ask(b"MAIL FROM:<anna@example.org>")).startswith(b"250 ")
        assert (await client.line()).startswith(b"421 4.4.2 ")


async def test_a_client_may_be_as_slow_as_the_limit_and_no_slower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.submission.pace.RATE_WINDOW", 0.1)
    async with reception(tmp_path, "lan", tls=False) as host:
        client = await host.logged_in()
        await to_data(client)
        await client.send(HEAD)  # 26 bytes, and 50 are wanted in each window
        assert (await client.line()).startswith(b"421 4.4.2 ")
        assert await client.line() == b""
        assert host.spool.kept == []


async def test_a_client_that_never_reads_its_answers_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "IDLE_AFTER_AUTH", 0.2)
    async with reception(tmp_path, "lan", tls=False) as host:
        client = await host.connect()
        await client.line()
        client.stop_reading()
        while host.limiter.connections:  # the server's memory would be the one to grow
            try:
                await asyncio.wait_for(client.send(b"HELP\r\n" * 10_000), 0.05)
            except (TimeoutError, ConnectionError):
                await asyncio.sleep(0.01)


def test_pace_counts_in_windows_and_ends_after_two_hours() -> None:
    pace = Pace(1000.0)
    pace.count = 30_000
    assert (pace.deadline, pace.kept(1060.0)) == (1060.0, True)
    pace.count = 29_999
    assert not pace.kept(1120.0)
    pace.pause(40.0)
    assert pace.deadline == 1220.0
    pace.count = 30_000_000
    assert pace.kept(1000.0 + limits.DATA_TIME + 39)
    pace.count = 30_000_000
    assert not pace.kept(1000.0 + limits.DATA_TIME + 40)


async def test_a_tls_handshake_must_come_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TLS_HANDSHAKE_TIME", 0.05)
    async with reception(tmp_path, "submissions") as host:
        assert await (await host.connect_plainly()).line() == b""
        await until(lambda: host.limiter.connections == 0, "the connection to be given back")


async def test_a_handshake_after_starttls_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TLS_HANDSHAKE_TIME", 0.05)
    async with reception(tmp_path) as host:
        client = await host.connect()
        await client.line()
        await client.ask(b"EHLO client")
        assert (await client.ask(b"STARTTLS")).startswith(b"220 ")
        assert await client.line() == b""
        assert host.journal.told("tls_handshake")[0][0][:4] == ("submission", "127.0.0.1", "", False)
        await until(lambda: host.limiter.connections == 0, "the connection to be given back")


# --- our own mistakes, and secrets ---


async def test_an_exception_tells_the_client_nothing_and_the_log_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said = "hush-hush"

    def broken(self: FakeSpool, size: int) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(FakeSpool, "reserve", broken)
    async with reception(tmp_path, "lan", tls=False) as host:
        client = await host.logged_in()
        reply = await client.ask(b"MAIL FROM:<anna@example.org>")
        assert reply.startswith(b"451 4.3.0 ")
        assert (await client.ask(b"NOOP")).startswith(b"250 ")
        assert ("system", ("internal_error",), {"error": "RuntimeError"}) in host.journal.calls
        assert said not in caplog.text
        assert "RuntimeError" in caplog.text


async def test_after_an_exception_in_mid_message_the_stream_is_not_read_as_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **more: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(intake, "prepare", broken)
    async with reception(tmp_path, "lan", tls=False) as host:
        client = await host.logged_in()
        await to_data(client)
        await client.send(HEAD)
        assert (await client.line()).startswith(b"451 4.3.0 ")
        assert await client.line() == b""


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("anna", "anna"),
        ("ANNA", "anna"),
        (PASSWORD, f"(unknown, {len(PASSWORD)} characters)"),
        ("hush-hush", "(unknown, 9 characters)"),
        ("p\u00e4ssw\u00f6rd", "(unknown, 8 characters)"),
    ],
)
async def test_a_password_typed_as_the_user_name_is_not_told(typed: str, told: str) -> None:
    bare = BareSession("submissions")
    await bare.codes(b"", b"EHLO a\r\n")
    assert await bare.codes(b"AUTH PLAIN " + b64encode(f"\0{typed}\0anna".encode()) + b"\r\n") == [535]
    assert [args[2] for args, _ in bare.journal.told("login")] == [told]


async def test_no_secret_reaches_log_or_journal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with reception(tmp_path) as host:
        client = await host.logged_in()
        await client.ask(b"AUTH PLAIN AGFubmEAY29ycmVjdCBob3JzZQ==")
        await to_data(client)
        await client.send(HEAD + b"between us\r\n.\r\n")
        await client.line()
        await client.ask(b"Y29ycmVjdCBob3JzZQ==")
        told = caplog.text + repr(host.journal.calls)
        for secret in (PASSWORD, "Y29ycmVjdCBob3JzZQ", "AGFubmEAY29ycmVjdCBob3JzZQ", "between us"):
            assert secret not in told


def test_a_verb_that_upstream_may_bring_one_day_is_none_of_ours() -> None:
    verbs = b"AUTH DATA EHLO EXPN HELO HELP MAIL NOOP QUIT RCPT RSET STARTTLS VRFY"
    assert sorted(Session.VERBS) == verbs.split()
    assert not any(verb is getattr(SMTP, f"smtp_{name.decode()}") for name, verb in Session.VERBS.items())


async def test_smtputf8_is_offered_as_the_providers_are_heard_and_what_was_offered_holds(tmp_path: Path) -> None:
    async with reception(tmp_path, "lan", tls=False) as host:
        client = await host.connect()
        await client.line()
        for offered in (False, True, False):
            host.offers.greeted("generic", smtputf8=offered)
            answer = await client.ask(b"EHLO client")
            assert (b"SMTPUTF8" in answer) is offered
        host.offers.greeted("generic", smtputf8=True)
        assert (await client.ask(b"MAIL FROM:<anna@example.org> SMTPUTF8")).startswith(b"555 5.5.4")
        await client.ask(b"EHLO client")
        host.offers.greeted("generic", smtputf8=False)
        assert (await client.ask(b"MAIL FROM:<anna@example.org> SMTPUTF8")).startswith(b"250")


async def test_only_mail_that_needs_it_is_kept_as_smtputf8(tmp_path: Path) -> None:
    async with reception(tmp_path, "lan", tls=False) as host:
        host.offers.greeted("generic", smtputf8=True)
        client = await host.logged_in()
        for recipient, subject, needed in (("bob", "x", False), ("böb", "x", True), ("bob", "ü", True)):
            await client.ask(b"MAIL FROM:<anna@example.org> SMTPUTF8")
            assert (await client.ask(f"RCPT TO:<{recipient}@example.net>".encode())).startswith(b"250")
            await client.ask(b"DATA")
            text = f"From: anna@example.org\r\nSubject: {subject}\r\n\r\nhi\r\n."
            assert (await client.ask(text.encode())).startswith(b"250")
            kept = host.spool.kept[-1]
            assert kept.message.smtputf8 is needed
            assert b" with UTF8SMTP id " in kept.data
