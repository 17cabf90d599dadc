"""The gRPC face, asked by a gRPC client over real sockets."""

import asyncio
import json
import time
from contextlib import asynccontextmanager, suppress

import pytest
from grpclib.client import Channel
from grpclib.config import Configuration
from grpclib.const import Status
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from grpclib.health.v1.health_grpc import HealthStub
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpclib.reflection.v1.reflection_grpc import ServerReflectionStub
from grpclib.reflection.v1.reflection_pb2 import ServerReflectionRequest

from h2.exceptions import StreamClosedError

from ebpfsentinel.api.grpc.alerts_grpc import AlertStreamServiceStub
from ebpfsentinel.api.grpc.alerts_pb2 import StreamAlertsRequest
from ebpfsentinel.api.grpc.event import event_of
from ebpfsentinel.model import attack
from ebpfsentinel.model.alert import Finding


@asynccontextmanager
async def channel(served, **settings):
    config = Configuration(**settings)
    made = Channel("127.0.0.1", served.listeners.grpc_port, config=config)
    try:
        yield made
    finally:
        made.close()


@asynccontextmanager
async def streaming(served, config=None, metadata=None, **request):
    async with (
        channel(served, **(config or {})) as made,
        AlertStreamServiceStub(made).StreamAlerts.open(metadata=metadata, timeout=60) as stream,
    ):
        await stream.send_message(StreamAlertsRequest(**request), end=True)
        await stream.recv_initial_metadata()
        try:
            yield stream
        finally:
            with suppress(ProtocolError, StreamClosedError, StreamTerminatedError):
                await stream.cancel()


def publish(served, *alerts):
    for each in alerts:
        served.call(served.agent.alerts.publish, each)


def refused(served, **request):
    async def ask():
        async with streaming(served, **request) as stream:
            await stream.recv_message()

    with pytest.raises(GRPCError) as caught:
        asyncio.run(ask())
    return caught.value.status, caught.value.message


def test_alerts_are_told_as_they_happen_narrowed_by_every_filter(served, alert):
    wanted = {"component": "moat", "min_severity": "HIGH", "mitre_tactic": "Impact"}

    async def follow():
        async with streaming(served, mitre_technique_id="t1499", **wanted) as stream:
            publish(
                served,
                alert(1, technique="T1499"),  # medium
                alert(2, technique="T1499"),  # of the gate
                alert(3, technique="T1498"),
                alert(3),
                alert(7, technique="T1499.002", message="this one"),
            )
            return await stream.recv_message()

    event = asyncio.run(follow())
    assert (event.id, event.message, event.severity) == ("7-r-7", "this one", "critical")
    known = (event.mitre_technique_id, event.mitre_technique_name, event.mitre_tactic)
    assert known == ("T1499.002", "Endpoint Denial of Service", "impact")


@pytest.mark.parametrize(
    ("request_", "remedy"),
    [
        ({"min_severity": "bad"}, "Write one of: low, medium, high, critical."),
        ({"component": "moot"}, "Did you mean 'moat'?"),
        ({"mitre_tactic": "harm"}, "Write one of: reconnaissance, "),
        ({"mitre_technique_id": "1059"}, "Write T1059, or T1059.004."),
    ],
)
def test_a_filter_that_makes_no_sense_is_an_invalid_argument(served, request_, remedy):
    status, message = refused(served, **request_)
    assert status is Status.INVALID_ARGUMENT
    assert remedy in message


def test_who_comes_back_gets_what_came_meanwhile(served, alert):
    publish(served, alert(20), alert(21), alert(22))

    async def follow():
        async with streaming(served, after_id="20-r-20") as stream:
            return [(await stream.recv_message()).id for _ in range(2)]

    assert asyncio.run(follow()) == ["21-r-21", "22-r-22"]


def test_a_slow_client_is_told_what_it_missed(served, alert):
    sent = 4000
    small = {"http2_stream_window_size": 1 << 16, "http2_connection_window_size": 1 << 16}

    async def follow():
        async with streaming(served, small) as stream:
            for begin in range(0, sent, 100):
                many = [alert(n, message="x" * 4000) for n in range(begin, begin + 100)]
                served.call(lambda: [served.agent.alerts.publish(each) for each in many])
            seen = [await stream.recv_message()]
            while seen[-1].id != "9999-r-9999":
                if len(seen) == 1500:
                    pytest.fail("it was not slow")
                if len(seen) == 900:  # there is room again
                    publish(served, alert(9999))
                seen.append(await stream.recv_message())
            return seen

    seen = asyncio.run(follow())
    assert seen[-1].missed > 0
    assert len(seen) - 1 + sum(event.missed for event in seen) == sent


def test_health_needs_no_key_and_says_when_the_agent_is_not_ready(served):
    async def ask(service):
        async with channel(served) as made:
            return (await HealthStub(made).Check(HealthCheckRequest(service=service))).status

    assert asyncio.run(ask("")) == HealthCheckResponse.SERVING
    assert asyncio.run(ask("ebpfsentinel.v1.AlertStreamService")) == HealthCheckResponse.SERVING
    with pytest.raises(GRPCError, match="NOT_FOUND"):
        asyncio.run(ask("none"))


