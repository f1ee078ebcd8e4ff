"""Merged metrics: exemplars survive, two with one name do not collide, nonsense and floods are refused."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from exporter.exposition import MOST_SAMPLES, parse
from exporter.families import OPENMETRICS, Merged, Values
from relay.metrics import Metrics

ID = "01M5ZV7Q8HF2W9T0ABCDEFGHJK"


def relay_page(accept: str = OPENMETRICS) -> str:
    metrics = Metrics(CollectorRegistry(), ["brevo"], "0.1.0")
    metrics.accepting.observe(0.004, message=ID)
    metrics.delay.observe(7.0, "brevo", ID)
    metrics.accepted.inc("submission")
    return metrics.page(accept)[1].decode()


def test_exemplars_come_through_for_those_who_ask() -> None:
    merged = Merged([parse(relay_page())])
    kind, text = merged.page(f"{OPENMETRICS};version=1.0.0,text/plain;q=0.5")
    assert kind.startswith(OPENMETRICS)
    samples = [one for family in parse_openmetrics(text.decode()) for one in family.samples]
    found = {one.name: one.exemplar for one in samples if one.exemplar}
    assert found["ownpost_accept_duration_seconds_bucket"].labels == {"message": ID}
    assert found["ownpost_delivery_delay_seconds_bucket"].value == 7.0


def test_prometheus_own_form_has_the_same_values() -> None:
    kind, text = Merged([parse(relay_page())]).page("text/plain")
    assert kind.startswith("text/plain")
    names = {one.name: one.value for family in parse_plain(text.decode()) for one in family.samples if one.value}
    assert names["ownpost_messages_accepted_total"] == 1
    assert "# {" not in text.decode()


def test_of_two_with_one_name_the_first_wins() -> None:
    one = parse("# TYPE ownpost_x gauge\nownpost_x 1\n")
    other = parse("# TYPE ownpost_x gauge\nownpost_x 2\n# TYPE ownpost_y gauge\nownpost_y 2\n")
    text = Merged([one, other]).page("")[1].decode()
    assert "ownpost_x 1.0" in text
    assert "ownpost_x 2.0" not in text
    assert "ownpost_y 2.0" in text


def test_strangers_names_are_left_out() -> None:
    text = "# TYPE up gauge\nup 1\n# TYPE ownpost_x gauge\nownpost_x 1\n"
    assert [family.name for family in parse(text)] == ["ownpost_x"]


START = "# TYPE ownpost_x gauge\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>it works</html>",
        "ownpost_x 1\n",
        START + 'ownpost_x{a="b 1\n',
        START + "ownpost_x one\n",
        START + "ownpost_x 1\nownpost_x 2\n",
        START + "ownpost_y 1\n",
        START + START,
        START + 'ownpost_x{a="b" c="d"} 1\n',
        "# TYPE ownpost_x nonsense\n",
        START + 'ownpost_x 1 # {message="m"} 1\n',
    ],
)
def test_nonsense_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)


@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
def test_it_reads_what_the_librarys_own_parsers_read(accept: str) -> None:
    text = relay_page(accept)
    theirs = list((parse_openmetrics if accept == OPENMETRICS else parse_plain)(text))
    assert parse(text) == [one for one in theirs if one.name.startswith("ownpost_")]


def test_escapes_are_undone_and_written_again() -> None:
    line = 'ownpost_x{a="q\\"u\\\\o\\n",b="}"} 1.0\n'
    (family,) = parse(START + line)
    assert family.samples[0].labels == {"a": 'q"u\\o\n', "b": "}"}
    assert line in Merged([[family]]).page("")[1].decode()


def test_a_flood_is_an_error() -> None:
    text = START + "".join(f'ownpost_x{{sender="{number}"}} 1\n' for number in range(MOST_SAMPLES + 1))
    with pytest.raises(ValueError, match="too many"):
        parse(text)


def test_values_are_found_by_all_their_labels() -> None:
    values = Values(parse(relay_page()))
    assert values.get("messages_accepted_total", listener="submission") == 1
    assert values.get("messages_accepted_total") is None
    assert values.label("provider_paused", "provider") == ["brevo"]
