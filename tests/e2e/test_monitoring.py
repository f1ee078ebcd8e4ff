"""The profile `monitoring`, as far as it can be seen without pulling its images: what Compose makes of it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.appliance import ROOT
from support.peers import need


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("compose")
    (folder / "compose.yaml").write_text((ROOT / "compose.yaml").read_text())
    (folder / ".env").write_text("OWNPOST_DOMAINS=example.org\nEXPORTER_PASSWORD=correct horse\n")
    command = [need("docker"), "compose", "--profile", "monitoring", "config", "--format", "json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if "is not a docker command" in done.stderr or "unknown flag: --profile" in done.stderr:
        pytest.skip("Docker has no Compose plugin: apt-get install docker-compose-v2")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_images_are_official_and_pinned(config: Any) -> None:
    for name, image in (("prometheus", "prom/prometheus"), ("grafana", "grafana/grafana")):
        assert re.fullmatch(rf"{image}:v?\d+\.\d+\.\d+", config["services"][name]["image"])


@pytest.mark.parametrize(
    ("name", "user", "state"), [("prometheus", 65534, "/prometheus"), ("grafana", 472, "/var/lib/grafana")]
)
def test_they_are_fenced_in_like_our_own(config: Any, name: str, user: int, state: str) -> None:
    """The users are those of their images, to whom the folder of their state belongs there."""
    service = config["services"][name]
    assert service["user"].partition(":")[0] == str(user)
    assert service["read_only"] is True
    assert (service["cap_drop"], service.get("cap_add"), service.get("privileged")) == (["ALL"], None, None)
    assert service["security_opt"] == ["no-new-privileges:true"]
    writable = [volume["target"] for volume in service["volumes"] if not volume.get("read_only")]
    assert writable == [state]
    assert [one.partition(":")[0] for one in service["tmpfs"]] == ["/tmp"]
    assert service["logging"]["options"]["max-size"] == "10m"
    assert service["restart"] == "unless-stopped"


def test_they_are_published_on_this_machine_only_and_share_a_network_with_the_exporter_alone(config: Any) -> None:
    inside = {name for name, one in config["services"].items() if "monitoring" in (one.get("networks") or {})}
    assert inside == {"exporter", "prometheus", "grafana"}
    for name in ("prometheus", "grafana"):
        assert [port["host_ip"] for port in config["services"][name]["ports"]] == ["127.0.0.1"]
    published = [str(port["target"]) for port in config["services"]["exporter"]["ports"]]
    assert published == [config["services"]["exporter"]["environment"]["EXPORTER_PORT"]]
    assert config["services"]["exporter"]["environment"]["EXPORTER_INSIDE_PORT"] not in published


def test_what_is_mounted_is_there_and_prometheus_asks_the_inside_port(config: Any) -> None:
    for name in ("prometheus", "grafana"):
        for volume in config["services"][name]["volumes"]:
            if volume["type"] == "bind":
                assert volume["read_only"]
                assert (ROOT / "config" / Path(volume["source"]).name).is_dir()
    port = config["services"]["exporter"]["environment"]["EXPORTER_INSIDE_PORT"]
    assert f"exporter:{port}" in (ROOT / "config/prometheus/prometheus.yaml").read_text()
    home = config["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / "config/grafana" / Path(home).relative_to("/etc/grafana/provisioning")).is_file()


def test_the_relay_does_not_see_the_exporters_secrets(config: Any) -> None:
    environment = config["services"]["relay"]["environment"]
    for name in ("EXPORTER_PASSWORD", "EXPORTER_PASSWORD_FILE", "EXPORTER_NOTIFY_URL", "EXPORTER_NOTIFY_URL_FILE"):
        assert environment[name] == ""
    assert config["services"]["exporter"]["environment"]["EXPORTER_PASSWORD"] == "correct horse"
