"""A router of everything together: a closed firewall that knows flows, behind NAT, and scrubbed."""

import os

import pytest

from ebpfsentinel.domains.nat.tests.routed import (
    INSIDE_SERVER,
    INSIDE_SERVER6,
    MTU,
    SERVER,
    SERVER6,
    WAN,
    WAN6,
    Routed,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="running the agent needs root")

RULES = [
    {"id": "inside", "priority": 1, "action": "allow", "scope": "lan0"},
    {"id": "web", "priority": 2, "action": "allow", "protocol": "tcp", "dst_port": 8080},
]
FORWARD = {"type": "port_forward", "ext_port": 8080, "int_port": 80}


@pytest.fixture
def lab(tmp_path):
    made = Routed(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("mode", ["native", "tc"])
def test_a_closed_router_lets_out_and_in_what_it_should_and_nothing_else(lab, mode):
    lab.offload(on=False)
    agent = lab.agent(
        agent={"interfaces": ["lan0", "wan0"], "xdp_mode": mode},
        firewall={
            "mode": "block",
            "default_policy": "drop",
            "anti_lockout": {"enabled": False},
            "rules": RULES,
        },
        conntrack={"enabled": True},
        nat={
            "enabled": True,
            "snat_rules": [{"id": "m", "type": "masquerade", "interface": "wan0"}],
            "dnat_rules": [
                FORWARD | {"id": "four", "internal_addr": INSIDE_SERVER},
                FORWARD | {"id": "six", "internal_addr": INSIDE_SERVER6},
            ],
        },
        scrub={"enabled": True, "mode": "block", "max_mss": 1200, "scrub_tcp_flags": True},
    )
    for server, outside, inside in (
        (SERVER, WAN, INSIDE_SERVER),
        (SERVER6, WAN6, INSIDE_SERVER6),
    ):
        with lab.web(lab.server, server), lab.web(lab.client, inside):
            assert lab.curl(lab.client, server) == outside, "answers come in through NAT"
            assert lab.curl(lab.guarded, server) == outside, "and to the router itself"
            assert lab.curl(lab.server, outside, 8080) == server, "what is let in is forwarded"
        with lab.web(lab.guarded, outside, 8081):
            assert lab.curl(lab.server, outside, 8081, patience=1) == "", "nothing else is"
        assert "1 received" in lab.ping(server)
    assert f"mtu = {MTU}" in lab.ping("-M", "do", "-s", "1400", SERVER), "an error is related"
    assert f"mtu={MTU}" in lab.ping("-M", "do", "-s", "1400", SERVER6)
    flows = agent.cli("conntrack", "list")["connections"]
    assert {SERVER, SERVER6} <= {each["dst_ip"] for each in flows}
    assert agent.cli("scrub", "status")["mss_clamped"] > 0
