"""Wrong settings: each has its sentence, and all come at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.settings import SettingsError
from renewer.settings import read


@pytest.fixture
def base(tmp_path: Path) -> dict[str, str]:
    return {"OWNPOST_DOMAINS": "example.org", "RENEWER_CERTS": str(tmp_path)}


def refused(environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        read(environ)
    return caught.value.problems


def test_a_domain_is_enough(base: dict[str, str]) -> None:
    settings = read(base)
    assert settings.mode == "self-signed"
    assert settings.names == ("mail.example.org",)
    assert settings.socket == Path("/run/ownpost/renewer/renewer.sock")
    assert settings.log_format == "text"


def test_the_first_domain_names_the_host(base: dict[str, str]) -> None:
    assert read(base | {"OWNPOST_DOMAINS": " example.net, example.org"}).names == ("mail.example.net",)


def test_empty_values_count_as_not_given(base: dict[str, str]) -> None:
    names = (
        "OWNPOST_TLS",
        "OWNPOST_HOSTNAME",
        "RENEWER_RUN",
        "RENEWER_LOG_FORMAT",
        "RENEWER_EXTRA_NAMES",
        "OWNPOST_TLS_FILE",
    )
    assert read(base | dict.fromkeys(names, "")) == read(base)


def test_names_become_what_certificates_hold(base: dict[str, str]) -> None:
    environ = base | {
        "OWNPOST_HOSTNAME": "Post.Bücher.example.",
        "RENEWER_EXTRA_NAMES": "nas.lan, 192.168.0.2 [FD00:0::1],nas.lan",
    }
    assert read(environ).names == ("post.xn--bcher-kva.example", "nas.lan", "192.168.0.2", "fd00::1")


def test_a_value_comes_from_a_file(base: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "host").write_text("smtp.example.org\n")
    settings = read(base | {"OWNPOST_HOSTNAME_FILE": str(tmp_path / "host")})
    assert (settings.names, settings.warnings) == (("smtp.example.org",), ())


def test_of_a_value_and_its_file_the_file_wins_and_a_warning_says_so(base: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "host").write_text("smtp.example.org\n")
    settings = read(base | {"OWNPOST_HOSTNAME": "mx.example.org", "OWNPOST_HOSTNAME_FILE": str(tmp_path / "host")})
    assert settings.names == ("smtp.example.org",)
    assert settings.warnings == ("OWNPOST_HOSTNAME: given together with OWNPOST_HOSTNAME_FILE; the file is used.",)


MISTAKES = {
    "tls": ({"OWNPOST_TLS": "yes"}, "OWNPOST_TLS: 'yes' is not known; allowed: self-signed, files, acme."),
    "log format": ({"RENEWER_LOG_FORMAT": "xml"}, "RENEWER_LOG_FORMAT: 'xml' is not known; allowed: text, json."),
    "no domain": ({"OWNPOST_DOMAINS": ""}, "OWNPOST_DOMAINS: missing; allowed: the domains that mail is sent from"),
    "host": (
        {"OWNPOST_HOSTNAME": "mail_1.example.org"},
        "OWNPOST_HOSTNAME: 'mail_1.example.org' is not a full name",
    ),
    "label": ({"OWNPOST_HOSTNAME": f"{'a' * 64}.example.org"}, "OWNPOST_HOSTNAME: "),
    "length": ({"OWNPOST_HOSTNAME": ".".join(["a" * 49] * 5 + ["abcd"])}, "OWNPOST_HOSTNAME: "),
    "hyphen": ({"OWNPOST_HOSTNAME": "-mail.example.org"}, "OWNPOST_HOSTNAME: "),
    "one label": ({"OWNPOST_HOSTNAME": "mail"}, "OWNPOST_HOSTNAME: 'mail' is not a full name"),
    "extra": ({"RENEWER_EXTRA_NAMES": "a.example.org b..c"}, "RENEWER_EXTRA_NAMES: 'b..c' is not a full name"),
    "folder": (
        {"RENEWER_CERTS": "/nowhere/certs"},
        "RENEWER_CERTS: '/nowhere/certs' is not a folder; allowed: a folder that exists.",
    ),
    "relative": (
        {"RENEWER_RUN": "run"},
        "RENEWER_RUN: 'run' is not an absolute path; allowed: a path that begins with /.",
    ),
    "socket": (
        {"RENEWER_RUN": "/" + "r" * 92},
        "is not short enough for a socket below it; allowed: a path of 86 bytes.",
    ),
    "no file": (
        {"OWNPOST_TLS_FILE": "/nowhere/x"},
        "OWNPOST_TLS_FILE: '/nowhere/x' cannot be read: No such file or directory; allowed: a file with the value.",
    ),
    "no pair": ({"OWNPOST_TLS": "files"}, "RENEWER_FILES_CERT: missing; allowed: the path of a file in PEM."),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_has_its_sentence(base: dict[str, str], mistake: str) -> None:
    environ, sentence = MISTAKES[mistake]
    assert any(sentence in problem for problem in refused(base | environ)), refused(base | environ)


def test_the_longest_socket_path_and_host_name_are_accepted(base: dict[str, str]) -> None:
    host = ".".join(["a" * 49] * 5 + ["abc"])
    assert read(base | {"RENEWER_RUN": "/" + "r" * 84, "OWNPOST_HOSTNAME": host}).names == (host,)


def test_an_address_is_no_name_for_a_bought_certificate(base: dict[str, str], tmp_path: Path) -> None:
    environ = base | {
        "OWNPOST_TLS": "files",
        "RENEWER_FILES_CERT": "/c",
        "RENEWER_FILES_KEY": "/k",
        "RENEWER_EXTRA_NAMES": "192.0.2.1",
    }
    (problem,) = refused(environ)
    assert problem.startswith("RENEWER_EXTRA_NAMES: '192.0.2.1' is not a host name; allowed: ")


def test_an_empty_or_unreadable_secret_file_is_a_problem(base: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    environ = {"OWNPOST_TLS_FILE": str(tmp_path / "empty"), "OWNPOST_HOSTNAME_FILE": str(tmp_path / "binary")}
    assert refused(base | environ) == (
        f"OWNPOST_TLS_FILE: '{tmp_path}/empty' is empty; allowed: a file with the value.",
        f"OWNPOST_HOSTNAME_FILE: '{tmp_path}/binary' cannot be read: it holds no text; allowed: a file with the value.",
    )


def test_all_problems_come_at_once(base: dict[str, str]) -> None:
    environ = {
        "OWNPOST_TLS": "files",
        "OWNPOST_HOSTNAME": "x",
        "RENEWER_RUN": "y",
        "RENEWER_CERTS": "/nowhere",
        "RENEWER_LOG_FORMAT": "z",
    }
    assert len(refused(base | environ)) == 6
