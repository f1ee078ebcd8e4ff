"""What the images hold and what Docker shows of them: no secret, nothing to write to, no package manager's leavings."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from support.appliance import ROOT
from support.project import Project

pytestmark = pytest.mark.timeout(400)
MARK = "pl4nted"  # in every secret of these tests
SECRET = re.compile(
    r"^#?([A-Z0-9_]+_(?:PASSWORD|TOKEN|SECRET|API_KEY|KEY_ID|ACCESS_KEY|OAUTH_KEY|NOTIFY_URL))=", re.MULTILINE
)
BUILT = ("relay", "renewer", "exporter", "domain")
SERVICES = (*BUILT, "domain-daily", "account")
OWNERS = {"CLOUDFLARE_API_TOKEN": "renewer", "EXPORTER_": "exporter", "DOMAIN_": "domain"}  # by how a name begins
CACHES = re.compile(
    r"var/lib/apt/lists/.|var/cache/apt|var/cache/debconf/.|var/log/.|tmp/.|home/.|.*/\.cache|.*\.(deb|whl)$"
)
INSTALLERS = re.compile(
    r"installer|.*/ensurepip|.*/(s?bin|\w+-packages)/(pip[\d.]*|setuptools|uv|gcc|cc|make|git|curl|wget)\b"
)
WRITABLE = re.compile(r"(tmp|var/tmp|run/lock|dev/.*|run/ownpost|var/lib/ownpost/[a-z]+)$")


def secrets() -> dict[str, str]:
    """A secret of its own for every setting that is one, by the setting's name."""
    names = SECRET.findall((ROOT / ".env.example").read_text())
    assert len(names) > 20
    return {name: f"{MARK}-{name.lower().replace('_', '-')}-" for name in names}


def owner(name: str) -> str:
    return next((service for begin, service in OWNERS.items() if name.startswith(begin)), "relay")


@pytest.fixture(scope="module")
def made(project: Project) -> Project:
    """Images and containers, made and not started, in a tree that is full of secrets."""
    for folder in ("secrets/relay", "certs", "config", "var", "services"):
        (project.folder / folder).mkdir(parents=True, exist_ok=True)
    (project.folder / "secrets/relay/password").write_text(f"{MARK}-in-a-file\n")
    (project.folder / "certs/privkey.pem").write_text(f"{MARK}-key\n")
    (project.folder / "config/accounts.toml").write_text(f"# {MARK}-hash\n")
    project.configure(**secrets())
    project.compose("--profile", "tools", "build", "--quiet")
    create(project)
    return project


def create(project: Project) -> None:
    project.compose("create", "--force-recreate", *SERVICES)


def shown(project: Project, service: str) -> Any:
    """What `docker inspect` says of the service's container."""
    (container,) = json.loads(project.run("docker", "inspect", project.container(service)).stdout)
    return container


def test_docker_shows_no_secret_of_an_image_nor_how_one_came_there(made: Project) -> None:
    for service in BUILT:
        image = f"{made.name}-{service}"
        said = made.run("docker", "image", "inspect", image).stdout
        history = made.run("docker", "history", "--no-trunc", "--format", "{{json .}}", image).stdout
        assert "/ownpost/services/supervision/start.py" in said
        assert "requirements" not in history, "the stage that builds is left behind"
        assert MARK not in said + history


def test_docker_shows_of_a_container_the_secrets_of_that_service_alone(made: Project) -> None:
    for service in SERVICES:
        text = json.dumps(shown(made, service))
        found = {name for name, value in secrets().items() if value in text}
        assert found == {name for name in secrets() if owner(name) == service}, service


def test_a_secret_in_a_file_is_shown_by_no_container(made: Project) -> None:
    for name, value in secrets().items():
        file = made.folder / "secrets" / owner(name) / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(value + "\n")
    made.settings = {name: value for name, value in made.settings.items() if name not in secrets()}
    made.configure(**{f"{name}_FILE": f"/secrets/{name}" for name in secrets()})
    create(made)
    for service in SERVICES:
        container = shown(made, service)
        assert any("_FILE=/secrets/" in one for one in container["Config"]["Env"]) or service in (
            "account",
            "domain-daily",
        )
        assert MARK not in json.dumps(container), service


