"""The page in a real browser, in every state: what it says, that all can read it, that nothing hostile comes alive.

Screenshots are kept in var/screenshots for people to look at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from exporter.facts import DomainCheck, Event, Finding, Renewer
from exporter.providers import Pause
from exporter.snapshot import Snapshot
from support.appliance import ROOT
from support.peers import need
from support.shown import DAY, ID, NOW, Shown, delivery, paused, provider, quota, relay, snapshot, story, summary

SCREENSHOTS = ROOT / "var/screenshots"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SIZES = {"desk": {"width": 1100, "height": 900}, "phone": {"width": 375, "height": 740}}
PLAIN_EVIL = (
    "<script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">"
    "'\"--></q></td><svg onload=alert(1)>{{7*7}}&lt;b&gt;"
)
EVIL = PLAIN_EVIL + "\x1b[31m\u202egnp.exe\x00\u2066"  # what cannot be seen goes another way than what can


def busy(**states: int) -> dict[str, int]:
    return {**relay().deliveries, **states}


def all_well() -> Snapshot:
    return snapshot()


def just_started() -> Snapshot:
    empty = snapshot(relay=relay(started_at=NOW - 20), providers=(provider("capture", last_success=0.0),))
    never = DomainCheck(checked_at=0.0, findings=())
    return dataclasses.replace(empty, slots=(), latest=(), domain=never)


def queue_stuck() -> Snapshot:
    rows = [delivery(recipient=f"person{number}@example.net", received_at=NOW - 18_000 + number) for number in range(6)]
    rows.append(delivery(state="held", attempts=0, provider="", code=0, reply="", account="nas"))
    waiting = relay(deliveries=busy(due=1_204, held=1), messages=1_198, bytes=48 * 1024**2, oldest=NOW - 18_000)
    return snapshot(relay=waiting, queue=tuple(rows), latest=(summary(states={"due": 1}),))


def provider_paused() -> Snapshot:
    full = provider("brevo", **paused("used up", "300 of 300 recipients a day"), quotas=(quota(300, 300),))
    return snapshot(providers=(full, provider("sendgrid", quotas=(quota(12, 100),))))


def all_paused() -> Snapshot:
    full = provider("brevo", **paused("used up", "300 of 300 recipients a day"), quotas=(quota(300, 300),))
    dead = provider("sendgrid", **paused("key dead", "535 5.7.8 The authorization grant is invalid"))
    rows = (delivery(waits="waits until 15:13 UTC: Brevo's quota is used up; SendGrid's key was refused"),)
    return snapshot(providers=(full, dead), queue=rows)


def certificate_expired() -> Snapshot:
    ended = dataclasses.replace(relay().certificate, not_before=NOW - 92 * DAY, not_after=NOW - 2 * DAY)  # type: ignore[type-var]
    renewer = Renewer(
        mode="acme",
        last_success=NOW - 40 * DAY,
        next_attempt=NOW + 600,
        last_error="Cloudflare refuses the token: CLOUDFLARE_API_TOKEN needs the right to edit DNS.",
    )
    return snapshot(relay=relay(certificate=ended), renewer=renewer)


def failures() -> Snapshot:
    rows = (
        delivery(state="refused", code=550, reply="550 5.1.1 <bob@example.net>: no such user here"),
        delivery(state="expired", recipient="eve@example.com", reply="Given up after five days. Last: 421 4.3.2 Busy"),
        delivery(state="unknown", recipient="zoe@example.com", code=0, reply="No answer after the final dot."),
    )
    findings = (
        Finding(domain="example.org", check="DKIM", verdict="wrong", finding="No record.", fix="Run `make apply`."),
    )
    report = DomainCheck(checked_at=NOW - 60, findings=findings)
    return snapshot(relay=relay(deliveries=busy(refused=1, expired=1, unknown=1)), failed=rows, domain=report)


def relay_silent() -> Snapshot:
    error = "It does not run, or it has not opened its socket yet."
    errors = dict.fromkeys(("relay_error", "queue_error", "failed_error", "latest_error"), error)
    return snapshot(relay=None, providers=(), queue=(), latest=(), slots=(), **errors)


def hostile(evil: str = EVIL) -> Snapshot:
    row = delivery(
        recipient=f"{evil}@example.net", account=evil, sender=f'"{evil}"@example.org', reply=evil, provider=evil
    )
    bad = dataclasses.replace(row, state="refused", message=evil)
    shown = relay(
        hostname=evil,
        version=evil,
        reasons=(evil,),
        state="not ready",
        certificate=dataclasses.replace(relay().certificate, names=(evil,), issuer=evil),  # type: ignore[type-var]
        certificate_problem=evil,
        deliveries=busy(due=1, refused=1),
        oldest=NOW - 60,
        messages=1,
    )
    message = summary(account=evil, sender=evil, first_recipients=(evil,), kind=evil, states={evil: 1})
    finding = Finding(domain=evil, check=evil, verdict="wrong", finding=evil, fix=evil)
    strange = Pause(domain=evil, reason=evil, until=NOW + 60)
    return snapshot(
        relay=shown,
        providers=(provider(evil, **paused("busy", evil), domains=(strange,), problem=evil, quotas=(quota(1, 2),)),),
        queue=(row,),
        failed=(bad,),
        latest=(message,),
        renewer=Renewer(mode=evil, last_success=None, next_attempt=None, last_error=evil),
        domain=DomainCheck(checked_at=NOW - 60, findings=(finding,)),
    )


STATES: dict[str, tuple[Callable[[], Snapshot], str]] = {
    "all-well": (all_well, "All is well."),
    "just-started": (just_started, "All is well."),
    "queue-stuck": (queue_stuck, "Mail is stuck: 1,198 messages wait, the oldest for 5 h."),
    "provider-paused": (provider_paused, "Paused: brevo (until "),
    "all-paused": (all_paused, "No provider takes mail now: "),
    "certificate-expired": (certificate_expired, "The certificate expired on 2026-09-19"),
    "failures": (failures, "3 deliveries failed"),
    "relay-silent": (relay_silent, "The relay does not answer"),
    "hostile": (hostile, "It does not accept mail."),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = need("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shown() -> Iterator[Shown]:
    with Shown() as shown:
        yield shown


class Visitor:
    """A page of the browser that notices what should not happen: scripts, requests elsewhere, complaints."""

    def __init__(self, browser: Browser, home: str, size: str = "desk", scheme: Any = "light") -> None:
        self._context = browser.new_context(viewport=SIZES[size], color_scheme=scheme)  # type: ignore[arg-type]
        self.page: Page = self._context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"a dialog: {dialog.message}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda one: None if one.url.startswith(home) else self.complaints.append(one.url))

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", STATES)
def test_every_state_is_shown_and_accessible(browser: Browser, shown: Shown, name: str, size: str) -> None:
    make, words = STATES[name]
    shown.stage.snapshot = make()
    scheme = "dark" if size == "phone" else "light"
    with Visitor(browser, shown.url, size, scheme) as visitor:
        page = visitor.page
        page.goto(shown.url + "/")
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}-{size}.png", full_page=True)
        assert words in page.locator("h1").inner_text()
        assert visitor.complaints == []
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide == 0, "the page scrolls sideways"
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("show_addresses", [False, True])
@pytest.mark.parametrize("evil", [PLAIN_EVIL, EVIL], ids=["plain", "invisible"])
def test_hostile_text_is_only_text(browser: Browser, show_addresses: bool, evil: str) -> None:
    with Shown(show_addresses=show_addresses) as shown, Visitor(browser, shown.url) as visitor:
        shown.stage.snapshot = hostile(evil)
        shown.stage.told = story(
            message_id=evil,
            account=evil,
            sender=evil,
            deliveries=hostile(evil).queue,
            events=(Event(event=evil, at=NOW, recipient=evil, provider=evil, code=550, reply=evil),),
        )
        for path in ("/", f"/message/{ID}"):
            visitor.page.goto(shown.url + path)
            assert "pwned" not in visitor.page.title() or path == "/"  # the host's name is in the title, as text
            assert visitor.page.locator("script, img, svg[onload], td svg").count() == 0
            text = visitor.page.locator("body").inner_text()
            assert "<script>document.title='pwned'</script>" in text
            assert "{{7*7}}" in text
            assert not set(text) & set("\x1b\u202e\x00\u2066")
            assert ("\\u202e" in text) == (evil is EVIL)
        assert visitor.complaints == []


def test_a_message_leads_to_its_story(browser: Browser, shown: Shown) -> None:
    shown.stage.snapshot = queue_stuck()
    with Visitor(browser, shown.url, "phone") as visitor:
        page = visitor.page
        page.goto(shown.url + "/")
        page.get_by_role("link", name=ID).first.click()
        assert page.locator("h1").inner_text() == "One message's story"
        text = page.locator("body").inner_text()
        assert "accepted by the provider" in text
        assert "b…@example.net" in text
        assert "bob@example.net" not in page.content()
        page.screenshot(path=SCREENSHOTS / "story-phone.png", full_page=True)
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert visitor.complaints == []


def test_it_works_without_javascript(browser: Browser, shown: Shown) -> None:
    shown.stage.snapshot = all_well()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(shown.url + "/")
    page.locator("summary", has_text="Thunderbird").click()
    assert page.get_by_text("authentication method").is_visible()
    assert page.locator("dd code", has_text="mail.example.org").first.is_visible()
    context.close()


def test_a_small_page(shown: Shown, browser: Browser) -> None:
    shown.stage.snapshot = all_well()
    with Visitor(browser, shown.url) as visitor:
        answer = visitor.page.goto(shown.url + "/")
        assert answer is not None
        assert len(answer.body()) < 20_000
