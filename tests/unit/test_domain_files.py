"""The operator's files and settings: read whole, every mistake told in a sentence, all at once."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import names
from common.providers import described
from domain import aliases, observe, pasted, settings
from domain.aliases import Act, Target
from domain.records import Record

HOME = ("example.org", "xn--bcher-kva.example")


def test_aliases_read_like_what_they_are() -> None:
    text = """
    hello = "Me@Gmail.com"
    Shop = "drop"
    "first.last" = { worker = "name" }
    "*" = "me@gmail.com"
    ["bücher.example"]
    info = "me@gmail.com"
    worker = "drop"
    """
    assert aliases.parse(text, HOME) == {
        "example.org": {
            "hello": Target(Act.FORWARD, "Me@gmail.com"),
            "shop": Target(Act.DROP),
            "first.last": Target(Act.WORKER, "name"),
            "*": Target(Act.FORWARD, "me@gmail.com"),
        },
        "xn--bcher-kva.example": {"info": Target(Act.FORWARD, "me@gmail.com"), "worker": Target(Act.DROP)},
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("hello", "it is not TOML"),
        ("hello = 3", 'hello: is neither an address, nor "drop", nor { worker = "name" }.'),
        ('hello = "me"', "hello: 'me' is not a mail address"),
        ('"a b" = "drop"', "a b: 'a b' cannot stand before an @"),
        ('"ä" = "drop"', "cannot stand before an @"),
        ('a = { worker = "../x" }', "a: is neither"),
        (
            'a = { worker = "x", more = 1 }',
            "[a] is not a domain of OWNPOST_DOMAINS (example.org, xn--bcher-kva.example).",
        ),
        ('a = "a@example.org"', "a: forwards to itself."),
        (f'a = "b@{"c" * 60}.{"d" * 20}.example"', "is longer than the 90 characters that Email Routing takes."),
        ('A = "drop"\na = "drop"', "a: example.org has a twice."),
        ('hello = "drop"\n["example.org"]\nhello = "drop"', "hello: example.org has hello twice."),
        ('["example.net"]\na = "drop"', "[example.net] is not a domain of OWNPOST_DOMAINS"),
        ('["example.org".sub]\nx = "drop"', 'sub: is neither an address, nor "drop"'),
    ],
)
def test_a_wrong_alias_is_told(text: str, problem: str) -> None:
    with pytest.raises(aliases.AliasesError) as error:
        aliases.parse(text, HOME)
    [only] = error.value.problems
    assert problem in only


def test_all_wrong_aliases_are_told_at_once() -> None:
    with pytest.raises(aliases.AliasesError) as error:
        aliases.parse('a = 1\nb = 2\n["example.net"]\nx = "drop"', HOME)
    assert len(error.value.problems) == 3


@given(st.text(max_size=80))
def test_any_text_is_aliases_or_told(text: str) -> None:
    try:
        found: object = aliases.parse(text, HOME)
    except aliases.AliasesError as error:
        found = error.problems
    assert found


def test_pasted_records_relative_whole_and_quoted() -> None:
    text = """
    [smtp2go]
    host = "mail.smtp2go.com"
    preset = "SMTP2GO"
    [smtp2go.dns]
    records = [
      "em1 CNAME Return.SMTP2GO.net.",
      "s1._domainkey.example.org CNAME dkim.smtp2go.net",
      "@ TXT owner=1",
      "send MX 10 mx.example.net",
      'k._domainkey TXT "v=DKIM1; " "p=AB"',
    ]
    spf = ["include:spf.smtp2go.com"]
    [smtp2go.dns."bücher.example"]
    records = ["x A 192.0.2.1"]
    """
    found = pasted.parse(text, HOME)
    assert found.of("smtp2go").preset == "smtp2go"
    assert found.pasted["smtp2go", "example.org"] == pasted.Pasted(
        (
            Record(type="CNAME", name="em1.example.org", content="return.smtp2go.net"),
            Record(type="CNAME", name="s1._domainkey.example.org", content="dkim.smtp2go.net"),
            Record(type="TXT", name="example.org", content="owner=1"),
            Record(type="MX", name="send.example.org", content="mx.example.net", priority=10),
            Record(type="TXT", name="k._domainkey.example.org", content="v=DKIM1; p=AB"),
        ),
        ("include:spf.smtp2go.com",),
    )
    [other] = found.pasted["smtp2go", "xn--bcher-kva.example"].records
    assert other.name == "x.xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("send.m", "send.m.example.org"),
        ("send", "send.m.example.org"),
        ("send.m.example.org", "send.m.example.org"),
        ("m", "m.example.org"),
        ("@", "m.example.org"),
        ("m._domainkey", "m._domainkey.m.example.org"),
        ("m._domainkey.m", "m._domainkey.m.example.org"),
    ],
)
def test_names_may_be_pasted_as_dashboards_show_them_for_a_domain_below_its_zone(written: str, name: str) -> None:
    assert pasted.record(f"{written} TXT x", "m.example.org").name == name


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("nonsense", "write NAME TYPE [PRIORITY] CONTENT"),
        ("a SRV 0 0 1 x", "with TYPE one of A, AAAA, CNAME, MX, TXT."),
        ("a MX mx.example.net", "an MX needs a priority and a host"),
        ("a A elsewhere", "does not appear to be an IPv4 or IPv6 address"),
        ("a.example.net. CNAME x.example", "is not below example.org."),
        ("a b CNAME x", "with TYPE one of"),
        ("a CNAME -x-.example", "is not a domain name"),
        ("a TXT v=spf1 ip4:192.0.2.0/33 -all", "its term 'ip4:192.0.2.0/33' is not an IPv4 address or network."),
        ("a TXT v=spf1 nonsense:1 -all", "its term 'nonsense:1' is not one of SPF's."),
    ],
)
def test_a_wrong_record_is_told(line: str, problem: str) -> None:
    with pytest.raises(pasted.PastedError) as error:
        pasted.parse(f"[x.dns]\nrecords = ['{line}']", HOME)
    [only] = error.value.problems
    assert only.startswith(f"[x.dns] '{line}': ")
    assert problem in only


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[", "it is not TOML"),
        ("[x]\ndns = 1", "[x.dns] is not a table."),
        ('[x.dns."example.net"]\nspf = []', '[x.dns."example.net"] is not a domain of OWNPOST_DOMAINS'),
        ("[x.dns]\nrecord = []", "[x.dns] record: there is no such key; records and spf are."),
        ('[x.dns]\nspf = "include:a"', "[x.dns] spf: is not a list of texts"),
        ('[x.dns]\nspf = ["include:"]', "[x.dns] spf: its term 'include:' names no domain such as example.org."),
        ('[x.dns]\nspf = ["~all"]', "[x.dns] spf: all is the owner's to choose"),
        ('[x.dns]\nspf = ["include:a.example -all"]', "[x.dns] spf: its term 'include:a.example -all'"),
        ('[x.dns]\nspf = ["nonsense:1"]', "[x.dns] spf: its term 'nonsense:1' is not one of SPF's."),
    ],
)
def test_a_wrong_table_is_told(text: str, problem: str) -> None:
    with pytest.raises(pasted.PastedError) as error:
        pasted.parse(text, HOME)
    assert problem in error.value.problems[0]


def test_the_relays_part_of_the_file_is_none_of_ours() -> None:
    assert pasted.parse('order = ["a"]\n[a]\nhost = "x"\nquota = { day = 3 }', HOME).pasted == {}


BASE = {"OWNPOST_DOMAINS": "example.org"}


def test_settings_in_their_simplest_form() -> None:
    found = settings.read(BASE)
    assert (found.hostname, found.providers, found.cloudflare, found.addresses) == (
        "mail.example.org",
        ("capture",),
        None,
        None,
    )
    assert found.resolvers == (("1.1.1.1", 53), ("8.8.8.8", 53), ("9.9.9.9", 53))
    assert found.email_routing
    assert found.subaddressing is None
    assert found.mark == "Ownpost mail.example.org"


def test_names_of_other_scripts_addresses_and_resolvers() -> None:
    found = settings.read(
        {
            "OWNPOST_DOMAINS": "BÜCHER.example., example.org",
            "DOMAIN_ADDRESSES": "192.0.2.1 [2001:db8::1]",
            "DOMAIN_RESOLVERS": "127.0.0.1:5353, ::1, [::1]:54, [::1]",
            "DOMAIN_POSTMASTER": "me@bücher.example",
        }
    )
    assert found.domains == ("xn--bcher-kva.example", "example.org")
    assert found.hostname == "mail.xn--bcher-kva.example"
    assert [str(one) for one in found.addresses or ()] == ["192.0.2.1", "2001:db8::1"]
    assert found.resolvers == (("127.0.0.1", 5353), ("::1", 53), ("::1", 54), ("::1", 53))
    assert found.postmaster == "me@xn--bcher-kva.example"


def test_an_eu_account_is_asked_at_the_eus_api_unless_another_is_named() -> None:
    keys = {"DOMAIN_SENDGRID_API_KEY": "SG.x", "DOMAIN_MAILGUN_API_KEY": "x", "SENDGRID_REGION": "eu"}
    found = settings.read({**BASE, **keys, "MAILGUN_REGION": "EU", "DOMAIN_MAILGUN_URL": "https://m.example"}).keys
    assert (found["sendgrid"].url, found["mailgun"].url) == ("https://api.eu.sendgrid.com", "https://m.example")
    assert settings.read({**BASE, **keys}).keys["mailgun"].url == "https://api.mailgun.net"


def test_a_key_from_a_file_is_never_shown(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("SG.secret\n")
    (tmp_path / "key").chmod(0o644)
    found = settings.read(
        {**BASE, "DOMAIN_SENDGRID_API_KEY_FILE": str(tmp_path / "key"), "DOMAIN_CLOUDFLARE_API_TOKEN": "cf-secret"}
    )
    assert found.keys["sendgrid"].secrets == ("SG.secret",)
    (warning,) = found.warnings
    assert warning.startswith(f"DOMAIN_SENDGRID_API_KEY_FILE: '{tmp_path}/key' can be read by every user")
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("OWNPOST_DOMAINS", "", "OWNPOST_DOMAINS: missing; allowed: the domains"),
        ("OWNPOST_DOMAINS", "localhost", "OWNPOST_DOMAINS: 'localhost' is not a full name"),
        ("OWNPOST_DOMAINS", "192.0.2.1", "OWNPOST_DOMAINS: '192.0.2.1' is not a full name"),
        ("OWNPOST_HOSTNAME", "mail_1.example.org", "OWNPOST_HOSTNAME: 'mail_1.example.org' is not"),
        ("OWNPOST_PROVIDERS", "send_grid", "OWNPOST_PROVIDERS: 'send_grid' is not a provider's name"),
        ("DOMAIN_CLOUDFLARE_API_TOKEN", "two words", "DOMAIN_CLOUDFLARE_API_TOKEN: has characters that no key has"),
        (
            "DOMAIN_CLOUDFLARE_URL",
            "http://api.example.com",
            "DOMAIN_CLOUDFLARE_URL: 'http://api.example.com' is not such a URL",
        ),
        (
            "DOMAIN_CLOUDFLARE_URL",
            "https://u:p@x.example",
            "is not such a URL; allowed: a URL that begins with https://",
        ),
        (
            "DOMAIN_SES_ACCESS_KEY_ID",
            "AKIA",
            "DOMAIN_SES_SECRET_ACCESS_KEY: missing, while DOMAIN_SES_ACCESS_KEY_ID is set.",
        ),
        (
            "DOMAIN_ADDRESSES",
            "here",
            "DOMAIN_ADDRESSES: 'here' is not an IP address; allowed: addresses such as 192.0.2.1, or none.",
        ),
        (
            "DOMAIN_RESEND_REGION",
            "eu",
            "DOMAIN_RESEND_REGION: 'eu' is not a region of Resend's; allowed: us-east-1, eu-west",
        ),
        ("DOMAIN_MTA_STS", "true", "DOMAIN_MTA_STS: 'true' is not known; allowed: yes, no."),
        ("DOMAIN_RESOLVERS", "dns.google", "DOMAIN_RESOLVERS: 'dns.google' is not a name server's address"),
        ("DOMAIN_RESOLVERS", "1.1.1.1:99999", "DOMAIN_RESOLVERS: '1.1.1.1:99999' is not"),
        ("DOMAIN_CONFIG", "config", "DOMAIN_CONFIG: 'config' is not an absolute path; allowed:"),
        (
            "OWNPOST_SUBMISSION_PORT",
            "0",
            "OWNPOST_SUBMISSION_PORT: '0' is not such a number; allowed: a whole number from 1 to 65535.",
        ),
        ("DOMAIN_POSTMASTER", "me", "DOMAIN_POSTMASTER: 'me' is not a mail address"),
        ("DOMAIN_SENDGRID_KEY", "x", "DOMAIN_SENDGRID_KEY: is not a known setting; did you mean DOMAIN_SENDGRID_"),
        (
            "DOMAIN_SENDGRID_API_KEY_FILE",
            "/nowhere",
            "DOMAIN_SENDGRID_API_KEY_FILE: '/nowhere' cannot be read: No such file",
        ),
    ],
)
def test_a_wrong_setting_is_told(name: str, value: str, problem: str) -> None:
    with pytest.raises(settings.SettingsError) as error:
        settings.read({**BASE, name: value})
    assert any(problem in one for one in error.value.problems)


def test_of_a_setting_and_its_file_the_file_wins_and_a_warning_says_so(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("b\n")
    (tmp_path / "key").chmod(0o600)
    found = settings.read({**BASE, "DOMAIN_BREVO_API_KEY": "a", "DOMAIN_BREVO_API_KEY_FILE": str(tmp_path / "key")})
    assert found.keys["brevo"].secrets == ("b",)
    assert found.warnings == ("DOMAIN_BREVO_API_KEY: given together with DOMAIN_BREVO_API_KEY_FILE; the file is used.",)


def test_an_empty_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    with pytest.raises(settings.SettingsError) as error:
        settings.read({**BASE, "DOMAIN_RESEND_API_KEY_FILE": str(tmp_path / "empty")})
    assert error.value.problems == (
        f"DOMAIN_RESEND_API_KEY_FILE: '{tmp_path}/empty' is empty; allowed: a file with the value.",
    )


def test_providers_have_the_names_and_hosts_that_the_relay_gives_them() -> None:
    environ = {**BASE, "OWNPOST_PROVIDERS": "brevo,brevo-two,ses", "BREVO_TWO_HOST": "smtp.example.net"}
    found = settings.read({**environ, "SES_REGION": "eu-central-1"})
    assert found.providers == ("brevo", "brevo-two", "ses")
    assert found.where["brevo-two"] == ("smtp.example.net", 0, "")
    assert found.where["ses"].reached(described("ses", {}))[0] == "email-smtp.eu-central-1.amazonaws.com"
    elsewhere = settings.read({**environ, "SES_HOST": "vpce.example.net", "SES_REGION": "eu-central-1"}).where["ses"]
    assert elsewhere.reached(described("ses", {}))[0] == "vpce.example.net"


def test_every_setting_is_in_the_documentation() -> None:
    """The lists that people read name exactly what the program knows."""
    root = Path(__file__).parents[2]
    known = {*settings.OTHERS, *(name for group in settings.KEYS.values() for name in group)}
    text = (root / "docs/domain.md").read_text()
    assert [name for name in sorted(known) if f"`{name}`" not in text] == []
    example = (root / ".env.example").read_text()
    assert [
        name
        for name in ("DOMAIN_CLOUDFLARE_API_TOKEN", "DOMAIN_ADDRESSES", "DOMAIN_SENDGRID_API_KEY")
        if name not in example
    ] == []


@given(st.text(max_size=60))
def test_any_text_is_a_name_or_told(text: str) -> None:
    try:
        form = names.ascii_name(text)
    except names.BadName as error:
        form = "told"
        text = str(error)
        printed = names.printable(text)
    else:
        printed = text
    assert names.ascii_name(form) == form
    assert form.isascii()
    assert printed == text


def test_nothing_steers_the_terminal() -> None:
    assert names.printable("a\x1b[2J\u202eb\n") == "a\\x1b[2J\\u202eb\\n"
    assert names.printable("Bücher ✔ · 猫") == "Bücher ✔ · 猫"


TRACE = "fl=1\nip={}\nts=1\n"


@pytest.mark.parametrize(
    ("environ", "own", "outside", "found"),
    [
        ({}, {4: "198.41.0.4"}, {}, ["198.41.0.4"]),
        ({}, {}, {4: "198.41.0.4", 6: "2620:fe::fe"}, ["198.41.0.4"]),
        ({"OWNPOST_BIND": "::"}, {6: "2620:fe::9"}, {4: "198.41.0.4", 6: "2620:fe::fe"}, ["198.41.0.4", "2620:fe::9"]),
        ({"OWNPOST_BIND": "9.9.9.9"}, {4: "198.41.0.4"}, {}, ["9.9.9.9"]),
        ({"DOMAIN_ADDRESSES": "192.0.2.1"}, {4: "198.41.0.4"}, {}, ["192.0.2.1"]),
        ({"DOMAIN_ADDRESSES": "none"}, {4: "198.41.0.4"}, {}, []),
        ({}, {}, {4: "10.0.0.1"}, None),
    ],
)
def test_this_servers_addresses(
    environ: dict[str, str],
    own: dict[int, str],
    outside: dict[int, str],
    found: list[str] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As set, as bound, as the machine has them, as the outside sees them; IPv6 only where ports are bound to it."""

    def answer(request: httpx.Request) -> httpx.Response:
        version = 6 if ":" in request.url.host else 4
        return httpx.Response(200, text=TRACE.format(outside[version])) if version in outside else httpx.Response(503)

    monkeypatch.setattr(observe, "_own", lambda version: observe._public(own.get(version, "")))
    seen = observe.addresses(settings.read({**BASE, **environ}), httpx.Client(transport=httpx.MockTransport(answer)))
    assert (None if seen is None else [str(one) for one in seen]) == found


def test_an_address_of_a_few_hours_is_not_published(tmp_path: Path) -> None:
    table = tmp_path / "if_inet6"
    table.write_text(
        "262000fe0000000000000000000000fe 02 40 00 01     eth0\n262000fe000000000000000000000009 02 40 00 80     eth0\n"
    )
    assert observe._temporary(ip_address("2620:fe::fe"), table)
    assert not observe._temporary(ip_address("2620:fe::9"), table)
    assert not observe._temporary(ip_address("2620:fe::9"), tmp_path / "nowhere")
