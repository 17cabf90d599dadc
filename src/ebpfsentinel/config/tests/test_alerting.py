"""Section ``alerting``: what is refused, where, and with which remedy."""

import pytest

from ebpfsentinel.config import convert
from ebpfsentinel.model.alerting import Alerting
from ebpfsentinel.model.settings import SettingsError

HOOK = {"name": "h", "destination": "webhook", "webhook_url": "https://h/x"}


@pytest.mark.parametrize(
    ("route", "place", "said"),
    [
        ({"name": "h", "destination": "webhook"}, "routes[0].webhook_url", "is required"),
        (HOOK | {"webhook_url": "ftp://h"}, "routes[0].webhook_url", "is no URL"),
        (HOOK | {"webhook_url": "http://a b/"}, "routes[0].webhook_url", "is no URL"),
        (HOOK | {"webhook_url": "http://u:p@h/"}, "routes[0].webhook_url", "password in it"),
        (HOOK | {"webhook_headers": {"A b": "x"}}, "routes[0].webhook_headers", "no header name"),
        (
            HOOK | {"webhook_headers": {"Content-Type": "x"}},
            "routes[0].webhook_headers",
            "set by the agent",
        ),
        (HOOK | {"webhook_headers": {"A": "x\r\nB: y"}}, "webhook_headers", "line break"),
        (HOOK | {"webhook_headers": {"A": "x\0"}}, "webhook_headers", "line break"),
        (HOOK | {"format": "pagerduty"}, "routes[0].routing_key", "is required"),
        (HOOK | {"name": "../x"}, "routes[0].name", "matching"),
        (HOOK | {"nmae": "x"}, "routes[0].nmae", "Did you mean 'name'"),
        (HOOK | {"min_severity": "hihg"}, "routes[0].min_severity", "Did you mean 'high'"),
        (
            {"name": "m", "destination": "email", "email_to": ["a@b"]},
            "routes[0].destination",
            "needs alerting.smtp",
        ),
        ({"name": "m", "destination": "otlp"}, "routes[0].destination", "needs alerting.otlp"),
        (
            {"name": "f", "destination": "file", "file": {"path": "rel"}},
            "routes[0].file.path",
            "not absolute",
        ),
        (
            {"name": "s", "destination": "file", "file": {"path": "/x"}, "format": "slack"},
            "routes[0].format",
            "is for webhooks",
        ),
    ],
)
def test_what_is_wrong_with_a_route_is_said_with_its_place(route, place, said):
    with pytest.raises(SettingsError) as caught:
        convert({"routes": [route]}, Alerting, "alerting")
    assert place in caught.value.place
    assert said in str(caught.value)


def test_secrets_do_not_stand_in_errors():
    with pytest.raises(SettingsError) as caught:
        convert({"routes": [HOOK | {"webhook_headers": {"A": "hunter2\n"}}]}, Alerting, "alerting")
    assert "hunter2" not in str(caught.value)


def test_two_routes_of_one_name_are_refused():
    with pytest.raises(SettingsError, match=r"routes\[1\].name: 'H' is taken"):
        convert({"routes": [HOOK, HOOK | {"name": "H"}]}, Alerting, "alerting")


def test_one_receiver_may_be_a_text_and_words_have_other_spellings():
    smtp = {"host": "m", "from_address": "a@b"}
    routes = [
        {"name": "m", "destination": "email", "email_to": "soc@example.org"},
        {"name": "o", "destination": "OpenSearch", "elasticsearch": {"url": "http://h"}},
    ]
    found = convert({"routes": routes, "smtp": smtp}, Alerting, "alerting").routes
    assert found[0].receivers == ["soc@example.org"]
    assert found[1].destination.value == "elasticsearch"
