"""Settings: every mistake has its sentence, all come at once, and the example file tells the truth."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from common.settings import Reader
from relay.providers.presets import PRESETS
from relay.settings import Settings, SettingsError, read, read_all
from relay.settings_names import OF_COMPOSE, OF_SERVICES
from support.presets import REAL, environ

FOLDER = Path(__file__).parent / "settings"
EXAMPLE = Path(__file__).parents[2] / ".env.example"
BASE = {"OWNPOST_DOMAINS": "example.org"}
SENDGRID = BASE | {"OWNPOST_PROVIDERS": "sendgrid", "SENDGRID_PASSWORD": "SG.secret"}
GENERIC = BASE | {"OWNPOST_PROVIDERS": "generic", "GENERIC_HOST": "smtp.example.net"}
LAN = BASE | {"RELAY_LAN_BIND": "192.168.1.2", "RELAY_LAN_NETWORKS": "192.168.1.0/24", "RELAY_LAN_ACCOUNT": "printer"}


def refused(environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        read(environ)
    return caught.value.problems


def env_file(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    pairs = (line.partition("=") for line in lines)
    return {name: value.replace("\\x0a", "\n") for name, _, value in pairs}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.env")), ids=lambda path: path.stem)
def test_a_mistake_has_its_one_sentence(path: Path) -> None:
    expected = path.read_text().splitlines()[0].removeprefix("# ")
    assert refused(BASE | env_file(path)) == (expected,)


def test_all_mistakes_are_told_at_once_and_no_secret_with_them() -> None:
    environ = GENERIC | {
        "GENERIC_TLS": "none",
        "GENERIC_USERNAME": "me",
        "GENERIC_PASSWORD": "hunter2\nhunter2",
        "GENERIC_PASSWRD": "hunter2",
        "RELAY_RECIPIENTS": "many",
        "RELAY_SPOOL": "spool",
    }
    problems = refused(environ)
    assert [problem.partition(":")[0] for problem in problems] == [
        "GENERIC_PASSWORD",
        "GENERIC_TLS",
        "RELAY_RECIPIENTS",
        "RELAY_SPOOL",
        "GENERIC_PASSWRD",
    ]
    assert "hunter2" not in str(problems)


def test_a_domain_is_enough_for_the_trial() -> None:
    settings = read(BASE)
    assert settings.hostname == "mail.example.org"
    assert (settings.bind, settings.listen) == ("127.0.0.1", "127.0.0.1")
    assert (settings.submission_port, settings.submissions_port, settings.lan) == (2587, 2465, None)
    assert [provider.preset for provider in settings.providers] == ["capture"]
    assert settings.providers[0].captured == settings.captured
    assert settings.message_size_limit == 50 * 1024 * 1024
    assert settings.tls
    assert settings.postmaster == "postmaster@example.org"
    assert settings.socket == Path("/run/ownpost/relay/relay.sock")
    assert settings.warnings == ()


def test_names_become_what_dns_holds() -> None:
    settings = read({"OWNPOST_DOMAINS": " Bücher.example., example.org,example.org ", "OWNPOST_BIND": "[FD00:0::1]"})
    assert settings.domains == ("xn--bcher-kva.example", "example.org")
    assert settings.hostname == "mail.xn--bcher-kva.example"
    assert settings.bind == "fd00::1"


def test_an_empty_value_counts_as_not_given() -> None:
    reader = Reader(BASE)
    read_all(reader)
    others = {"CLOUDFLARE_API_TOKEN": "", "EXPORTER_PASSWORD": "", "RELAY_WHATEVER": " "}
    assert read(dict.fromkeys(reader.asked, "") | others | BASE) == read(BASE)


@pytest.mark.parametrize(
    ("value", "size"), [("1048576", 1 << 20), ("1MiB", 1 << 20), ("2 mib", 2 << 20), ("1GiB", 1 << 30)]
)
def test_sizes_are_bytes_or_have_a_unit(value: str, size: int) -> None:
    assert read(BASE | {"RELAY_MESSAGE_SIZE_LIMIT": value}).message_size_limit == size


def test_the_largest_numbers_are_allowed() -> None:
    settings = read(BASE | {"RELAY_RECIPIENTS": "1000", "RELAY_SUBMISSION_PORT": "65535", "RELAY_RUN": "/" + "r" * 89})
    assert (settings.recipients_limit, settings.submission_port) == (1000, 65535)
    assert len(str(settings.socket)) == 107  # and bind(2) takes it


# --- files, quotes


def test_a_value_comes_from_a_file_and_the_file_wins(tmp_path: Path) -> None:
    (tmp_path / "host").write_text("smtp.example.org\r\n")
    settings = read(BASE | {"OWNPOST_HOSTNAME": "other.example.org", "OWNPOST_HOSTNAME_FILE": f'"{tmp_path / "host"}"'})
    assert settings.hostname == "smtp.example.org"
    assert settings.warnings == ("OWNPOST_HOSTNAME: given together with OWNPOST_HOSTNAME_FILE; the file is used.",)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_secret_that_everybody_can_read_is_warned_of(tmp_path: Path, mode: int, warned: bool) -> None:
    key = tmp_path / "key"
    key.write_text("'SG.secret' \n")
    key.chmod(mode)
    settings = read(BASE | {"OWNPOST_PROVIDERS": "sendgrid", "SENDGRID_PASSWORD_FILE": str(key)})
    assert settings.providers[0].password == "'SG.secret' "  # a file is taken as it is, less its last newline
    assert ("can be read by every user" in str(settings.warnings)) == warned


def test_quotes_that_a_plain_reader_left_on_are_taken_off() -> None:
    settings = read(SENDGRID | {"OWNPOST_HOSTNAME": '"mx.example.org"', "SENDGRID_PASSWORD": "'SG.secret'"})
    assert settings.hostname == "mx.example.org"
    assert settings.providers[0].password == "SG.secret"
    assert "SENDGRID_PASSWORD: the quotes around the value were taken off" in str(settings.warnings)
    assert read(SENDGRID | {"SENDGRID_PASSWORD": "'SG."}).providers[0].password == "'SG."


def test_bytes_that_are_no_text_are_a_problem(tmp_path: Path) -> None:
    (tmp_path / "host").write_bytes(b"\xff")
    assert refused(BASE | {"OWNPOST_HOSTNAME_FILE": str(tmp_path / "host"), "OWNPOST_PROVIDERS": "caf\udce9"}) == (
        f"OWNPOST_HOSTNAME_FILE: '{tmp_path}/host' cannot be read: it holds no text; allowed: a file with the value.",
        "OWNPOST_PROVIDERS: holds bytes that are not UTF-8; allowed: text in UTF-8.",
    )


def test_a_disk_image_named_by_mistake_is_not_swallowed(tmp_path: Path) -> None:
    (tmp_path / "image").write_text("x" * 70_000)
    (problem,) = refused(BASE | {"OWNPOST_HOSTNAME_FILE": str(tmp_path / "image")})
    assert "is too long" in problem


# --- providers


def test_sendgrid_needs_a_key_only_and_hides_it() -> None:
    provider = read(SENDGRID).providers[0]
    assert (provider.host, provider.ports[0], provider.username) == ("smtp.sendgrid.net", (587, "starttls"), "apikey")
    assert provider.password == "SG.secret"
    assert "SG.secret" not in repr(read(SENDGRID))


@pytest.mark.parametrize(
    ("more", "port", "tls"),
    [
        ({}, 587, "starttls"),
        ({"GENERIC_PORT": "465"}, 465, "tls"),
        ({"GENERIC_TLS": "tls"}, 465, "tls"),
        ({"GENERIC_TLS": "starttls", "GENERIC_PORT": "465"}, 465, "starttls"),
        ({"GENERIC_TLS": "tls", "GENERIC_PORT": "2465"}, 2465, "tls"),
    ],
)
def test_port_465_means_tls_from_the_first_byte(more: dict[str, str], port: int, tls: str) -> None:
    provider = read(GENERIC | more).providers[0]
    assert provider.ports == ((port, tls),)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "[::1]", "localhost"])
def test_plain_text_may_go_to_this_machine(host: str) -> None:
    assert read(GENERIC | {"GENERIC_HOST": host, "GENERIC_TLS": "none"}).providers[0].ports == ((587, "none"),)


def test_a_provider_of_ones_own_has_settings_by_its_name() -> None:
    ca = trustme.CA().cert_pem.bytes().decode()
    environ = BASE | {
        "OWNPOST_PROVIDERS": "My-ISP",
        "MY_ISP_HOST": "Smtp.Example.NET",
        "MY_ISP_USERNAME": "me",
        "MY_ISP_PASSWORD": "pässword ",
        "MY_ISP_CA": ca,
    }
    provider = read(environ).providers[0]
    assert (provider.name, provider.preset, provider.host) == ("my-isp", "generic", "smtp.example.net")
    assert (provider.username, provider.password) == ("me", "pässword ")
    assert "BEGIN CERTIFICATE" in provider.ca
    assert "BEGIN CERTIFICATE" not in repr(provider)


def test_a_real_provider_behind_loopback_is_warned_of() -> None:
    (warning,) = read(SENDGRID).warnings
    assert warning.startswith("OWNPOST_BIND: only this machine can reach 127.0.0.1, but mail really goes out through")
    assert read(SENDGRID | {"OWNPOST_BIND": "0.0.0.0"}).warnings == ()
    assert read(GENERIC | {"GENERIC_HOST": "127.0.0.1"}).warnings == ()


def test_a_key_that_nobody_uses_is_warned_of() -> None:
    assert read(SENDGRID | {"OWNPOST_PROVIDERS": "capture"}).warnings == (
        "SENDGRID_PASSWORD: has no effect: OWNPOST_PROVIDERS does not name sendgrid.",
    )


# --- LAN


def test_the_lan_listener_is_off_until_it_is_bound() -> None:
    assert read({name: value for name, value in LAN.items() if name != "RELAY_LAN_BIND"}).lan is None


def test_the_lan_listener() -> None:
    lan = read(LAN).lan
    assert lan is not None
    assert (lan.bind, lan.listen, lan.port, lan.account) == ("192.168.1.2", "192.168.1.2", 2525, "printer")
    assert lan.networks == (ipaddress.ip_network("192.168.1.0/24"),)
    assert lan.recipients == ("*@example.org",)  # what a printer may do without being told more
    assert lan.recipients_per_day == 100


def test_inside_a_container_every_listener_binds_what_it_is_told() -> None:
    settings = read(LAN | {"RELAY_LISTEN": "0.0.0.0"})
    assert settings.lan is not None
    assert (settings.listen, settings.lan.listen, settings.lan.bind) == ("0.0.0.0", "0.0.0.0", "192.168.1.2")


def test_what_lan_clients_may_do() -> None:
    more = {
        "RELAY_LAN_RECIPIENTS": "*, *@Bücher.example Scan@Example.org",
        "RELAY_LAN_RECIPIENTS_PER_DAY": "Unlimited",
        "RELAY_LAN_NETWORKS": "10.1.0.0/16 192.168.1.7,127.0.0.1/32 fd00::/48 100.64.0.0/16",
    }
    lan = read(LAN | more).lan
    assert lan is not None
    assert lan.recipients == ("*", "*@xn--bcher-kva.example", "Scan@example.org")
    assert lan.recipients_per_day is None
    assert len(lan.networks) == 5


@pytest.mark.parametrize(
    "network", ["0.0.0.0/0", "::/0", "172.32.0.0/16", "100.128.0.0/16", "2001:db8::/64", "10.0.0.0/8"]
)
def test_wide_and_public_networks_are_refused(network: str) -> None:
    (problem,) = refused(LAN | {"RELAY_LAN_NETWORKS": network})
    assert problem.startswith(f"RELAY_LAN_NETWORKS: '{network}' is not ")


def test_wrong_lan_values_are_told_even_while_it_is_off() -> None:
    assert len(refused(BASE | {"RELAY_LAN_NETWORKS": "8.8.8.8", "RELAY_LAN_PORT": "x"})) == 2


def test_without_tls_listeners_no_certificate_is_needed() -> None:
    off = {"RELAY_SUBMISSION_PORT": "0", "RELAY_SUBMISSIONS_PORT": "0"}
    assert not read(LAN | off).tls


# --- the example


def example() -> tuple[dict[str, str], dict[str, str]]:
    """(names that are set, names that show their default)."""
    active, shown = {}, {}
    for line in EXAMPLE.read_text().splitlines():
        if found := re.fullmatch(r"(#?)([A-Z][A-Z0-9_]*)=(.*)", line):
            (shown if found[1] else active)[found[2]] = found[3]
    return active, shown


def test_the_example_is_the_trial() -> None:
    active, shown = example()
    assert read(active) == read(BASE)
    others = (*(name.upper() + "_" for name in PRESETS), "RENEWER_FILES")
    defaults = {name: value for name, value in shown.items() if not name.startswith(others)}
    assert read(active | defaults) == read(BASE)


@pytest.mark.parametrize("provider", REAL)
def test_the_example_shows_the_defaults_of_providers(provider: str) -> None:
    _, shown = example()
    defaults = {name: value for name, value in shown.items() if name.startswith(provider.upper() + "_")}
    assert defaults
    needed = environ(provider)
    assert replace(read(defaults | needed), notes=()) == replace(read(needed), notes=())


@pytest.mark.parametrize("provider", REAL)
def test_the_example_names_what_each_provider_needs(provider: str) -> None:
    _, shown = example()
    assert {name for name in environ(provider) if name.startswith(provider.upper() + "_")} <= set(shown)


def test_the_example_names_every_setting_and_no_other() -> None:
    """Of providers with a preset it shows what most need; what can be set for any of them stands at GENERIC."""
    asked: set[str] = set()
    for settings in (BASE, *map(environ, REAL)):
        reader = Reader(settings)
        assert isinstance(read_all(reader), Settings)
        asked |= {name for name in reader.asked if not name.endswith("_FILE")}
    presets = tuple(name.upper() + "_" for name in REAL if name != "generic")
    active, shown = example()
    named = set(active) | set(shown)
    assert {name for name in asked if not name.startswith(presets)} | OF_COMPOSE | OF_SERVICES == {
        name for name in named if not name.startswith(presets) or name in OF_SERVICES
    }
    assert named <= asked | OF_COMPOSE | OF_SERVICES
    assert not set(active) & set(shown)


def test_every_setting_of_the_example_has_one_comment_line() -> None:
    lines = EXAMPLE.read_text().splitlines()
    settings = [number for number, line in enumerate(lines) if re.match(r"#?[A-Z][A-Z0-9_]*=", line)]
    for number in settings:
        assert lines[number - 1].startswith("# "), lines[number]
        assert number - 2 in settings or not lines[number - 2], lines[number]
