"""Settings to a head, counters to views: the engine without a kernel."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsentinel.config import convert
from ebpfsentinel.domains.scrub import DOMAIN
from ebpfsentinel.domains.scrub.events import SC_COUNT, ScChange
from ebpfsentinel.domains.scrub.settings import DSCP, IllegalFlags, ScrubSettings
from ebpfsentinel.domains.scrub.tables import (
    ACK,
    DROP,
    FIN,
    PSH,
    RST,
    SYN,
    URG,
    flags_table,
    mended,
)
from ebpfsentinel.model.action import Engage
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.settings import SettingsError

INGRESS_WOULD, INGRESS_DONE, EGRESS_WOULD, EGRESS_DONE = range(4)


def planned(slots=None, **written):
    engine = DOMAIN.engine(Tools(rules=None))
    settings = msgspec.convert({"enabled": True, **written}, ScrubSettings)
    plan = engine.plan(settings, {}, Surroundings(interfaces=slots or {}))
    engine.commit(plan)
    return engine, plan.actions[0].value


def test_what_is_not_asked_for_is_one_empty_bitmask():
    _, head = planned()
    assert head["changes"].tolist() == [[0, 0]]
    assert head["tcp_flags"][0].tolist() == list(range(64))


@pytest.mark.parametrize(
    ("written", "change"),
    [
        ({"min_ttl": 64}, ScChange.SC_TTL),
        ({"min_hop_limit": 64}, ScChange.SC_HOP_LIMIT),
        ({"normalize_tos": True}, ScChange.SC_TOS),
        ({"dscp": 0}, ScChange.SC_TOS),
        ({"strip_ecn": True}, ScChange.SC_ECN),
        ({"clear_df": True}, ScChange.SC_DF),
        ({"random_ip_id": True}, ScChange.SC_ID),
        ({"scrub_tcp_flags": True}, ScChange.SC_RESERVED),
        ({"illegal_tcp_flags": "deny"}, ScChange.SC_ILLEGAL),
        ({"max_mss": "auto"}, ScChange.SC_MSS),
        ({"max_mss": 1400}, ScChange.SC_MSS),
        ({"strip_tcp_timestamps": True}, ScChange.SC_TIMESTAMPS),
        ({"drop_fragments": True, "fragments": "strict"}, ScChange.SC_FRAGMENTS),
        ({"fragments": "strict"}, ScChange.SC_BAD_FRAGMENTS),
    ],
)
def test_each_key_is_one_bit_on_the_ways_that_are_asked_for(written, change):
    for direction, wanted in (("in", [change, 0]), ("egress", [0, change]), ("both", [change] * 2)):
        engine, head = planned(**written, direction=direction)
        assert head["changes"].tolist() == [wanted]
        assert engine.status()["changes"] == [change.name.removeprefix("SC_").lower()]


@pytest.mark.parametrize(
    ("direction", "comes", "leaves"), [("in", 1, 0), ("egress", 0, 1), ("both", 1, 1)]
)
def test_a_direction_with_nothing_to_do_is_not_looked_at(direction, comes, leaves):
    settings = msgspec.convert({"min_ttl": 64, "direction": direction}, ScrubSettings)
    plan = DOMAIN.engine(Tools(rules=None)).plan(settings, {}, Surroundings())
    assert plan.actions[1:] == (
        Engage("tc_scrub", on=bool(comes)),
        Engage("egress_scrub", on=bool(leaves)),
    )


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ({"tos_value": 3, "normalize_tos": True}, "scrub.tos_value"),
        ({"dscp": "ef", "normalize_tos": True}, "scrub.dscp"),
        ({"dscp": "eff"}, "scrub.dscp"),
        ({"dscp": "64"}, "scrub.dscp"),
        ({"interfaces": ["eht0"]}, "scrub.interfaces[0]"),
    ],
)
def test_what_cannot_be_taken_is_named_with_a_remedy(written, place):
    with pytest.raises(SettingsError) as told:
        planned({"eth0": 1}, **written)
    assert told.value.place == place
    assert told.value.remedy


@pytest.mark.parametrize(
    "written", [{"max_mss": "most"}, {"max_mss": 20}, {"min_ttl": 255}, {"dscp": 64}]
)
def test_values_beyond_their_limits_are_refused(written):
    with pytest.raises(SettingsError):
        convert(written, ScrubSettings, "scrub")


def test_code_points_go_by_their_usual_names():
    assert (DSCP["cs6"], DSCP["af11"], DSCP["af43"], DSCP["ef"]) == (48, 10, 38, 46)
    for name, number in DSCP.items():
        assert planned(dscp=name.upper())[1]["tos"][0] == number << 2


@given(st.integers(0, 63))
def test_what_has_been_mended_needs_no_mending(flags):
    found = mended(flags)
    if found == DROP:
        assert not flags & (SYN | RST | ACK)
    else:
        assert mended(found) == found
        assert found & ~flags == 0, "flags are taken away, none is added"
        assert not (found & SYN and found & (FIN | RST))


def test_the_usual_suspects():
    for flags in (SYN | FIN, SYN | RST, FIN, 0, FIN | PSH | URG, SYN | URG):
        assert flags_table(IllegalFlags.DROP)[flags] == DROP
    for flags in (SYN, SYN | ACK, ACK, PSH | ACK, FIN | ACK, RST, RST | ACK, URG | ACK):
        for policy in IllegalFlags:
            assert flags_table(policy)[flags] == flags


def test_counters_are_shown_by_mode_and_direction():
    counts = np.zeros(4, SC_COUNT)
    counts["ttl_fixed"] = 1, 20, 300, 4000
    counts["mss_clamped"][EGRESS_DONE] = 7
    engine, _ = planned(mode="block", min_ttl=1)
    engine.feed("sc_count", counts, 0)
    status = engine.status()
    assert (status["ttl_fixed"], status["mss_clamped"]) == (4020, 7)
    assert status["ingress"]["ttl_fixed"] == 20
    found = {
        (each.labels["direction"], each.labels["effect"]): each.value
        for each in engine.metrics()
        if each.labels["change"] == "ttl_fixed"
    }
    assert found == {
        ("ingress", "would"): 1,
        ("ingress", "done"): 20,
        ("egress", "would"): 300,
        ("egress", "done"): 4000,
    }
    alert, _ = planned(mode="alert", min_ttl=1)
    alert.feed("sc_count", counts, 0)
    assert alert.status()["ttl_fixed"] == 301
