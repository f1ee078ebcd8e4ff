"""Writes an image's list of parts while it is built: CycloneDX 1.6 as JSON, on standard output.

``bom.py PYPROJECT INSTALLED DEBIAN RELEASE``: the service's ``pyproject.toml``, pip's ``--report`` of what it
installed (so each hash is that of the very file that was taken), dpkg-query's lines (package, version, architecture,
source, version of the source, with tabs between), and the image's ``os-release``. A malformed one
is an exception, and ends the build.

Not in the list: what a wheel brings inside itself, such as apsw's SQLite and cryptography's OpenSSL.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

LICENSE_LENGTH: Final = 100  # what is longer is a licence's text, which some put where its name belongs


def licenses(metadata: dict[str, Any]) -> list[License]:
    """What a package calls its licence, if it does so in one line."""
    name = str(metadata.get("license_expression") or metadata.get("license") or "").strip()
    return [LicenseFactory().make_from_string(name)] if name and "\n" not in name and len(name) < LICENSE_LENGTH else []


def python_part(installed: dict[str, Any]) -> Component:
    """One entry of pip's report."""
    metadata, archive = installed["metadata"], installed["download_info"]["archive_info"]
    purl = PackageURL("pypi", None, canonicalize_name(metadata["name"]), metadata["version"])
    return Component(
        type=ComponentType.LIBRARY,
        name=metadata["name"],
        version=metadata["version"],
        bom_ref=purl.to_string(),
        purl=purl,
        description=metadata.get("summary"),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=archive["hashes"]["sha256"])],
        licenses=licenses(metadata),
    )


def debian_part(line: str, release: str) -> Component:
    """One line of dpkg-query. Scanners look a Debian package up by its source, hence ``upstream``."""
    name, version, architecture, source, source_version = line.split("\t")
    upstream = source if source_version == version else f"{source}@{source_version}"
    qualifiers = {"arch": architecture, "distro": f"debian-{release}", "upstream": upstream}
    purl = PackageURL("deb", "debian", name, version, qualifiers)
    return Component(type=ComponentType.LIBRARY, name=name, version=version, bom_ref=purl.to_string(), purl=purl)


def needed(installed: dict[str, Any], environment: dict[str, str]) -> Iterator[NormalizedName]:
    """The names of what an installed package needs here, with the extras that somebody asked for."""
    extras = ["", *installed.get("requested_extras", [])]
    for text in installed["metadata"].get("requires_dist", []):
        one = Requirement(text)
        if one.marker is None or any(one.marker.evaluate({**environment, "extra": extra}) for extra in extras):
            yield canonicalize_name(one.name)


def parts_of(project: dict[str, Any], report: dict[str, Any], debian: Iterable[str], release: str) -> Bom:
    """The whole list: the service, what it needs, what that needs in turn; and Debian with its packages."""
    bom = Bom()
    root = Component(type=ComponentType.APPLICATION, name=f"ownpost-{project['name']}", version=project["version"])
    bom.metadata.component = root
    system = Component(type=ComponentType.OPERATING_SYSTEM, name="debian", version=release)
    packages = [debian_part(line, release) for line in debian]
    parts = {canonicalize_name(one["metadata"]["name"]): python_part(one) for one in report["install"]}
    for part in (system, *packages, *parts.values()):
        bom.components.add(part)
    direct = [canonicalize_name(Requirement(text).name) for text in project["dependencies"]]
    bom.register_dependency(root, [system, *(parts[name] for name in direct)])
    bom.register_dependency(system, packages)
    for one in report["install"]:
        name = canonicalize_name(one["metadata"]["name"])
        environment = {key: str(value) for key, value in report["environment"].items()}
        bom.register_dependency(parts[name], [parts[other] for other in needed(one, environment) if other in parts])
    return bom


def main(pyproject: str, installed: str, debian: str, release: str) -> str:
    """The list as JSON; the arguments are the four files' names."""
    project = tomllib.loads(Path(pyproject).read_text())["project"]
    system = dict(line.split("=", 1) for line in Path(release).read_text().splitlines() if "=" in line)
    packages = Path(debian).read_text().splitlines()
    bom = parts_of(project, json.loads(Path(installed).read_text()), packages, system["VERSION_ID"].strip('"'))
    return JsonV1Dot6(bom).output_as_string(indent=1)


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
