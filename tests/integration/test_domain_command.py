"""``python -m domain`` as a person or a script runs it: what is printed, to the letter, and the exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.appliance import sources
from support.domain import sendgrid
from support.domain.nameserver import NameServer
from support.domain.stage import KEY, Stage, cloudflare_state, record, zone
from support.ports import free_port

pytest_plugins = ["support.domain.fixtures"]

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
CF_SPF = "v=spf1 include:_spf.mx.cloudflare.net ~all"
TABLE = {
    "_spf.mx.cloudflare.net TXT": ['"v=spf1 ip4:104.30.0.0/20 ~all"'],
    "spf.mailjet.com TXT": ['"v=spf1 ip4:87.253.232.0/21 ~all"'],
}


@pytest.fixture
def told(stage: Stage, names: NameServer) -> Stage:
    """The stage with its files on disk and SendGrid that knows the domain as number 1001."""
    names.set(TABLE)
    (stage.folder / "aliases.toml").write_text(stage.aliases)
    stage.env = {"DOMAIN_RESOLVERS": f"127.0.0.1:{names.port}"}
    stage.sendgrid.set({"key": KEY, "domains": [sendgrid.entry(1001, "example.org")]})
    return stage


def run(stage: Stage, *arguments: str, code: int, text: str = "") -> subprocess.CompletedProcess[str]:
    """Runs the program with nothing else in its environment, at a width that terminals have."""
    environ = {
        **stage.environment(),
        "PYTHONPATH": sources("domain"),
        "COLUMNS": "100",
    }
    done = subprocess.run(
        [sys.executable, "-m", "domain", *arguments],
        env=environ,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert KEY not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def golden(name: str, text: str) -> None:
    """Compares with a file; ``GOLDEN=write`` writes it, to be read before it is committed."""
    path = GOLDEN / name
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


MESS = [
    record("TXT", "example.org", "v=spf1 include:spf.mailjet.com -all"),
    record("TXT", "example.org", CF_SPF),
    record("TXT", "example.org", "google-site-verification=1"),
    record("MX", "example.org", "aspmx.l.google.com", priority=1),
    record("CNAME", "mail.example.org", "old\x1b[31m.example.net", proxied=True),
    record("TXT", "s1._domainkey.example.org", "v=DKIM1; p=OLD"),
    record("TXT", "_dmarc.example.org", "v=DMARC1; p=none"),
    record("TXT", "_dmarc.example.org", "v=DMARC1; p=reject"),
    record("CNAME", "s9._domainkey.example.org", "gone.example.net", comment="Ownpost mail.example.org"),
    record("A", "www.example.org", "198.51.100.7", proxied=True),
]


@pytest.mark.parametrize(("name", "records"), [("domain_plan_fresh.txt", []), ("domain_plan_mess.txt", MESS)])
def test_a_plan_as_it_is_printed(told: Stage, name: str, records: list[dict[str, object]]) -> None:
    told.cloudflare.set(cloudflare_state(zone("example.org", records), verified=("me@gmail.com",)))
    golden(name, run(told, "plan", code=2).stdout)


def test_nothing_to_do_is_0(told: Stage) -> None:
    run(told, "apply", "--yes", code=0)
    golden("domain_plan_done.txt", run(told, "plan", code=0).stdout)


def test_apply_asks_and_a_no_changes_nothing(told: Stage) -> None:
    done = run(told, "apply", code=1, text="y\n")
    assert "--yes" in done.stdout, "a pipe is nobody who could be asked"
    assert told.cloudflare.writes == []


def test_the_plan_as_json(told: Stage) -> None:
    plan = json.loads(run(told, "plan", "--json", code=2).stdout)
    assert plan["format"] == 1
    assert plan["different"]
    first = next(step for step in plan["steps"] if step["what"] == "A mail.example.org")
    assert first == {
        "kind": "add",
        "zone": "example.org",
        "what": "A mail.example.org",
        "before": "",
        "after": "192.0.2.25",
        "reason": "where clients find this server",
    }
    assert json.loads(run(told, "apply", "--yes", "--json", code=0).stdout)["different"] is False


def test_records_to_paste_for_a_domain_elsewhere(told: Stage, names: NameServer) -> None:
    """SPF is merged with what public DNS has; no token of Cloudflare's is needed."""
    names.set(
        {
            **TABLE,
            "example.org TXT": ['"v=spf1 include:spf.mailjet.com -all"'],
            "_dmarc.example.org TXT": ['"v=DMARC1; p=quarantine"'],
            "mail.example.org A": ["198.51.100.1"],
        }
    )
    told.env |= {
        "DOMAIN_CLOUDFLARE_API_TOKEN": "",
        "OWNPOST_PROVIDERS": "sendgrid,mailjet",
        "DOMAIN_TLS_REPORTS": "tls@example.org",
    }
    golden("domain_plan_text.txt", run(told, "plan", "--text", code=2).stdout)
    assert told.cloudflare.journal == []


def test_a_domain_elsewhere_that_nobody_can_look_up(told: Stage, names: NameServer) -> None:
    names.set({"example.org TXT": ["SERVFAIL"]})
    done = run(told, "plan", "--text", code=75)
    assert "example.org" in done.stderr


def test_a_domain_elsewhere_that_is_an_alias(told: Stage, names: NameServer) -> None:
    names.set({"example.org CNAME": ["web.example.net."]})
    done = run(told, "plan", "--text", code=65)
    assert done.stderr.startswith("ownpost: example.org is a CNAME")


