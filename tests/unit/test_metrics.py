"""Metrics: named after Prometheus' rules, all there from the start, and never more of them than at the start."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from relay.metrics import LISTENERS, Metrics
from relay.model import EventKind, State
from relay.refusal import Reason


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry(), ["sendgrid"], "0.1.0")


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = metrics.page("text/plain")[1].decode()
    found = [sample for family in parse(text) for sample in family.samples]
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for one in found}


def test_every_combination_is_there_at_zero(metrics: Metrics) -> None:
    found = samples(metrics)
    for listener in LISTENERS:
        for reason in Reason:
            assert found["ownpost_refused_total", (("listener", listener), ("reason", reason.value))] == 0
        assert found["ownpost_messages_accepted_total", (("listener", listener),)] == 0
        assert found["ownpost_connections_open", (("listener", listener),)] == 0
    for kind in EventKind:
        assert found["ownpost_mail_events_total", (("event", kind.value),)] == 0
    for outcome in ("delivered", "deferred", "refused", "doubtful"):
        labels = (("outcome", outcome), ("provider", "sendgrid"))
        assert found["ownpost_delivery_attempts_total", labels] == 0
    for name in ("ready", "paused", "paused_domains", "quota_used_recipients", "quota_limit_recipients"):
        assert found[f"ownpost_provider_{name}", (("provider", "sendgrid"),)] == 0
    for state in ("due", "claimed", "sending", "held", "refused", "expired", "unknown"):
        assert found["ownpost_queue_deliveries", (("state", state),)] == 0
    assert found["ownpost_build_info", (("version", "0.1.0"),)] == 1


def test_strangers_add_no_series(metrics: Metrics) -> None:
    before = set(samples(metrics))
    for number in range(1000):
        metrics.logins.inc("submission", f"X-{number}", "failed")
        metrics.tls_handshakes.inc("lan", f"TLSv{number}", "ok")
        metrics.attempts.inc(f"provider{number}", "delivered")
        metrics.refused.inc("submission", f"reason {number}")
    after = samples(metrics)
    assert set(after) == before
    labels = (("listener", "submission"), ("mechanism", "other"), ("result", "failed"))
    assert after["ownpost_logins_total", labels] == 1000


def test_the_queue_is_shown_as_it_is_now(metrics: Metrics) -> None:
    metrics.update_queue({State.DUE: 3, State.HELD: 1}, 2, 4096, 12.5, 0, 1, 0)
    metrics.update_queue({State.DUE: 2}, 1, 2048, 2.5, 1, 0, 4)
    metrics.update_spool(1000, 500)
    found = samples(metrics)
    assert found["ownpost_queue_deliveries", (("state", "due"),)] == 2
    assert found["ownpost_queue_deliveries", (("state", "held"),)] == 0
    assert found["ownpost_queue_messages", ()] == 1
    assert found["ownpost_queue_bytes", ()] == 2048
    assert found["ownpost_queue_failed_notices", ()] == 1
    assert found["ownpost_queue_oldest_message_age_seconds", ()] == 2.5
    assert found["ownpost_spool_room_bytes", ()] == 1000
    assert found["ownpost_spool_wal_bytes", ()] == 500
    assert found["ownpost_spool_writable", ()] == 1
    metrics.update_spool(0, 500)
    assert samples(metrics)["ownpost_spool_writable", ()] == 0


def test_a_pause_and_its_reason(metrics: Metrics) -> None:
    def reasons() -> dict[str, float]:
        name = "ownpost_provider_pause_reason"
        return {dict(labels)["reason"]: value for (one, labels), value in samples(metrics).items() if one == name}

    before = set(samples(metrics))
    assert reasons() == {"used_up": 0, "key_dead": 0, "busy": 0, "other": 0}
    metrics.update_pause("sendgrid", True, "key dead", 2)
    assert reasons() == {"used_up": 0, "key_dead": 1, "busy": 0, "other": 0}
    found = samples(metrics)
    assert found["ownpost_provider_paused", (("provider", "sendgrid"),)] == 1
    assert found["ownpost_provider_paused_domains", (("provider", "sendgrid"),)] == 2
    metrics.update_pause("sendgrid", True, "something new", 0)
    assert reasons()["other"] == 1
    metrics.update_pause("sendgrid", False, "", 0)
    assert set(reasons().values()) == {0}
    assert samples(metrics)["ownpost_provider_paused", (("provider", "sendgrid"),)] == 0
    assert set(samples(metrics)) == before


def test_a_quota(metrics: Metrics) -> None:
    labels = (("provider", "sendgrid"),)
    assert samples(metrics)["ownpost_provider_quota_limit_recipients", labels] == 0
    metrics.update_quota("sendgrid", 240, 300)
    assert samples(metrics)["ownpost_provider_quota_used_recipients", labels] == 240
    assert samples(metrics)["ownpost_provider_quota_limit_recipients", labels] == 300


def test_buckets_hold_what_is_at_most_their_bound_and_add_up(metrics: Metrics) -> None:
    for amount in (1, 2, 3, 1000):
        metrics.commit_size.observe(amount)
    found = samples(metrics)
    name = "ownpost_spool_commit_changes"
    counts = {le: found[f"{name}_bucket", (("le", le),)] for le in ("1.0", "2.0", "4.0", "256.0", "+Inf")}
    assert counts == {"1.0": 1, "2.0": 2, "4.0": 3, "256.0": 3, "+Inf": 4}
    assert (found[f"{name}_count", ()], found[f"{name}_sum", ()]) == (4, 1006)


def test_each_bucket_names_the_last_message_in_it_to_those_who_ask_for_openmetrics(metrics: Metrics) -> None:
    for amount, message in ((0.0004, "A"), (0.0005, "B"), (0.02, "C"), (0.02, "")):
        metrics.accepting.observe(amount, message=message)
    text = metrics.page("application/openmetrics-text")[1].decode()
    samples_ = [one for family in parse_openmetrics(text) for one in family.samples if one.exemplar]
    found = {one.labels["le"]: (one.exemplar.labels, one.exemplar.value) for one in samples_ if one.exemplar}
    assert found == {"0.001": ({"message": "B"}, 0.0005), "0.025": ({"message": "C"}, 0.02)}
    assert b"message=" not in metrics.page("text/plain")[1]


def test_names_follow_the_rules(metrics: Metrics) -> None:
    for family in parse(metrics.page("")[1].decode()):
        assert family.name.startswith("ownpost_")
        assert family.documentation
        assert not any(sample.name.endswith("_created") for sample in family.samples)


def test_openmetrics_on_request(metrics: Metrics) -> None:
    kind, text = metrics.page("application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")
    assert len(list(parse_openmetrics(text.decode()))) == len(list(parse(metrics.page("")[1].decode())))
