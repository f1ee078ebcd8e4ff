"""In containers: every setting of `.env.example` reaches the service that reads it, and so does its file."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from common.providers import REGION, presets
from domain import settings as domain_settings
from relay.providers.presets import PRESETS
from relay.settings import SettingsError, read
from relay.settings_names import OF_COMPOSE, OF_DOMAIN, OF_EXPORTER, OF_RENEWER
from support.appliance import ROOT

EXAMPLE = (ROOT / ".env.example").read_text()
COMPOSE = (ROOT / "compose.yaml").read_text()
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]
NAMES = re.findall(r"^#?([A-Z][A-Z0-9_]*)=", EXAMPLE, re.MULTILINE)
SECTIONS = dict(re.findall(r"^# --- (.+?) -+\n(.*?)(?=^# ---|\Z)", EXAMPLE, re.MULTILINE | re.DOTALL))
(FIXED,) = (re.findall(r"^#([A-Z_]+)=", text, re.MULTILINE) for title, text in SECTIONS.items() if "inside" in title)
KEYS = {name for group in domain_settings.KEYS.values() for name in group}
OF_API = KEYS | {f"DOMAIN_{name.upper()}_URL" for name in [*domain_settings.URLS, "cloudflare"]}
OF_API |= {"DOMAIN_CLOUDFLARE_API_TOKEN", "DOMAIN_RESEND_REGION"}
OF_ALL = {"OWNPOST_DOMAINS", "OWNPOST_HOSTNAME"}
OF_RELAY_AND_DOMAIN = (
    {"OWNPOST_PROVIDERS"}
    | {f"{name.upper()}_REGION" for name, known in presets().items() if known.regions or REGION in known.host}
    | {f"{name.upper()}_{what}" for name in PRESETS if name != "capture" for what in ("HOST", "PORT")}
)
READS = {
    "renewer": OF_RENEWER | OF_ALL,
    "exporter": OF_EXPORTER | OF_ALL,
    "domain": OF_DOMAIN | OF_ALL | OF_RELAY_AND_DOMAIN,
    "domain-daily": (OF_DOMAIN - OF_API) | OF_ALL | OF_RELAY_AND_DOMAIN,
}


def handed(service: str) -> dict[str, str | None]:
    environment: dict[str, str | None] = SERVICES[service]["environment"]
    return environment


@pytest.mark.parametrize("service", READS)
def test_a_service_is_handed_what_it_reads_and_each_file(service: str) -> None:
    for name in READS[service] - OF_COMPOSE - set(FIXED):
        passed = {one: handed(service).get(one, "nothing") for one in (name, f"{name}_FILE")}
        assert passed == {name: None, f"{name}_FILE": None}, service  # None: as .env has it
    assert {name for name in READS[service] & set(FIXED) if not handed(service)[name]} == set()
    assert "/secrets" in str(SERVICES[service]["volumes"])


def test_no_setting_is_forgotten() -> None:
    relays = {name for name in NAMES if name not in OF_COMPOSE and not any(name in names for names in READS.values())}
    whole, ours = SERVICES["relay"]["env_file"]
    assert (whole, ours) == (".env", {"path": "var/installation", "required": False}), "all of these are the relay's"
    relays -= {"RELAY_INSTALLATION", "RELAY_INSTALLATION_FOLDER"}  # of the second file
    for name in relays - set(FIXED):
        assert name not in handed("relay"), "what .env says counts"
        assert f"{name}_FILE" not in handed("relay")
    for name in relays & set(FIXED):
        assert handed("relay")[name]
        assert handed("relay")[f"{name}_FILE"] == "", "a file must not undo what the containers are built for"


def test_the_domain_tool_is_handed_no_key_of_a_provider() -> None:
    for service in ("domain", "domain-daily"):
        assert not [name for name in handed(service) if re.search("PASSWORD|OAUTH|USERNAME", name)]
    assert not set(handed("domain-daily")) & OF_API


def test_what_compose_reads_itself_has_no_file_and_says_so() -> None:
    read_here = set(re.findall(r"\$\{([A-Z0-9_]+)", COMPOSE)) - {"COMPOSE_PROJECT_NAME"}
    assert read_here == OF_COMPOSE
    section = set(re.findall(r"^#?([A-Z0-9_]+)=", SECTIONS["for compose.yaml"], re.MULTILINE))
    head = EXAMPLE.partition("\n\n")[0]
    assert {name for name in OF_COMPOSE - section if name not in head} == set()
    for name in OF_COMPOSE:
        with pytest.raises(SettingsError) as caught:
            read({"OWNPOST_DOMAINS": "example.org", f"{name}_FILE": "/secrets/x"})
        sentence = f"{name}_FILE: there is no such setting: compose.yaml reads {name} itself; set that in .env."
        assert sentence in caught.value.problems
