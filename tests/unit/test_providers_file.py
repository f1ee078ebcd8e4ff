"""``config/providers.toml``: what it may say, what comes of it, and a sentence for every mistake, all at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.providers import SHIPPED
from domain import pasted
from relay.choice.quota import Quota
from relay.choice.routes import Route
from relay.providers import file, keys
from relay.providers.build import build
from relay.providers.preset import Preset
from relay.providers.presets import PRESETS
from relay.settings import SettingsError, read

EXAMPLE = Path(__file__).parents[2] / "config" / "providers.toml.example"
LOGINS = {
    "OWNPOST_DOMAINS": "example.org",
    "OWNPOST_BIND": "0.0.0.0",
    "OWNPOST_PROVIDERS": "brevo,sendgrid",
    "BREVO_USERNAME": "me",
    "BREVO_PASSWORD": "x",
    "SENDGRID_PASSWORD": "x",
}


def settings(tmp_path: Path, text: str, **more: str):  # type: ignore[no-untyped-def]
    (tmp_path / "providers.toml").write_text(text)
    return read(LOGINS | {"RELAY_CONFIG": str(tmp_path)} | more)


def refused(tmp_path: Path, text: str, **more: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        settings(tmp_path, text, **more)
    return caught.value.problems


def test_without_a_file_the_providers_are_tried_in_the_order_of_the_setting(tmp_path: Path) -> None:
    found = read(LOGINS | {"RELAY_CONFIG": str(tmp_path)})
    assert [one.name for one in found.providers] == ["brevo", "sendgrid"]
    assert (found.routes.default, found.routes.routes) == (("brevo", "sendgrid"), ())


def test_a_table_changes_its_preset_and_settings_win_over_it(tmp_path: Path) -> None:
    text = """
        [brevo]
        daily_quota = 5000
        clock = "Europe/Paris"
        size_limit = "10MiB"
        host = "smtp.example.net"
        ports = ["2525 starttls"]
        strip = ["X-Mine"]
        rules = [{ stages = ["final"], codes = [550], pattern = "no luck", meaning = "elsewhere" }]
    """
    found = settings(tmp_path, text)
    brevo = build(found.providers[0])
    assert brevo.quotas == (Quota(limit=5000, period="day", zone="Europe/Paris"),)
    assert (brevo.size_limit, brevo.host, brevo.ports) == (10 << 20, "smtp.example.net", ((2525, "starttls"),))
    assert [rule.meaning for rule in brevo.rules][:1] == ["elsewhere"]
    assert len(brevo.rules) == len(PRESETS["brevo"].rules) + 1
    assert brevo.strip is not None
    assert brevo.strip.search(b"X-Mine: 1\r\n")
    assert brevo.strip.search(b"X-Mailin-Tag: 1\r\n")
    assert found.warnings == ()
    (quota,) = settings(tmp_path, text, BREVO_DAILY_QUOTA="77").providers[0].quotas
    assert quota == Quota(limit=77, period="day", zone="Europe/Paris")
    assert settings(tmp_path, '[brevo]\ndaily_quota = "none"').providers[0].quotas == ()
    (quota,) = settings(tmp_path, '[brevo]\nclock = "rolling"', BREVO_DAILY_QUOTA="5").providers[0].quotas
    assert quota == Quota(limit=5, period="rolling")


def test_what_a_provider_takes_may_be_said_by_hand(tmp_path: Path) -> None:
    text = '[brevo]\nkeep = ["From", "X-*"]\nfield_size = 500\naccepted = "queued"\n'
    brevo = build(settings(tmp_path, text).providers[0])
    assert brevo.strip is not None
    assert brevo.strip.sub(b"", b"From: a\r\nX-A: b\r\nUser-Agent: c\r\n") == b"From: a\r\nX-A: b\r\n"
    assert brevo.field_size == 500
    assert brevo.accepted is not None
    more = {"OWNPOST_PROVIDERS": "cloudflare", "CLOUDFLARE_PASSWORD": "x"}
    assert settings(tmp_path, '[cloudflare]\naccepted = ""\n', **more).providers[0].facts.accepted is None


def test_a_second_account_of_a_provider(tmp_path: Path) -> None:
    more = {"OWNPOST_PROVIDERS": "brevo,brevo-two", "BREVO_TWO_USERNAME": "other", "BREVO_TWO_PASSWORD": "y"}
    found = settings(tmp_path, '[brevo-two]\npreset = "brevo"\ntitle = "Brevo of the club"\n', **more)
    second = build(found.providers[1])
    assert (second.name, second.title, second.host) == ("brevo-two", "Brevo of the club", "smtp-relay.brevo.com")
    assert (second.username, second.quotas) == ("other", (Quota(limit=300, period="day"),))


def test_routes(tmp_path: Path) -> None:
    text = """
        [[route]]
        account = "newsletter"
        domain = "News.Example.org"
        providers = ["SendGrid"]
        [[route]]
        domain = "example.org"
        providers = { sendgrid = 3, brevo = 1 }
        [[route]]
        providers = ["sendgrid", "brevo"]
    """
    routes = settings(tmp_path, text).routes
    assert routes.routes == (
        Route(("sendgrid",), (), "newsletter", "news.example.org"),
        Route(("sendgrid", "brevo"), (3, 1), "", "example.org"),
        Route(("sendgrid", "brevo")),
    )
    assert routes.of("newsletter", "news.example.org").providers == ("sendgrid",)
    assert routes.of("other", "example.net").providers == ("sendgrid", "brevo")


def test_domains_of_routes_and_senders_are_the_same_however_they_are_written() -> None:
    found = file.parse(
        """
        [generic]
        senders = ["*@M\u00fcnchen.example", "a@branch_7.example"]
        [[route]]
        domain = "M\u00dcNCHEN.example"
        account = "anna@m\u00fcnchen.example"
        providers = ["generic"]
        [[route]]
        domain = "branch_7.example"
        providers = ["generic"]
        """.encode()
    )
    assert found.entries["generic"].facts.senders == ("*@xn--mnchen-3ya.example", "a@branch_7.example")
    routes, problems = found.routes(("generic",))
    assert problems == []
    assert [(one.domain, one.account) for one in routes.routes] == [
        ("xn--mnchen-3ya.example", "anna@xn--mnchen-3ya.example"),
        ("branch_7.example", ""),
    ]


def test_the_domain_tools_tables_are_left_to_it(tmp_path: Path) -> None:
    text = '[brevo.dns]\nrecords = ["a TXT b"]\n[smtp2go.dns."example.net"]\nspf = ["include:x.example"]\n'
    assert [one.name for one in settings(tmp_path, text).providers] == ["brevo", "sendgrid"]


WRONG = [
    ("[brevo]\ndaly_quota = 1", "[brevo] daly_quota is unknown; allowed: title, source, "),
    (
        "[brevo]\ndaily_quota = 0",
        '[brevo] daily_quota = 0 is not allowed; allowed: a number of recipients, or "none".',
    ),
    ("[brevo]\ndaily_quota = true", "[brevo] daily_quota = True is not allowed; "),
    ('[brevo]\nports = ["587"]', "[brevo] ports = "),
    ('[brevo]\nports = ["70000 tls"]', "[brevo] ports = "),
    ("[brevo]\nports = []", "[brevo] ports = "),
    ('[brevo]\nclock = "Mars/Base"', "[brevo] clock = 'Mars/Base' is not allowed; allowed: a time zone such as "),
    ('[brevo]\nclock = "Europe"', "[brevo] clock = "),
    ('[brevo]\nclock = "../../etc/passwd"', "[brevo] clock = "),
    ('[brevo]\nsize_limit = "20 apples"', "[brevo] size_limit = "),
    ("[brevo]\nreserve = 1", "[brevo] reserve = "),
    ('[brevo]\nhost = "http://x"', "[brevo] host = "),
    ('[brevo]\nsenders = ["anna"]', "[brevo] senders = "),
    ('[brevo]\nheaders = { "X-A\\r\\nBcc" = "x" }', "[brevo] headers = "),
    ('[brevo]\nheaders = { X-A = "x\\r\\nBcc: y" }', "[brevo] headers = "),
    ('[brevo]\nstrip = ["X-*-Y"]', "[brevo] strip = "),
    ('[brevo]\nrules = [{ stages = ["final"], pattern = "(", meaning = "busy" }]', "[brevo] rules = "),
    ('[brevo]\nrules = [{ stages = ["dot"], pattern = "x", meaning = "busy" }]', "[brevo] rules = "),
    ('[brevo]\nrules = [{ stages = ["final"], pattern = "x", meaning = "bounce" }]', "[brevo] rules = "),
    ('[brevo]\nrules = [{ stages = ["final"], pattern = "x", meaning = "busy", codes = [250] }]', "[brevo] rules = "),
    ('[brevo]\nrules = [{ stages = ["final"], pattern = "x" }]', "[brevo] rules = "),
    ('[brevo]\nrules = [{ stages = ["final"], pattern = "", meaning = "busy" }]', "[brevo] rules = "),
    ('[brevo]\nrules = [{ stages = ["final"], pattern = "(a+)+b", meaning = "busy" }]', "[brevo] rules = "),
    ('[brevo]\nrules = [{ stages = ["final"], pattern = "(a|aa){2,}b", meaning = "busy" }]', "[brevo] rules = "),
    ('[brevo]\nrules = [{ stages = ["final"], pattern = "a.*b[^c]+d.*", meaning = "busy" }]', "[brevo] rules = "),
    (f'[brevo]\nrules = [{{ stages = ["final"], pattern = "a{{{"9" * 30}}}", meaning = "busy" }}]', "[brevo] rules = "),
    (f'[brevo]\nrules = [{{ stages = ["final"], pattern = "{"(" * 900}", meaning = "busy" }}]', "[brevo] rules = "),
    (f"[brevo]\ndaily_quota = 0x{'f' * 5000}", "[brevo] daily_quota = a number too long to show is not allowed; "),
    ("[brevo]\ndaily_quota = 1\n[Brevo]\ndaily_quota = 2", "[Brevo] is there twice"),
    (f"[[route]]\nproviders = ['brevo']\naccount = 0x{'f' * 5000}", "[[route]] 1 account = a number too long"),
    ("[brevo]\nrules = 7", "[brevo] rules = "),
    ('[brevo]\nrules = [{ stages = ["rcpt"], pattern = "x", meaning = "busy", guess = 1 }]', "[brevo] rules = "),
    ('[brevo-two]\npreset = "bravo"', "[brevo-two] preset = 'bravo' is not known; allowed: sendgrid, brevo, "),
    ('[brevo-two]\npreset = "capture"', "[brevo-two] preset = "),
    ("brevo = 1", "brevo is unknown here; allowed: tables [NAME] and [[route]]."),
    ("[route]\nproviders = 1", "[[route]] 1 providers: allowed: a list such as "),
    ("[[route]]\nprovider = ['brevo']", "[[route]] 1 provider is unknown; allowed: account, domain, providers."),
    ("[[route]]\nproviders = []", "[[route]] 1 providers: allowed: a list such as "),
    ("[[route]]\nproviders = { brevo = 0 }", "[[route]] 1 providers: allowed: a list such as "),
    (
        "[[route]]\nproviders = ['ses']",
        "[[route]] 1 providers: ses is not among OWNPOST_PROVIDERS (brevo, sendgrid); name it there too.",
    ),
    ("[[route]]\nproviders = ['brevo']\ndomain = '@'", "[[route]] 1 domain = "),
    ("[[route]]\nproviders = ['brevo']\naccount = 7", "[[route]] 1 account = 7 is not allowed; "),
    ("route = 7", "[[route]] 1: write [[route]], then its keys: account, domain, providers."),
    ("[brevo", "is not TOML: "),
]


@pytest.mark.parametrize(("text", "sentence"), WRONG, ids=[text.replace("\n", " ")[:80] for text, _ in WRONG])
def test_a_mistake_has_a_sentence_that_names_its_place(tmp_path: Path, text: str, sentence: str) -> None:
    problems = refused(tmp_path, text)
    assert problems[0].startswith(f"config/providers.toml: {sentence}")
    assert all(problem.endswith(".") and "\n" not in problem for problem in problems)


def test_all_mistakes_are_told_at_once_with_those_of_the_settings(tmp_path: Path) -> None:
    text = "[brevo]\nrecipients = 0\nconnections = 0\n[[route]]\nproviders = ['ses']\n"
    assert [problem.partition(":")[0] for problem in refused(tmp_path, text, BREVO_USERNAME="")] == [
        "config/providers.toml",
        "config/providers.toml",
        "config/providers.toml",
        "BREVO_USERNAME",
    ]


def test_a_table_of_a_provider_that_is_not_used_is_told(tmp_path: Path) -> None:
    text = "[brevo2]\npreset = 'brevo'\ndaily_quota = 5\n[brevo]\ndaily_quota = 7\n[ses.dns]\nrecords = []\n"
    assert [one for one in settings(tmp_path, text).warnings if "effect" in one] == [
        "config/providers.toml: [brevo2] has no effect: OWNPOST_PROVIDERS does not name it."
    ]


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "providers.toml").mkdir()
    with pytest.raises(SettingsError, match=r"config/providers\.toml: cannot be read: Is a directory"):
        read(LOGINS | {"RELAY_CONFIG": str(tmp_path)})
    assert file.parse(b"\xff").problems[0].startswith("is not TOML: ")
    (tmp_path / "big").write_bytes(b"#" * (file.FILE_SIZE + 1))
    assert file.load(tmp_path / "big").problems == (f"is larger than {file.FILE_SIZE} bytes.",)


@given(st.text(max_size=80))
def test_no_text_breaks_the_reader(text: str) -> None:
    found = file.parse(text.encode("utf-8", "replace"))
    found.routes(("brevo",))


@given(
    st.dictionaries(
        st.sampled_from(sorted(keys.KEYS)),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
            max_leaves=6,
        ),
    )
)
def test_no_value_breaks_the_reader(table: dict[str, object]) -> None:
    _, problems = keys.read(table, Preset())
    assert all(isinstance(problem, str) for problem in problems)


def test_the_example_says_nothing_until_it_is_uncommented_and_then_it_is_right(tmp_path: Path) -> None:
    text = EXAMPLE.read_text()
    silent = file.parse(text.encode())
    assert (dict(silent.entries), list(silent.tables), silent.problems) == ({}, [], ())
    # Prose begins with "# " and a letter; code with no space, or with one where it is indented.
    code = [line[1:] for line in text.splitlines() if re.match(r"#(?:[a-z\[\]]| [\"{])", line)]
    more = {"OWNPOST_PROVIDERS": "brevo,ses,brevo-two", "BREVO_TWO_USERNAME": "me", "BREVO_TWO_PASSWORD": "x"}
    ses = {"SES_USERNAME": "me", "SES_PASSWORD": "x", "SES_REGION": "eu-central-1"}
    found = settings(tmp_path, "\n".join(code), **more, **ses)
    assert len(found.routes.routes) == 2
    assert len(found.providers[1].facts.rules) == len(PRESETS["ses"].rules) + 1
    assert (
        len(pasted.parse("\n".join(code), ("example.org", "example.net")).pasted["smtp2go", "example.org"].records) == 2
    )
    assert {one.name for one in found.providers} == {"brevo", "ses", "brevo-two"}


def test_the_shipped_file_says_what_every_key_is_for() -> None:
    text = SHIPPED.read_text()
    assert len(re.findall(r"^checked = 20\d\d-\d\d-\d\d$", text, re.MULTILINE)) == len(PRESETS)