def test_health_says_when_the_agent_is_not_ready(serve):
    made = serve()
    made.agent.ready = False

    async def ask():
        async with channel(made) as found:
            return (await HealthStub(found).Check(HealthCheckRequest())).status

    assert asyncio.run(ask()) == HealthCheckResponse.NOT_SERVING


def test_reflection_is_there_where_it_is_asked_for(serve, served):
    async def services(asked):
        async with channel(asked) as made:
            request = ServerReflectionRequest(list_services="")
            (answer,) = await ServerReflectionStub(made).ServerReflectionInfo([request])
            return {found.name for found in answer.list_services_response.service}

    assert "ebpfsentinel.v1.AlertStreamService" in asyncio.run(services(serve(grpc_reflection=True)))
    with pytest.raises(GRPCError, match="content-type|UNIMPLEMENTED"):
        asyncio.run(services(served))


def test_streams_end_with_the_agent(serve):
    made = serve()

    async def follow():
        async with streaming(made) as stream:
            publish(made, None)
            return await stream.recv_message()

    assert asyncio.run(follow()) is None
    assert made.agent.alerts.listeners == 0


def test_open_streams_do_not_hold_up_the_end(serve):
    made = serve()

    async def follow():
        async with streaming(made) as stream:
            reading = asyncio.create_task(stream.recv_message())
            await asyncio.to_thread(made.run, made.listeners.stop())
            return await reading

    assert asyncio.run(follow()) is None
    assert made.agent.alerts.listeners == 0


def test_it_is_not_there_where_it_is_off(serve):
    assert serve(grpc_enabled=False).listeners.grpc_port == 0


def test_what_is_known_beyond_the_alert_has_its_field(alert):
    context = {
        "dst_domain": "evil.example",
        "attack_type": "syn_flood",
        "peak_pps": 7_000_000_000,
        "direction": "this does not fit",
        "runner": {"container_id": "c0ffee"},
        "container": {"runtime": "docker", "pod": "web-0"},
        "odd": "\udcff",
    }
    finding = Finding(
        label="l", risk_score=0.5, detection_method="m", recommendation="r", confidence=0.87
    )
    event = event_of(alert(1, context=context, finding=finding, pid=5, message="\udcff"), 3)
    assert (event.dst_domain, event.attack_type, event.peak_pps) == (
        "evil.example", "syn_flood", 7_000_000_000,
    )  # fmt: skip
    assert (event.container.id, event.container.runtime, event.container.pod) == (
        "c0ffee", "docker", "web-0",
    )  # fmt: skip
    assert (event.confidence, event.direction, event.src_domain_score) == (87, -1, -1)
    assert (event.pid, event.tgid, event.missed, event.message) == (5, 5, 3, "?")
    assert json.loads(event.context_json)["odd"] == "?"


def test_the_numbers_are_those_of_the_reference():
    numbers = {field.name: field.number for field in event_of_fields()}
    wanted = (
        "id timestamp_ns component severity rule_id action src_addr dst_addr src_port dst_port "
        "protocol message is_ipv6 false_positive src_domain dst_domain src_domain_score "
        "dst_domain_score confidence threat_type data_type pid tgid direction matched_domain "
        "attack_type peak_pps current_pps mitigation_status total_packets src_geo dst_geo "
        "mitre_technique_id mitre_technique_name mitre_tactic ja4_fingerprint container"
    )
    assert {n: numbers[n] for n in wanted.split()} == {
        name: number for number, name in enumerate(wanted.split(), start=1)
    }
    asked = {field.name: field.number for field in StreamAlertsRequest.DESCRIPTOR.fields}
    assert asked == {
        "min_severity": 1, "component": 2, "mitre_tactic": 3, "mitre_technique_id": 4,
        "after_id": 100,
    }  # fmt: skip


def event_of_fields():
    from ebpfsentinel.api.grpc.alerts_pb2 import AlertEvent  # noqa: PLC0415

    return AlertEvent.DESCRIPTOR.fields


def test_attack_knows_the_techniques_that_engines_name():
    assert attack.technique("T1595.001").name == "Active Scanning"
    assert attack.technique("T9999") is None
    assert [attack.tactic(text) for text in ("TA0011", "command_and  control", "x")] == [
        "command-and-control", "command-and-control", None,
    ]  # fmt: skip


def test_a_message_that_is_too_long_is_not_read(served):
    async def ask():
        async with channel(served) as made:
            request = HealthCheckRequest(service="x" * (1 << 17))
            await HealthStub(made).Check(request)

    with pytest.raises(GRPCError) as caught:
        asyncio.run(ask())
    assert caught.value.status is Status.RESOURCE_EXHAUSTED
    assert caught.value.message == "The message has 131076 bytes; at most 65536 are read."