def test_a_mail_host_outside_the_domains(told: Stage, names: NameServer) -> None:
    """Its address is printed too, in the place of a CNAME that is there."""
    names.set({**TABLE, "mail.example.net CNAME": ["old.example.net."]})
    told.env |= {"OWNPOST_HOSTNAME": "mail.example.net", "OWNPOST_PROVIDERS": "capture"}
    lines = run(told, "plan", "--text", code=2).stdout.splitlines()
    assert "; mail.example.net. 3600 IN CNAME old.example.net." in lines
    assert "mail.example.net. 3600 IN A 192.0.2.25" in lines


def test_without_a_token(told: Stage) -> None:
    told.env |= {"DOMAIN_CLOUDFLARE_API_TOKEN": ""}
    done = run(told, "plan", code=77)
    assert done.stderr.startswith("ownpost: DOMAIN_CLOUDFLARE_API_TOKEN is missing")


def test_cloudflare_that_cannot_be_reached(told: Stage) -> None:
    told.env |= {"DOMAIN_CLOUDFLARE_URL": f"http://127.0.0.1:{free_port()}"}
    done = run(told, "plan", code=75)
    assert done.stderr.startswith("ownpost: Cloudflare did not answer (")
    assert done.stderr.count("\n") == 1


def test_cloudflare_refuses(told: Stage) -> None:
    told.cloudflare.spoil(
        {3: {"status": 400, "body": {"success": False, "errors": [{"code": 6003, "message": "bad \x1b[2J"}]}}}
    )
    done = run(told, "plan", code=69)
    assert "It said: bad \\x1b[2J (6003)" in done.stderr


def test_wrong_settings_and_files_are_all_told_at_once(told: Stage) -> None:
    told.env |= {"DOMAIN_ADDRESSES": "somewhere", "DOMAIN_POSTMASTR": "x", "DOMAIN_MTA_STS": "maybe"}
    done = run(told, "--check", code=78)
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == [
        "DOMAIN_MTA_STS",
        "DOMAIN_ADDRESSES",
        "DOMAIN_POSTMASTR",
    ] or sorted(line.split(":")[0] for line in done.stderr.splitlines()) == [
        "DOMAIN_ADDRESSES",
        "DOMAIN_MTA_STS",
        "DOMAIN_POSTMASTR",
    ]
    told.env = {}
    (told.folder / "aliases.toml").write_text('hello = 3\n["example.com"]\na = "drop"')
    (told.folder / "providers.toml").write_text('[x.dns]\nrecords = ["nonsense"]')
    done = run(told, "plan", code=78)
    assert done.stderr.count("\n") == 3
    assert "config/aliases.toml: hello" in done.stderr
    assert "config/providers.toml: [x.dns] 'nonsense'" in done.stderr


def test_good_settings_pass_the_check(told: Stage) -> None:
    assert run(told, "--check", code=0).stdout == ""


@pytest.mark.parametrize("arguments", [[], ["plan", "--json", "--text"], ["nonsense"], ["apply", "--text"]])
def test_wrong_arguments(told: Stage, arguments: list[str]) -> None:
    """64 and not argparse's 2, which means that something differs."""
    assert "usage" in run(told, *arguments, code=64).stderr


def test_a_second_apply_at_the_same_time_is_turned_away(told: Stage) -> None:
    import fcntl

    folder = told.folder / "zones"
    folder.mkdir()
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "Another apply is running" in run(told, "apply", "--yes", code=75).stderr
    assert told.cloudflare.writes == []


def test_backups_that_cannot_be_written_stop_it_before_anything_changes(told: Stage) -> None:
    (told.folder / "zones").write_text("in the way")
    assert "DOMAIN_BACKUPS" in run(told, "apply", "--yes", code=78).stderr
    assert told.cloudflare.writes + told.sendgrid.writes == []


def test_settings_from_a_file(told: Stage) -> None:
    """On a plain machine the settings stand in .env; the environment wins."""
    (told.folder / "env").write_text('OWNPOST_DOMAINS="example.net"\nDOMAIN_TLS_REPORTS=nonsense # a comment\n')
    done = run(told, "--env", str(told.folder / "env"), "plan", code=78)
    assert done.stderr.startswith("DOMAIN_TLS_REPORTS")


def test_a_setting_that_is_given_twice_is_warned_of_where_no_json_is(told: Stage) -> None:
    (told.folder / "reports").write_text("tls@example.org\n")
    told.env |= {"DOMAIN_TLS_REPORTS": "me@example.org", "DOMAIN_TLS_REPORTS_FILE": str(told.folder / "reports")}
    done = run(told, "plan", "--json", code=2)
    line = "ownpost: DOMAIN_TLS_REPORTS: given together with DOMAIN_TLS_REPORTS_FILE; the file is used.\n"
    assert done.stderr == line, "once"
    assert "mailto:tls@example.org" in str(json.loads(done.stdout))


def test_check_prints_a_list_and_ends_with_2_when_something_is_wrong(told: Stage) -> None:
    told.env |= {"OWNPOST_PROVIDERS": "capture"}
    done = run(told, "check", code=2)
    assert "✘ MX: there is no MX record" in done.stdout
    assert "    → Run `make apply`" in done.stdout