def test_every_container_is_fenced_in(made: Project) -> None:
    for service in SERVICES:
        container = shown(made, service)
        host = container["HostConfig"]
        assert container["Config"]["User"] == f"{made.uid}:{made.uid}", service
        assert made.uid != 0
        assert host["ReadonlyRootfs"] is True, service
        assert (host["CapDrop"], host["CapAdd"], host["Privileged"]) == (["ALL"], None, False), service
        assert host["SecurityOpt"] == ["no-new-privileges:true"], service
        assert host["PidMode"] in ("", "private"), service
        assert host["IpcMode"] in ("", "private"), service
        assert not host["Devices"], service
        assert not any("docker.sock" in mount["Source"] for mount in container["Mounts"]), service
        assert host["LogConfig"]["Config"]["max-size"] == "10m", service
        again = "no" if service in ("account", "domain") else "unless-stopped"
        assert host["RestartPolicy"]["Name"] == again, service


@dataclass
class Held:
    """The files of one image."""

    names: list[str] = field(default_factory=list)
    marked: list[str] = field(default_factory=list)  # hold a secret
    loose: list[str] = field(default_factory=list)  # anybody may write them, or they are ours and not root's
    texts: dict[str, str] = field(default_factory=dict)


def files_of(project: Project, service: str) -> Held:
    """Everything in the service's container, which has not been started: its image, without what is mounted."""
    held = Held()
    command = ["docker", "export", project.container(service)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as export,
        tarfile.open(fileobj=export.stdout, mode="r|") as tar,
    ):
        for entry in tar:
            held.names.append(entry.name)
            if not entry.issym() and (entry.mode & 0o002 or (entry.name.startswith("ownpost") and entry.uid != 0)):
                held.loose.append(entry.name)
            file = tar.extractfile(entry) if entry.isreg() else None
            data = file.read() if file else b""
            if MARK.encode() in data:
                held.marked.append(entry.name)
            if entry.name in ("var/lib/dpkg/status", "ownpost/sbom.cdx.json"):
                held.texts[entry.name] = data.decode()
    assert export.returncode == 0
    return held


@pytest.mark.parametrize("service", BUILT)
def test_an_image_holds_what_it_needs_and_the_list_of_it(made: Project, service: str) -> None:
    held = files_of(made, service)
    assert f"ownpost/services/{service}/src/{service}/__main__.py" in held.names
    wrong = [name for name in held.names if CACHES.match(name) or INSTALLERS.match(name)]
    loose = [name for name in held.loose if not WRITABLE.match(name.rstrip("/"))]
    assert (held.marked, wrong, loose) == ([], [], [])
    others = {file.parent.name for file in (ROOT / "services").glob("*/pyproject.toml")} - {service}
    assert not any(name.startswith(f"ownpost/services/{other}/") for name in held.names for other in others)
    assert not any("cyclonedx" in name.partition("dist-info")[0] for name in held.names)

    written = held.texts["ownpost/sbom.cdx.json"]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(written) is None
    parts = [unquote(one["purl"]) for one in json.loads(written)["components"] if "purl" in one]
    python = dict(part[len("pkg:pypi/") :].split("@") for part in parts if part.startswith("pkg:pypi/"))
    installed = re.findall(r"site-packages/([\w.]+)-([^-/]+)\.dist-info/METADATA\n", "\n".join(held.names) + "\n")
    assert python == {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in installed}
    pinned = dict(
        re.findall(r"^(\S+)==(\S+)", (ROOT / f"services/{service}/requirements.txt").read_text(), re.MULTILINE)
    )
    assert python.items() <= pinned.items()
    debian = re.findall(r"^Package: (\S+)$", held.texts["var/lib/dpkg/status"], re.MULTILINE)
    assert sorted(re.findall(r"pkg:deb/debian/([^@]+)@", "\n".join(parts))) == sorted(debian)


def test_make_sbom_puts_the_lists_where_one_can_read_them(made: Project) -> None:
    printed = made.make("sbom").split()
    assert printed == [f"var/sbom/{service}.cdx.json" for service in BUILT]
    pinned = re.search(r"^aiosmtpd==(\S+)", (ROOT / "services/relay/requirements.txt").read_text(), re.MULTILINE)
    assert pinned
    parts = json.loads((made.folder / "var/sbom/relay.cdx.json").read_text())
    assert parts["metadata"]["component"]["name"] == "ownpost-relay"
    assert f"pkg:pypi/aiosmtpd@{pinned[1]}" in {part.get("purl") for part in parts["components"]}
