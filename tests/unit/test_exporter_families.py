"""Merged metrics: exemplars survive, two with one name do not collide, nonsense and floods are refused."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from exporter.families import MOST_SAMPLES, OPENMETRICS, Merged, Values, read
from relay.metrics import Metrics

ID = "01M5ZV7Q8HF2W9T0ABCDEFGHJK"


def relay_page() -> tuple[str, str]:
    metrics = Metrics(CollectorRegistry(), ["brevo"], "0.1.0")
    metrics.accepting.observe(0.004, message=ID)
    metrics.delay.observe(7.0, "brevo", ID)
    metrics.accepted.inc("submission")
    kind, text = metrics.page(OPENMETRICS)
    return kind.partition(";")[0], text.decode()


def test_exemplars_come_through_for_those_who_ask() -> None:
    merged = Merged([read(*relay_page())])
    kind, text = merged.page(f"{OPENMETRICS};version=1.0.0,text/plain;q=0.5")
    assert kind.startswith(OPENMETRICS)
    samples = [one for family in parse_openmetrics(text.decode()) for one in family.samples]
    found = {one.name: one.exemplar for one in samples if one.exemplar}
    assert found["ownpost_accept_duration_seconds_bucket"].labels == {"message": ID}
    assert found["ownpost_delivery_delay_seconds_bucket"].value == 7.0


def test_prometheus_own_form_has_the_same_values() -> None:
    kind, text = Merged([read(*relay_page())]).page("text/plain")
    assert kind.startswith("text/plain")
    names = {one.name: one.value for family in parse(text.decode()) for one in family.samples if one.value}
    assert names["ownpost_messages_accepted_total"] == 1
    assert "# {" not in text.decode()


def test_of_two_with_one_name_the_first_wins() -> None:
    one = read("text/plain", "# TYPE ownpost_x gauge\nownpost_x 1\n")
    other = read("text/plain", "# TYPE ownpost_x gauge\nownpost_x 2\n# TYPE ownpost_y gauge\nownpost_y 2\n")
    text = Merged([one, other]).page("")[1].decode()
    assert "ownpost_x 1.0" in text
    assert "ownpost_x 2.0" not in text
    assert "ownpost_y 2.0" in text


def test_strangers_names_are_left_out() -> None:
    assert read("text/plain", "up 1\n# TYPE ownpost_x gauge\nownpost_x 1\npython_info 1\n")[0].name == "ownpost_x"


@pytest.mark.parametrize("kind", ["text/plain", OPENMETRICS])
@pytest.mark.parametrize("text", ["<html>it works</html>", 'ownpost_x{a="b 1\n', "ownpost_x one\n"])
def test_nonsense_is_an_error(kind: str, text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any of the parsers' own
        read(kind, text)


def test_a_flood_is_an_error() -> None:
    text = "".join(f'ownpost_x{{sender="{number}"}} 1\n' for number in range(MOST_SAMPLES + 1))
    with pytest.raises(ValueError, match="more than"):
        read("text/plain", text)


def test_values_are_found_by_all_their_labels() -> None:
    values = Values(read(*relay_page()))
    assert values.get("messages_accepted_total", listener="submission") == 1
    assert values.get("messages_accepted_total") is None
    assert values.label("provider_paused", "provider") == ["brevo"]
