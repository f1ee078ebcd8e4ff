"""Our ports and the providers', as ``check`` sees them: certificates, firewalls, other programs, the clock."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from domain.checks import servers
from domain.checks.model import Verdict
from support.domain.world import WELL, World, bad
from support.ports import free_port

pytest_plugins = ["support.domain.fixtures"]


def test_a_certificate_for_another_name(world: World) -> None:
    world.serve(world.authority.issue_cert("other.example.org"))
    found = [one for one in bad(world.findings(WELL)) if one.check.startswith("port ")]
    assert len(found) == 2
    assert all("ostname mismatch" in one.finding and "OWNPOST_HOSTNAME" in one.fix for one in found)


def test_a_certificate_that_nobody_trusts(world: World) -> None:
    world.serve(trustme.CA().issue_cert("mail.example.org"))
    found = [one for one in bad(world.findings(WELL)) if one.check.startswith("port ")]
    assert len(found) == 2
    assert all("certificate" in one.finding and "OWNPOST_TLS=acme" in one.fix for one in found)


def test_a_chain_without_its_middle(world: World, tmp_path: Path) -> None:
    """As with a cert.pem in the place of the fullchain.pem."""
    leaf = world.authority.create_child_ca().issue_cert("mail.example.org")
    pem = tmp_path / "leaf.pem"
    pem.write_bytes(leaf.private_key_pem.bytes() + leaf.cert_chain_pems[0].bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    world.publish(context)
    found = [one for one in bad(world.findings(WELL)) if one.check.startswith("port ")]
    assert len(found) == 2
    assert all("issuer" in one.finding and "the whole chain" in one.fix for one in found)


def test_a_certificate_that_has_run_out_or_soon_will(world: World) -> None:
    world.host(not_after=datetime.now(UTC) - timedelta(days=1))
    found = [one for one in bad(world.findings(WELL)) if one.check.startswith("port ")]
    assert all("expired" in one.finding and "not renewed" in one.fix for one in found)
    world.host(not_after=datetime.now(UTC) + timedelta(days=3))
    found = bad(world.findings(WELL))
    assert [one.verdict for one in found] == [Verdict.ADVICE] * 2
    assert all("ends in 3 days" in one.finding for one in found)


@pytest.mark.parametrize(
    ("life", "well", "late", "words"),
    [
        (160 / 24, 1.5, 1.1, "26 hours"),  # Let's Encrypt's profile shortlived
        (45, 10, 8, "8 days"),  # tlsserver, renewed when a third of it is left
        (64, 13.5, 12, "12 days"),
        (398, 15, 13, "13 days"),
    ],
)
def test_soon_is_a_part_of_a_certificates_own_life(
    world: World, life: float, well: float, late: float, words: str
) -> None:
    """One that lives for six days always ends within six; it has long been renewed when a fifth of it is left."""
    for left, verdicts in ((well, []), (late, [Verdict.ADVICE] * 2)):
        end = datetime.now(UTC) + timedelta(days=left)
        world.host(not_before=end - timedelta(days=life), not_after=end)
        found = bad(world.findings(WELL))
        assert [one.verdict for one in found] == verdicts
        assert all(words in one.finding for one in found)


def test_a_port_that_is_shut(world: World) -> None:
    world.host()
    world.env["OWNPOST_SUBMISSION_PORT"] = str(free_port())
    [found] = bad(world.findings(WELL))
    assert found.verdict is Verdict.WRONG
    assert "refused" in found.finding
    assert "firewall" in found.fix


def test_something_else_on_our_port(world: World) -> None:
    world.host(banner=b"SSH-2.0-OpenSSH_9.9\r\n")
    found = bad(world.findings(WELL))
    assert all("SSH-2.0" in one.finding and "nothing but Ownpost" in one.fix for one in found)
    assert len(found) == 2


def test_starttls_taken_out_on_the_way(world: World) -> None:
    world.host(offers=b"XXXXXXXA")
    [found] = bad(world.findings(WELL))
    assert "does not offer STARTTLS" in found.finding


def test_a_providers_port_that_is_blocked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.host()
    shut = free_port()
    world.env["MAILGUN_PORT"] = str(shut)
    [found] = bad(world.findings(WELL))
    assert (found.domain, found.verdict) == ("Mailgun", Verdict.WRONG)
    assert f"cannot be reached on {shut}" in found.finding
    opened = int(world.env["OWNPOST_SUBMISSION_PORT"])
    advice = servers.provider("X", "127.0.0.1", (shut, opened))
    assert advice.fix == f"Set the provider's PORT to {opened}."


def test_a_provider_of_ones_own_is_left_to_the_relay(world: World) -> None:
    """Compose cannot hand over a name that it does not know: to set it would not help."""
    world.host()
    world.env["OWNPOST_PROVIDERS"] = "acmemail"
    [found] = [one for one in world.findings(WELL) if one.domain == "acmemail"]
    assert (found.verdict, found.finding) == (Verdict.UNKNOWN, "its host is not known here")
    assert "`make providers`" in found.fix
    world.env |= {"ACMEMAIL_HOST": "127.0.0.1", "ACMEMAIL_PORT": world.env["OWNPOST_SUBMISSION_PORT"]}
    [found] = [one for one in world.findings(WELL) if one.domain == "acmemail" and one.check == "ports outward"]
    assert found.verdict is Verdict.GOOD


def test_a_clock_that_is_wrong(world: World) -> None:
    world.host()
    [found] = bad(world.findings(WELL, now=datetime.now(UTC).timestamp() - 3600))
    assert found.check == "clock"
    assert "behind" in found.finding
    assert "set-ntp" in found.fix
