"""A message that is sent again, over real connections: what its client is told, and what is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from relay import limits
from relay.clock import SystemClock
from relay.model import State
from support.fakes import FakeSpool
from support.reception import Reception, person, reception, to_data, until
from support.smtp_client import RawClient

DATE = b"Date: Tue, 24 Nov 2026 12:00:00 +0000\r\n"
MAIL = b"From: anna@example.org\r\nMessage-ID: <1@client>\r\n" + DATE + b"\r\nhello\r\n.\r\n"


class Clocks(SystemClock):
    """Goes on when the test says so, too."""

    later = 0.0

    def time(self) -> float:
        return super().time() + self.later


async def send(client: RawClient, mail: bytes = MAIL) -> bytes:
    await to_data(client)
    await client.send(mail)
    return await client.line()


async def waits(host: Reception) -> None:
    """Until a twin waits for the one that is being written."""
    await until(lambda: any(host.repeats._under_way.values()), "the twin to wait")


async def twins(host: Reception) -> tuple[RawClient, RawClient]:
    """Two clients that have sent the same mail, of which none is written yet."""
    first, second = await host.logged_in(), await host.logged_in()
    host.spool.gate.clear()
    for client in (first, second):
        await to_data(client)
        await client.send(MAIL)
    await waits(host)
    return first, second


async def test_the_answer_is_the_first_ones_and_the_journal_is_told(tmp_path: Path) -> None:
    async with reception(tmp_path, "lan", tls=False) as host:
        first, second = await host.logged_in(), await host.logged_in()
        answer = await send(first)
        assert await send(second) == answer
        (kept,) = host.spool.kept
        assert answer == b"250 2.0.0 Kept safe as " + kept.message.id.encode()
        assert len(kept.message.fingerprint) == 16
        assert host.journal.told("repeated") == [(("lan", "127.0.0.1", "anna", kept.message.id), {})]
        assert len(host.journal.told("accepted_timing")) == 1


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ((b"From:", b"Subject: The door stands open\r\nFrom:"), 2),  # a device with one Message-ID for all its mail
        ((b"From: anna", b"From: Anna <anna"), 2),
        ((b"From:", b"To: bob@example.net\r\nFrom:"), 2),
        ((b"From:", b"Cc: bob@example.net\r\nFrom:"), 2),
        ((b"<1@client>", b"<2@client>"), 2),
        ((b"12:00:00", b"12:05:00"), 2),  # the alarm of five minutes later
        ((b"Date:", b"Content-Type: text/html\r\nDate:"), 2),
        ((b"Date:", b"Content-Transfer-Encoding: base64\r\nDate:"), 2),
        ((b"Date:", b"Reply-To: carol@example.org\r\nDate:"), 2),
        ((b"From: a", b"Resent-From: anna@example.org\r\nResent-Message-ID: <r1@client>\r\nFrom: a"), 2),
        ((b"From:", b"Received: from here by there; Tue, 24 Nov 2026 12:00:00 +0000\r\nFrom:"), 1),  # another server
        ((b"From:", b"DKIM-Signature: t=2\r\nFrom:"), 1),
        ((b"From:", b"Bcc: carol@example.net\r\nFrom:"), 1),  # the envelope says who gets it
    ],
)
async def test_what_makes_it_another_mail(tmp_path: Path, change: tuple[bytes, bytes], kept: int) -> None:
    other = MAIL.replace(*change, 1).replace(b"<anna@example.org\r\n", b"<anna@example.org>\r\n")
    async with reception(tmp_path, "lan", tls=False) as host:
        for mail in (MAIL, other):
            assert (await send(await host.logged_in(), mail)).startswith(b"250 ")
        assert len(host.spool.kept) == kept


async def test_a_date_that_we_add_makes_no_other_mail(tmp_path: Path) -> None:
    clock = Clocks()
    async with reception(tmp_path, "lan", tls=False, desk={"clock": clock}) as host:
        client, mail = await host.logged_in(), MAIL.replace(DATE, b"")
        answer = await send(client, mail)
        clock.later = 300.0
        assert await send(client, mail) == answer
        assert b"\r\nDate: " in host.spool.kept[0].data


async def test_a_twin_waits_for_the_commit_of_the_first_and_answers_alike(tmp_path: Path) -> None:
    async with reception(tmp_path, "lan", tls=False) as host:
        first, second = await twins(host)
        assert host.spool.kept == []
        host.spool.gate.set()
        assert await first.line() == await second.line()
        assert len(host.spool.kept) == 1


async def test_when_the_first_fails_its_twin_is_kept(tmp_path: Path) -> None:
    async with reception(tmp_path, "lan", tls=False) as host:
        first, second = await twins(host)
        host.spool.full = "commit"
        trouble = host.spool.trouble

        def once(call: str) -> None:
            host.spool.trouble = trouble  # type: ignore[method-assign]
            host.spool.full, full = "", host.spool.full
            FakeSpool(full=full).trouble(call)

        host.spool.trouble = once  # type: ignore[method-assign]
        host.spool.gate.set()
        answers = [await first.line(), await second.line()]
        assert sorted(answer[:4] for answer in answers) == [b"250 ", b"452 "]
        assert len(host.spool.kept) == 1


async def test_a_large_repeat_leaves_nothing_in_the_spool(tmp_path: Path) -> None:
    mail = MAIL[:-3] + (b"x" * 998 + b"\r\n") * (3 * limits.CHUNK // 1000) + b".\r\n"
    async with reception(tmp_path, "lan", tls=False) as host:
        client = await host.logged_in()
        assert await send(client, mail) == await send(client, mail)
        assert (len(host.spool.kept), host.spool.aborted, host.spool.reserved) == (1, 1, 0)
        longer = mail[:-3] + b"x\r\n.\r\n"
        assert await send(client, longer) != await send(client, mail)
        assert len(host.spool.kept) == 2


async def test_a_repeat_gives_no_way_past_a_limit_and_takes_nothing_of_it(tmp_path: Path) -> None:
    account = person(recipients_per_hour=2)
    async with reception(
        tmp_path, "lan", tls=False, settings={"RELAY_LAN_RECIPIENTS_PER_DAY": "2"}, accounts=[account]
    ) as host:
        client = await host.logged_in()
        for _ in range(4):
            assert (await send(client)).startswith(b"250 ")
        assert host.limiter.check(account, 1) is None
        assert host.limiter.check(account, 2) is not None


async def test_a_refused_message_is_not_remembered(tmp_path: Path) -> None:
    async with reception(tmp_path, "lan", tls=False, settings={"RELAY_LAN_RECIPIENTS_PER_DAY": "1"}) as host:
        first, second = await host.logged_in(), await host.logged_in()
        await to_data(first)
        await to_data(second)
        await first.send(MAIL.replace(b"<1@", b"<0@"))
        assert (await first.line()).startswith(b"250 ")
        await second.send(MAIL)
        assert (await second.line()).startswith(b"450 4.7.1 ")
        assert len(host.spool.kept) == 1
        assert (len(host.repeats._recent), host.repeats._under_way) == (1, {})


@pytest.mark.parametrize("state", [State.DROPPED, State.REFUSED])
async def test_what_was_dropped_or_refused_may_be_sent_again(tmp_path: Path, state: State) -> None:
    async with reception(tmp_path, "lan", tls=False) as host:
        client = await host.logged_in()
        answer = await send(client)
        host.spool.states[host.spool.kept[0].message.id] = {state}
        again = await send(client)
        assert again != answer
        assert await send(client) == again
        assert len(host.spool.kept) == 2


async def test_another_account_is_another_sender(tmp_path: Path) -> None:
    accounts = [person(), person("bert", senders=("anna@example.org",))]
    async with reception(tmp_path, accounts=accounts) as host:
        host.passwords.table["bert"] = "correct horse"
        client = await host.logged_in()
        other = await host.connect()
        await other.line()
        await other.ask(b"EHLO client")
        await other.ask(b"STARTTLS")
        await other.start_tls(host.client_context)
        await other.ask(b"EHLO client")
        assert (await other.ask(b"AUTH PLAIN AGJlcnQAY29ycmVjdCBob3JzZQ==")).startswith(b"235 ")
        assert await send(client) != await send(other)
        assert [kept.message.account for kept in host.spool.kept] == ["anna", "bert"]


async def test_without_the_setting_everything_is_kept(tmp_path: Path) -> None:
    async with reception(tmp_path, "lan", tls=False, desk={"repeats": None}) as host:
        client = await host.logged_in()
        assert await send(client) != await send(client)
        assert [kept.message.fingerprint for kept in host.spool.kept] == [b"", b""]


async def test_a_client_that_leaves_while_it_waits_changes_nothing(tmp_path: Path) -> None:
    async with reception(tmp_path, "lan", tls=False) as host:
        first, second = await twins(host)
        first.abort()
        second.abort()
        host.spool.gate.set()
        await asyncio.wait_for(host.spool.arrived.wait(), 10)
        third = await host.logged_in()
        answer = await send(third)
        assert answer == b"250 2.0.0 Kept safe as " + host.spool.kept[0].message.id.encode()
        assert len(host.spool.kept) == 1
