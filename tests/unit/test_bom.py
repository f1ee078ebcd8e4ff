"""An image's list of parts: what a scanner or a person reads in it, and that it is CycloneDX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bom
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

PYPROJECT = """
[project]
name = "relay"
version = "0.1.0"
dependencies = ["Aio_SMTPd>=1.4.6,<2", "rich>=15"]
"""
DEBIAN = [
    "libssl3t64\t3.5.4-1~deb13u1\tamd64\topenssl\t3.5.4-1~deb13u1",
    "python3-minimal\t3.13.5-1\tamd64\tpython3-defaults\t3.13.5-1",
    "libgcc-s1\t14.2.0-19\tamd64\tgcc-14\t14.2.0-20",
]


def taken(name: str, version: str, needs: list[str], **more: Any) -> dict[str, Any]:
    """An entry of pip's report, as far as it is read."""
    metadata = {"name": name, "version": version, "summary": f"{name} does things", "requires_dist": needs, **more}
    return {"metadata": metadata, "download_info": {"archive_info": {"hashes": {"sha256": "0" * 63 + version[0]}}}}


@pytest.fixture
def parts(tmp_path: Path) -> Any:
    """The list, validated."""
    installed = [
        taken("aio.smtpd", "1.4.6", ["attrs", "colorama; sys_platform == 'win32'"], license="Apache-2.0"),
        taken("attrs", "26.1.0", ["rich; extra == 'docs'"], license_expression="MIT"),
        taken("rich", "15.0.0", [], license="Permission is hereby granted,\nand so on"),
    ]
    report = {"install": installed, "environment": {"sys_platform": "linux"}}
    texts = {
        "pyproject.toml": PYPROJECT,
        "installed.json": json.dumps(report),
        "debian.txt": "\n".join(DEBIAN) + "\n",
        "os-release": 'ID=debian\nVERSION_ID="13"\n\nVERSION_CODENAME=trixie\n',
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    written = bom.main(*(str(tmp_path / name) for name in texts))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(written) is None
    return json.loads(written)


def named(parts: Any, name: str) -> Any:
    (one,) = (part for part in parts["components"] if part["name"] == name)
    return one


def test_it_is_the_service_with_everything_in_its_image(parts: Any) -> None:
    assert (parts["bomFormat"], parts["specVersion"]) == ("CycloneDX", "1.6")
    root = parts["metadata"]["component"]
    assert (root["type"], root["name"], root["version"]) == ("application", "ownpost-relay", "0.1.0")
    names = {part["name"] for part in parts["components"]}
    assert names == {"aio.smtpd", "attrs", "rich", "debian", "libssl3t64", "python3-minimal", "libgcc-s1"}


def test_a_python_package_is_named_as_scanners_know_it_with_the_hash_of_the_file_that_was_taken(parts: Any) -> None:
    one = named(parts, "aio.smtpd")
    assert (one["version"], one["purl"]) == ("1.4.6", "pkg:pypi/aio-smtpd@1.4.6")
    assert one["hashes"] == [{"alg": "SHA-256", "content": "0" * 63 + "1"}]


def test_a_licence_is_a_name_and_never_its_text(parts: Any) -> None:
    assert named(parts, "aio.smtpd")["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert named(parts, "attrs")["licenses"][0]["license"]["id"] == "MIT"
    assert "licenses" not in named(parts, "rich")


def test_a_debian_package_says_what_source_it_is_from(parts: Any) -> None:
    purl = "pkg:deb/debian/libssl3t64@3.5.4-1~deb13u1?arch=amd64&distro=debian-13&upstream=openssl"
    assert named(parts, "libssl3t64")["purl"] == purl
    assert named(parts, "libgcc-s1")["purl"].endswith("&upstream=gcc-14%4014.2.0-20")


def test_who_needs_what_is_told_for_this_system_and_without_extras_nobody_asked_for(parts: Any) -> None:
    needs = {one["ref"]: set(one.get("dependsOn", [])) for one in parts["dependencies"]}
    root, system = parts["metadata"]["component"]["bom-ref"], named(parts, "debian")["bom-ref"]
    assert needs[root] == {"pkg:pypi/aio-smtpd@1.4.6", "pkg:pypi/rich@15.0.0", system}
    assert needs["pkg:pypi/aio-smtpd@1.4.6"] == {"pkg:pypi/attrs@26.1.0"}
    assert needs["pkg:pypi/attrs@26.1.0"] == set()
    assert len(needs[system]) == len(DEBIAN)
