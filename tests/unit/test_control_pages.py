"""What the control socket answers, against a real spool."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email import message_from_bytes
from email.policy import SMTP
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from relay.choice.routes import Route, Routes
from relay.control import BadRequest, Request
from relay.control_pages import routes
from relay.delivery.probe import PortLook, Readiness
from relay.ids import new_id
from relay.metrics import Metrics
from relay.model import Event, EventKind, Kind, Message, Result, State
from relay.provider_report import ProviderReport
from relay.providers.provider import Provider
from relay.providers.rules import Standing
from relay.quotas import Use
from relay.spool import QueueEntry, Spool, SpoolFull
from relay.testmail import NotQueued, TestMail, compose
from support.spooling import offering

AT = 1_790_000_000.0


class HandClock:
    def __init__(self) -> None:
        self.now = AT

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@dataclass
class FakeState:
    """A provider as delivery sees it."""

    name: str
    state: str = "open"
    standing: str = ""
    reason: str = ""
    until: float = 0.0
    in_hand: int = 0
    port: int = 587
    domains: tuple[Any, ...] = ()


@dataclass
class FakePause:
    domain: str
    standing: str
    reason: str
    until: float


class FakeDelivery:
    """Says what it is told to."""

    def __init__(self) -> None:
        self.states = [FakeState("brevo"), FakeState("capture", port=0)]
        self.sentence = ""
        self.looked = 0

    def providers(self) -> list[FakeState]:
        return self.states

    def waits(self, entry: QueueEntry) -> str:
        return self.sentence if self.looked and entry.state is State.DUE else ""

    async def look_at_quotas(self) -> None:
        self.looked += 1


class FakeLooks:
    def __init__(self) -> None:
        self.last: dict[str, Readiness] = {}
        self.asked: list[str] = []

    async def look(self, name: str = "") -> dict[str, Readiness]:
        self.asked.append(name)
        port = PortLook(port=587, tls="starttls", open=True, login=False, sentence="535 No", standing=Standing.KEY_DEAD)
        self.last["brevo"] = Readiness(provider="brevo", at=AT, ports=(port,))
        return self.last


class FakeQuotas:
    def __init__(self) -> None:
        self.found: dict[str, list[Use]] = {}

    async def uses(self) -> dict[str, list[Use]]:
        return self.found


def use(used: int, limit: int, **changes: Any) -> Use:
    usual: dict[str, Any] = {"zone": "UTC", "hours": 24, "in_hand": 0, "reserve": 0, "since": AT, "resets_at": AT + 60}
    return Use(**{"limit": limit, "period": "day", "used": used, **usual, **changes})


ROUTES = Routes(
    ("brevo", "capture"),
    (Route(("capture", "brevo"), weights=(3, 1), domain="example.com"), Route(("capture",), account="shop")),
)


class House:
    """A spool and the pages that show it."""

    def __init__(self, spool: Spool, clock: HandClock) -> None:
        self.spool, self.clock = spool, clock
        self.reasons: list[str] = []
        self.retried: list[str] = []
        self.facts: dict[str, object] = {"version": "0.1.0"}
        self.delivery, self.looks, self.quotas = FakeDelivery(), FakeLooks(), FakeQuotas()
        providers = [
            Provider(name="brevo", title="Brevo", host="smtp.brevo.example", ports=((587, "starttls"),), username="u"),
            Provider(name="capture", host="", ports=(), captured=Path("captured")),
        ]
        test = TestMail(spool, clock, hostname="mail.example.org", postmaster="postmaster@example.org")
        self.routes = routes(
            spool=spool,
            metrics=Metrics(CollectorRegistry(), ["brevo", "capture"], "0.1.0"),
            clock=clock,
            ready=lambda: self.reasons,
            status=lambda: self.facts,
            test=test.queue,
            providers=ProviderReport(providers, ROUTES, self.delivery, self.looks, self.quotas),
            retried=lambda message: self.retried.append(message.id),
        )

    async def ask(self, method: str, path: str, **query: str) -> tuple[int, Any]:
        answer = await self.routes[method, path](Request(query, ""))
        return answer.status, json.loads(answer.body)

    async def get(self, path: str, **query: str) -> Any:
        status, found = await self.ask("GET", path, **query)
        assert status == 200
        return found

    async def changed(self, verb: str, **query: str) -> int:
        status, found = await self.ask("POST", f"/queue/{verb}", **query)
        assert (status, set(found)) == (200, {"changed"})
        number: int = found["changed"]
        return number

    async def retry(self, message_id: str, **query: str) -> tuple[int, int, float | None]:
        status, found = await self.ask("POST", "/queue/retry", id=message_id, **query)
        assert status == 200
        return found.pop("changed"), found.pop("unsure"), found.pop("gone_since")

    async def add(self, *recipients: str, account: str = "anna") -> str:
        message_id = new_id(self.clock.now)
        message = Message(
            id=message_id,
            account=account,
            sender="anna@example.org",
            recipients=recipients or ("bob@example.net",),
            size=3,
            received_at=self.clock.now,
            message_id="<1@example.org>",
        )
        event = Event(kind=EventKind.ACCEPTED, at=self.clock.now, message=message_id, account=account)
        await self.spool.upload(message_id).commit(message, b"\r\nx", (event,))
        return message_id


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    clock = HandClock()

    def fatal(reason: str) -> None:
        raise AssertionError(reason)

    spool = await Spool.open(tmp_path, clock=clock, on_committed=lambda _: None, on_fatal=fatal, ballast=0)
    yield House(spool, clock)
    await spool.close()


async def test_alive(house: House) -> None:
    assert await house.get("/livez") == {"alive": True}


async def test_ready_or_why_not(house: House) -> None:
    assert await house.ask("GET", "/readyz") == (200, {"state": "ready", "reasons": []})
    house.reasons = ["There is no certificate yet."]
    assert await house.ask("GET", "/readyz") == (503, {"state": "not ready", "reasons": house.reasons})
    house.facts["state"] = "starting"
    assert (await house.ask("GET", "/readyz"))[1]["state"] == "starting"


async def test_status(house: House) -> None:
    await house.add("bob@example.net", "carl@example.net")
    found = await house.get("/status.json")
    assert (found["version"], found["state"], found["reasons"]) == ("0.1.0", "ready", [])
    assert found["queue"]["deliveries"]["due"] == 2
    assert (found["queue"]["messages"], found["queue"]["bytes"], found["queue"]["oldest"]) == (1, 3, AT)
    assert found["spool"]["room"] > 0


async def test_metrics_show_the_queue_of_this_moment(house: House) -> None:
    await house.add()
    house.clock.now += 90
    answer = await house.routes["GET", "/metrics"](Request({}, "application/openmetrics-text"))
    assert answer.kind.startswith("application/openmetrics-text")
    assert b'ownpost_queue_deliveries{state="due"} 1.0\n' in answer.body
    assert b"ownpost_queue_oldest_message_age_seconds 90.0\n" in answer.body


async def metrics(house: House) -> str:
    return (await house.routes["GET", "/metrics"](Request({}, ""))).body.decode()


async def test_metrics_of_a_provider_that_is_paused(house: House) -> None:
    strange = FakePause("example.net", "not set up", "550 No", AT + 60)
    house.delivery.states[0] = FakeState("brevo", "probing", "key dead", "535 No", AT, domains=(strange,))
    house.quotas.found = {"brevo": [use(1, 300), use(240, 250, period="month", in_hand=5)]}
    text = await metrics(house)
    for line in (
        'provider_paused{provider="brevo"} 1.0',
        'provider_paused{provider="capture"} 0.0',
        'provider_pause_reason{provider="brevo",reason="key_dead"} 1.0',
        'provider_paused_domains{provider="brevo"} 1.0',
        'provider_quota_used_recipients{provider="brevo"} 245.0',  # the quota that is nearest to its limit
        'provider_quota_limit_recipients{provider="brevo"} 250.0',
        'provider_quota_limit_recipients{provider="capture"} 0.0',
    ):
        assert f"\nownpost_{line}\n" in text
    house.delivery.states[0] = FakeState("brevo")
    assert 'ownpost_provider_paused{provider="brevo"} 0.0' in await metrics(house)


async def test_what_is_known_of_a_provider(house: House) -> None:
    strange = FakePause("example.net", "not set up", "550 No", AT + 60)
    house.delivery.states[0] = FakeState("brevo", "paused", "busy", "421 No", math.inf, in_hand=3, domains=(strange,))
    house.quotas.found = {"brevo": [use(7, 300, reserve=30)]}
    brevo, capture = (await house.get("/providers"))["providers"]
    expected = {"name": "brevo", "title": "Brevo", "host": "smtp.brevo.example", "login": "password", "senders": []}
    assert expected.items() <= brevo.items()
    pause = {"state": "paused", "standing": "busy", "reason": "421 No", "until": None, "port": 587, "in_hand": 3}
    assert pause.items() <= brevo.items()
    assert brevo["domains"] == [
        {"domain": "example.net", "standing": "not set up", "reason": "550 No", "until": AT + 60}
    ]
    assert {"limit": 300, "used": 7, "reserve": 30, "resets_at": AT + 60}.items() <= brevo["quotas"][0].items()
    assert brevo["routes"] == [
        {"account": "", "domain": "example.com", "place": 2, "weight": 1},
        {"account": "", "domain": "", "place": 1, "weight": 0},
    ]
    assert brevo["look"] is None
    assert (capture["login"], capture["port"], capture["state"], capture["until"]) == ("none", None, "open", None)
    assert [one["domain"] or one["account"] for one in capture["routes"]] == ["example.com", "shop", ""]
    assert (await house.get("/status.json"))["providers"] == [brevo, capture]


async def test_a_fresh_look_at_all_providers_or_at_one(house: House) -> None:
    status, found = await house.ask("POST", "/providers/probe")
    assert status == 200
    assert [one["name"] for one in found["providers"]] == ["brevo", "capture"]
    look = {"at": AT, "ready": False, "key": False, "sentence": "535 No"}
    port = {"port": 587, "tls": "starttls", "open": True, "login": False, "sentence": "535 No"}
    assert found["providers"][0]["look"] == {**look, "ports": [port]}
    _, found = await house.ask("POST", "/providers/probe", provider="Brevo")
    assert [one["name"] for one in found["providers"]] == ["brevo"]
    assert house.looks.asked == ["", "brevo"]
    for method, path in (("GET", "/providers"), ("POST", "/providers/probe")):
        with pytest.raises(BadRequest, match=r"'x' is not among the providers: brevo, capture\."):
            await house.ask(method, path, provider="x")


async def test_a_quota_that_is_used_up_by_our_count_is_a_pause(house: House) -> None:
    house.quotas.found = {"brevo": [use(300, 300), use(2_000, 2_000, period="month", resets_at=AT + 900), use(1, 2)]}
    brevo, _ = (await house.get("/providers"))["providers"]
    assert (brevo["state"], brevo["standing"], brevo["until"]) == ("paused", "used up", AT + 900)
    assert brevo["reason"] == "2,000 of 2,000 recipients a month"
    assert 'ownpost_provider_pause_reason{provider="brevo",reason="used_up"} 1.0' in await metrics(house)
    house.quotas.found = {"brevo": [use(299, 300, in_hand=1)]}  # what is on its way may be given back
    assert (await house.get("/providers"))["providers"][0]["state"] == "open"


async def test_the_queue_says_what_each_delivery_waits_for(house: House) -> None:
    waiting, held = await house.add(), await house.add()
    await house.changed("hold", id=held)
    house.delivery.sentence = "waits until 2027-01-15 00:00 UTC: Brevo's quota is used up"
    found = await house.get("/queue")
    assert {row["message"]: row["waits"] for row in found["deliveries"]} == {waiting: house.delivery.sentence, held: ""}
    assert found["all_paused"] == []
    (story,) = (await house.get("/trace", id=waiting))["messages"]
    assert story["deliveries"][0]["waits"] == house.delivery.sentence


async def test_the_queue_says_when_all_providers_are_paused(house: House) -> None:
    house.delivery.states = [FakeState("brevo", "paused", "key dead", "535 No", AT + 60), FakeState("capture")]
    assert (await house.get("/queue"))["all_paused"] == []
    house.delivery.states[1] = FakeState("capture", "probing", "busy", "421 No", AT)
    assert (await house.get("/queue"))["all_paused"] == [
        {"name": "brevo", "state": "paused", "standing": "key dead", "reason": "535 No", "until": AT + 60},
        {"name": "capture", "state": "probing", "standing": "busy", "reason": "421 No", "until": AT},
    ]


async def test_the_queue_and_its_limit(house: House) -> None:
    first = await house.add()
    house.clock.now += 1
    await house.add(account="ben")
    found = await house.get("/queue", limit="1")
    assert found["total"] == 2
    (row,) = found["deliveries"]
    expected = {"message": first, "recipient": "bob@example.net", "account": "anna", "sender": "anna@example.org"}
    assert expected.items() <= row.items()
    assert (row["state"], row["attempts"], row["doubts"], row["received_at"]) == ("due", 0, 0, AT)
    assert len((await house.get("/queue"))["deliveries"]) == 2


@pytest.mark.parametrize("limit", ["0", "10001", "x", "-1", "²", ""])
async def test_a_limit_that_is_none(house: House, limit: str) -> None:
    with pytest.raises(BadRequest, match="from 1 to 10000"):
        await house.ask("GET", "/queue", limit=limit)


async def test_hold_and_release(house: House) -> None:
    first, second = await house.add(), await house.add(account="ben")
    assert await house.changed("hold", id=first.lower()) == 1
    assert await house.changed("hold", account="ben") == 1
    assert {row["state"] for row in (await house.get("/queue"))["deliveries"]} == {"held"}
    assert await house.changed("unhold", id=second) == 1
    assert await house.changed("unhold", account="anna") == 1
    assert await house.retry(first) == (1, 0, None)
    assert house.retried == [first]
    assert await house.changed("drop", id=first) == 1
    assert await house.changed("drop", id=first) == 0
    assert await house.retry(first) == (0, 0, None)
    assert house.retried == [first], "what no longer waits is no reason to try anything"


async def test_a_failure_is_shown_until_it_is_acknowledged(house: House) -> None:
    message_id = await house.add()
    (job,) = await house.spool.claim(offering(1))
    refused = Result(
        delivery=job.recipients[0].delivery, state=State.REFUSED, provider="sendgrid", reply="5.1.1 No", code=550
    )
    event = Event(
        kind=EventKind.REFUSED, at=AT + 1, message=message_id, provider="sendgrid", code=550, reply="5.1.1 No"
    )
    await house.spool.record(job, [refused], [event])
    house.clock.now += 1
    await house.add()
    (row,) = (await house.get("/queue", limit="1"))["deliveries"]
    assert (row["state"], row["provider"], row["code"], row["reply"]) == ("refused", "sendgrid", 550, "5.1.1 No")
    assert row.pop("waits") == ""
    assert (await house.get("/failed"))["deliveries"] == [row]
    assert await house.changed("acknowledge", id=message_id) == 1
    assert [one["state"] for one in (await house.get("/queue"))["deliveries"]] == ["due"]
    assert (await house.get("/failed"))["deliveries"] == []
    (story,) = (await house.get("/trace", id=message_id))["messages"]
    assert [event["event"] for event in story["events"]] == ["accepted", "refused", "acknowledged"]
    assert story["events"][1]["reply"] == "5.1.1 No"
    assert story["deliveries"][0]["acknowledged"]


async def test_what_a_retry_cannot_do_or_does_not_dare_is_in_its_answer(house: House) -> None:
    message_id = await house.add("bob@example.net", "carl@example.net")
    (job,) = await house.spool.claim(offering(1))
    ends = zip(job.recipients, (State.REFUSED, State.UNKNOWN), strict=True)
    await house.spool.record(job, [Result(delivery=one.delivery, state=end, provider="x") for one, end in ends], [])
    assert await house.retry(message_id) == (1, 1, None)
    assert await house.retry(message_id, anyway="yes") == (2, 0, None)
    assert house.retried == [message_id] * 2
    (job,) = await house.spool.claim(offering(1))
    refused = [Result(delivery=one.delivery, state=State.REFUSED, provider="x") for one in job.recipients]
    await house.spool.record(job, refused, [])
    house.clock.now += 5
    await house.changed("acknowledge", id=message_id)
    assert await house.retry(message_id, anyway="yes") == (0, 0, AT + 5)


async def test_a_trace_by_recipient(house: House) -> None:
    await house.add("bob@example.net")
    house.clock.now += 1
    last = await house.add("Bob@example.net", "carl@example.net")
    found = (await house.get("/trace", to="bob@example.net"))["messages"]
    assert len(found) == 2
    assert found[0]["message"] == last
    assert (await house.get("/trace", id=new_id(AT)))["messages"] == []


@pytest.mark.parametrize(
    ("kept", "asked"),
    [
        ("bob@xn--mnchen-3ya.example", "Bob@m\u00fcnchen.example"),
        ("a%b+c@example.net", "a%b+c@example.net"),
        ("da.me..@docomo.example", "da.me..@docomo.example."),
        ('"two words"@example.net', '"two words"@example.net'),
        ("b\u00f6b@xn--mnchen-3ya.example", "b\u00f6b@m\u00fcnchen.example"),
    ],
)
async def test_a_trace_finds_an_odd_recipient_however_it_is_written(house: House, kept: str, asked: str) -> None:
    await house.add(kept)
    (story,) = (await house.get("/trace", to=asked))["messages"]
    assert story["deliveries"][0]["recipient"] == kept


BAD: list[tuple[str, str, dict[str, str]]] = [
    ("GET", "/trace", {}),
    ("GET", "/trace", {"id": "../../etc/passwd"}),
    ("POST", "/queue/retry", {}),
    ("POST", "/queue/retry", {"account": "anna"}),
    ("POST", "/queue/drop", {"id": "x"}),
    ("POST", "/queue/hold", {}),
    ("POST", "/queue/hold", {"id": new_id(AT), "account": "anna"}),
    ("POST", "/send-test", {}),
    ("POST", "/send-test", {"to": "nobody"}),
    ("POST", "/send-test", {"to": "a@example.net>\r\nRCPT TO:<b@example.net"}),
]


@pytest.mark.parametrize(("method", "path", "query"), BAD)
async def test_what_makes_no_sense_has_a_sentence(house: House, method: str, path: str, query: dict[str, str]) -> None:
    with pytest.raises(BadRequest, match=r"\w.*\.$"):
        await house.ask(method, path, **query)
    assert (await house.get("/queue"))["deliveries"] == []


async def test_a_verb_that_finds_no_room_says_so(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(_: str) -> int:
        raise SpoolFull

    message_id = await house.add()
    monkeypatch.setattr(house.spool, "drop", full)
    with pytest.raises(BadRequest, match="disk is full"):
        await house.ask("POST", "/queue/drop", id=message_id)


async def test_a_test_message_is_kept_like_any_other(house: House) -> None:
    status, found = await house.ask("POST", "/send-test", to="me@example.net")
    assert status == 200
    (story,) = (await house.get("/trace", id=found["message"]))["messages"]
    assert (story["kind"], story["sender"]) == ("test", "postmaster@example.org")
    assert [event["event"] for event in story["events"]] == ["accepted"]
    body = b"".join([piece async for piece in house.spool.read(found["message"])])
    assert found["message"].encode() in body


async def test_a_test_message_goes_to_what_is_an_address(house: House) -> None:
    _, found = await house.ask("POST", "/send-test", to="me@m\u00fcnchen.example")
    (story,) = (await house.get("/trace", id=found["message"]))["messages"]
    assert story["deliveries"][0]["recipient"] == "me@xn--mnchen-3ya.example"
    with pytest.raises(BadRequest, match=r"^<a b@example\.net> is not an address: "):
        await house.ask("POST", "/send-test", to="a b@example.net")


def test_a_test_message_is_a_proper_mail() -> None:
    message, content = compose(
        "me@example.net", postmaster="postmaster@example.org", hostname="mail.example.org", now=AT
    )
    mail = message_from_bytes(content, policy=SMTP)
    assert (mail["From"], mail["To"]) == ("Ownpost <postmaster@example.org>", "me@example.net")
    assert mail["Message-ID"] == message.message_id
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Date"] == "Mon, 21 Sep 2026 14:13:20 +0000"
    assert mail.defects == []
    assert content.endswith(b"\r\n")
    assert b"\n" not in content.replace(b"\r\n", b"")
    assert (message.kind, message.notify, message.size) == (Kind.TEST, "", len(content))


async def test_a_full_disk_is_told_to_who_tests() -> None:
    class Full:
        def upload(self, _: str) -> Full:
            return self

        async def commit(self, *_: object) -> None:
            raise SpoolFull("full")

    mail = TestMail(Full(), HandClock(), hostname="h.example.org", postmaster="postmaster@example.org")  # type: ignore[arg-type]
    with pytest.raises(NotQueued, match="no room"):
        await mail.queue("me@example.net")


async def test_the_latest_messages_come_newest_first_with_what_became_of_them(house: House) -> None:
    first = await house.add("a@x.example", "b@x.example", "c@x.example", "d@x.example")
    (job,) = await house.spool.claim(offering(1))
    taken = [
        Result(delivery=one.delivery, state=State.DELIVERED, provider="capture", code=250) for one in job.recipients[:3]
    ]
    await house.spool.record(job, taken, [])
    house.clock.now += 1
    second = await house.add(account="ben")
    newest, oldest = (await house.get("/latest"))["messages"]
    assert (newest["message"], newest["account"], newest["states"]) == (second, "ben", {"due": 1})
    assert (oldest["message"], oldest["states"]) == (first, {"claimed": 1, "delivered": 3})
    assert (oldest["recipients"], oldest["first_recipients"]) == (4, ["a@x.example", "b@x.example", "c@x.example"])
    assert [one["message"] for one in (await house.get("/latest", limit="1"))["messages"]] == [second]


async def test_held_mail_does_not_age(house: House) -> None:
    held = await house.add()
    await house.changed("hold", id=held)
    assert (await house.get("/status.json"))["queue"]["oldest"] is None
