"""Every alarm rings when it should and is silent when it should not (`promtool test rules`); each has its runbook."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from relay.metrics import Metrics
from support.appliance import ROOT
from support.peers import need

RULES = ROOT / "config/prometheus/alerts.yaml"
CASES = sorted(Path(__file__).parent.glob("*.test.yaml"))


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name.removesuffix(".test.yaml"))
def test_it_rings_and_it_is_silent(path: Path, tmp_path: Path) -> None:
    """Its own rule only, which is quick; its texts are left out, for promtool would want every number in them.

    All series get the labels that a scrape adds, so that expressions must match them as they have to in earnest.
    """
    (rule,) = [one for one in alerts() if one["alert"] == path.name.removesuffix(".test.yaml")]
    rules, case = tmp_path / "rules.yaml", tmp_path / "case.yaml"
    bare = {**rule, "annotations": {}, "expr": f"group by (provider, verdict) ({rule['expr']})"}
    rules.write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": [bare]}]}))
    tests = {"evaluation_interval": "1m"} | yaml.safe_load(path.read_text()) | {"rule_files": [str(rules)]}
    for series in (one for test in tests["tests"] for one in test["input_series"]):
        name, _, labels = series["series"].partition("{")
        series["series"] = f'{name}{{job="ownpost",instance="exporter:9326",{labels or "}"}'
    case.write_text(yaml.safe_dump(tests))
    done = subprocess.run([need("promtool"), "test", "rules", str(case)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alarm_has_a_firing_and_a_silent_case() -> None:
    rings, silent = set(), set()
    for path in CASES:
        for test in yaml.safe_load(path.read_text())["tests"]:
            for one in test["alert_rule_test"]:
                (rings if one.get("exp_alerts") else silent).add(one["alertname"])
    names = {one["alert"] for one in alerts()}
    assert (names - rings, names - silent) == (set(), set())


def test_every_alarm_says_what_it_is_how_bad_it_is_and_what_to_do() -> None:
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    assert headings == [one["alert"] for one in alerts()]
    for one in alerts():
        assert one["labels"]["severity"] in ("critical", "warning", "info")
        texts = one["annotations"]
        assert set(texts) == {"summary", "description", "runbook_url"}
        assert texts["runbook_url"] == f"docs/operations.md#{one['alert'].lower()}"


def test_every_part_of_the_runbook_has_its_three_answers() -> None:
    text = (ROOT / "docs/operations.md").read_text().partition("## Runbook")[2].partition("\n## ")[0]
    for part in text.split("\n### ")[1:]:
        for word in ("**Means**", "**Look**", "**Do**"):
            assert part.count(word) == 1, part


def test_prometheus_takes_the_configuration() -> None:
    config = ROOT / "config/prometheus/prometheus.yaml"
    done = subprocess.run(
        [need("promtool"), "check", "config", str(config)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_has_nothing_to_say_of_the_relays_metrics() -> None:
    page = Metrics(CollectorRegistry(), ["sendgrid"], "0.1.0").page("")[1]
    done = subprocess.run([need("promtool"), "check", "metrics"], input=page, capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
