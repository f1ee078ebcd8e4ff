"""The plan, where what a provider says of a domain leaves something to the owner or leads below the domain."""

from __future__ import annotations

from domain import aliases, pasted, plan, settings
from domain.authentication import Authentication
from domain.plan import Files, Seen, SeenZone
from domain.records import Record
from domain.steps import Create, Kind, Plan

HOME = "example.org"
BASE = {"OWNPOST_DOMAINS": HOME, "DOMAIN_ADDRESSES": "192.0.2.25"}


def planned(
    provider: str, found: Authentication | None, env: dict[str, str], *there: Record, providers: str = ""
) -> Plan:
    valid = settings.read({**BASE, "OWNPOST_PROVIDERS": provider, **env})
    files = Files(aliases.parse("", valid.domains), pasted.parse(providers, valid.domains))
    zone = SeenZone(name=HOME, records=there)
    seen = Seen(
        zones=(zone,),
        authentications=dict.fromkeys([(provider, HOME)] if valid.keys else [], found),
        addresses=valid.addresses,
    )
    return plan.make(valid, files, seen, lambda *_: ())


def test_where_resend_makes_a_domain_is_asked_for_before_it_does() -> None:
    """It cannot be changed afterwards."""
    key = {"DOMAIN_RESEND_API_KEY": "re_x"}
    [step] = planned("resend", None, key).blocked
    assert "set DOMAIN_RESEND_REGION first" in step.reason
    made = planned("resend", None, {**key, "DOMAIN_RESEND_REGION": "eu-west-1"})
    assert [step.action for step in made.work if "Resend" in step.what] == [Create("resend", HOME)]


def test_mailgun_at_a_name_below_wants_its_spf_there_only() -> None:
    below = Authentication(
        "mg.example.org",
        "mg.example.org",
        True,
        (Record(type="TXT", name="mg.example.org", content="v=spf1 include:mailgun.org ~all"),),
    )
    made = planned("mailgun", below, {"DOMAIN_MAILGUN_API_KEY": "x"})
    assert [step.after for step in made.work if step.what.startswith("TXT ") and "spf1" in step.after] == [
        '"v=spf1 include:mailgun.org ~all"'
    ]
    assert [step.what for step in made.work if "spf1" in step.after] == ["TXT mg.example.org"]


def test_the_owners_own_key_at_ses_stays_and_ses_is_waited_for() -> None:
    keys = {"DOMAIN_SES_ACCESS_KEY_ID": "A", "DOMAIN_SES_SECRET_ACCESS_KEY": "x", "DOMAIN_SES_REGION": "eu-central-1"}
    own = Record(type="TXT", name="mine._domainkey.example.org", content="v=DKIM1; p=OWN", id="1")
    ours = Record(
        type="CNAME", name="t1._domainkey.example.org", content="t1.x", id="2", comment="Ownpost mail.example.org"
    )
    found = Authentication(HOME, HOME, False, (), selectors=("mine",))
    made = planned("ses", found, keys, own, ours)
    assert not [step for step in made.steps if "mine._domainkey" in step.what]
    assert [step.what for step in made.steps if step.kind is Kind.REMOVE] == ["CNAME t1._domainkey.example.org"]
    [waiting] = [step for step in made.steps if step.what == "Amazon SES for example.org"]
    assert (waiting.kind, "mine._domainkey.example.org" in waiting.reason) == (Kind.WAIT, True)


def test_nothing_of_ours_goes_while_a_provider_names_no_records_at_all() -> None:
    ours = Record(
        type="CNAME", name="s1._domainkey.example.org", content="s1.x", id="2", comment="Ownpost mail.example.org"
    )
    made = planned("sendgrid", Authentication(HOME, "1", False, ()), {"DOMAIN_SENDGRID_API_KEY": "x"}, ours)
    assert not [step for step in made.steps if step.kind is Kind.REMOVE]


def test_a_pasted_alias_that_wants_the_mail_hosts_name_is_told_what_to_do() -> None:
    """Brevo proposes ``mail`` for its branded sub-domain."""
    table = '[brevo.dns]\nrecords = ["mail CNAME mail-example-org.brand.brevosend.com"]'
    [step] = planned("brevo", None, {}, providers=table).blocked
    assert "choose another sub-domain there, such as send, or leave it out" in step.reason
