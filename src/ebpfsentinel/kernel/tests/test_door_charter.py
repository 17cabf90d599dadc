"""What the configuration does not allow, the keeper refuses, whoever asks."""

import ipaddress
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebpfsentinel.kernel.build import compile_object
from ebpfsentinel.kernel.door import calls, wire
from ebpfsentinel.kernel.door.charter import Card, Charter
from ebpfsentinel.kernel.door.serve import Server
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.kernel.protection import Protection
from ebpfsentinel.model import action as model
from ebpfsentinel.model.domain import Program
from ebpfsentinel.model.floor import Connection, Floor
from ebpfsentinel.model.kernel import KernelError

FRAME = bytes(12) + b"\x88\xb5" + bytes(46)
ONE = np.zeros(1, np.uint32)
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")


@pytest.fixture(scope="module")
def object_file(tmp_path_factory):
    target = tmp_path_factory.mktemp("charter") / "contract.bpf.o"
    compile_object(Path(__file__).with_name("contract.bpf.c"), target)
    return str(target)


class Caller:
    """Sends calls to a keeper's server as bytes, and raises what it refuses."""

    def __init__(self, server):
        self.server = server

    def __call__(self, call):
        data, handles = self.server.answer(wire.encode(call))
        answer = wire.decode_answer(call, data)
        if isinstance(answer, calls.Refused):
            raise wire.error_of(answer)
        self.handles = handles
        return answer.value

    def apply(self, *actions):
        return self(calls.Apply([wire.to_wire(each) for each in actions]))


@pytest.fixture
def charter(object_file):
    programs = (
        Program("contract_xdp", order=10),
        Program("contract_undo", order=5),
        Program("contract_absent", optional=True),
    )
    network = Protection(addresses=("10.0.0.0/8",), sessions=False)
    return Charter(
        path="/etc/it.yaml",
        interfaces=("eth7",),
        domains=(Card(name="contract", object=object_file, programs=programs),),
        protection=network,
    )


@pytest.fixture
def allowed(charter):
    return [charter]


@pytest.fixture
def call(allowed, tmp_path):
    kernel = LinuxKernel(pin_root=tmp_path, lends_rings=True)
    made = Caller(Server(kernel, lambda: allowed[0], []))
    made(calls.Load(["contract"]))
    yield made
    kernel.detach()


def test_a_domain_that_is_not_enabled_is_not_loaded(call):
    with pytest.raises(KernelError, match=r"/etc/it.yaml: domain other .*Enable section other"):
        call(calls.Load(["contract", "other"]))


@pytest.mark.parametrize("kind", [calls.Reserve, calls.Claim, calls.Attach])
def test_an_interface_that_is_not_named_is_left_alone(call, kind):
    with pytest.raises(
        KernelError, match=r"interface lo is not named\. Add lo to agent.interfaces"
    ):
        call(kind(["eth7", "lo"]))


def test_auto_allows_those_that_are_up_and_those_that_were(call, allowed, charter):
    call(calls.Reserve(["eth7"]))
    allowed[0] = msgspec.structs.replace(charter, interfaces=("auto",))
    call(calls.Attach(["eth7"]))
    with pytest.raises(KernelError, match="absent0"):
        call(calls.Reserve(["absent0"]))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("floor_net", "keeper's own"),
        ("floor_head", "keeper's own"),
        ("xdp_chain", "keeper's own"),
        ("interface_count", "keeper's own"),
        ("c_ring_led", "ledger"),
        ("c_ring", "programs or records"),
        ("c_tables", "swapped"),
    ],
)
def test_maps_that_are_not_a_domains_are_not_written(call, name, why):
    for action in (model.MapWrite(name, ONE, ONE), model.MapDelete(name, ONE)):
        with pytest.raises(KernelError, match=why):
            call.apply(action)


def test_what_has_no_one_dimension_reaches_no_map(call):
    flat = np.zeros((1, 0), np.uint64)
    with pytest.raises(KernelError, match=r"dimension|bytes"):
        call.apply(model.MapWrite("c_hash", flat, np.zeros((1, 0), np.uint32)))
    table = np.zeros((2, 2), np.uint32)
    with pytest.raises(KernelError, match="dimension"):
        call.apply(model.MapWrite("c_lru", table, table))


def test_a_head_of_another_size_than_the_maps_is_refused(call):
    small = np.zeros(1, np.dtype([("current", "<u4"), ("serial", "<u8", 2)]))
    with pytest.raises(KernelError, match="bytes are not what is behind"):
        call.apply(model.Switch("c_places", {}, {}, "c_head", small))


def test_a_per_cpu_value_is_not_looked_up_into_the_room_of_one(call):
    with pytest.raises(KernelError, match="one key"):
        call(calls.LookUp("c_count", ONE))


@pytest.mark.parametrize(
    ("offset", "length"),
    [([0], [100]), ([-1], [10]), ([90], [20]), ([1], [(1 << 63) - 1]), ([1 << 62], [14])],
)
def test_frames_lie_within_what_was_sent(call, offset, length):
    places = [np.array(each, np.int64) for each in (offset, length)]
    with pytest.raises(KernelError, match="beyond"):
        call(calls.RunMany("xdp_root", np.zeros(64, np.uint8), *places, ""))


def test_only_what_judges_frames_is_run_on_them(call):
    for program in ("contract_trace", "contract_iter"):
        with pytest.raises(KernelError, match="judges no frames"):
            call(calls.RunOne(program, FRAME, 1, ""))
    with pytest.raises(KernelError, match="no iterator"):
        call(calls.Seed("contract_xdp"))
    with pytest.raises(KernelError, match="own program"):
        call.apply(model.Run("xdp_root"))


def test_the_floor_is_the_keepers_and_what_is_asked_for_comes_on_top(call):
    def protected():
        return wire.floor_of(call(calls.Protected())).networks

    ten, other = (ipaddress.ip_network(each) for each in ("10.0.0.0/8", "192.0.2.0/24"))
    assert protected() == {ten}
    for asked in (Floor(), Floor(networks=frozenset({other}))):
        call(calls.Protect(wire.floor_to_wire(asked)))
        assert protected() == {ten} | asked.networks


def test_the_floor_follows_the_configuration(call, allowed, charter):
    allowed[0] = msgspec.structs.replace(
        charter, protection=Protection(ports=(22,), sessions=False)
    )
    call.server.look_after()
    assert wire.floor_of(call(calls.Protected())).ports == {22}


@pytest.fixture
def child():
    with subprocess.Popen(["sleep", "1000"]) as made:
        yield made
        made.kill()


def kill_of(pid):
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    return model.Kill(pid, int(after_name.split()[19]) * 10**9 // os.sysconf("SC_CLK_TCK"))


def test_nothing_is_killed_where_the_configuration_lets_nothing_be(call, child):
    with pytest.raises(KernelError, match="nothing may be killed"):
        call.apply(kill_of(child.pid))
    assert child.poll() is None


def test_who_is_on_the_list_is_spared_and_others_are_not(call, allowed, charter, child):
    path = str(Path(f"/proc/{child.pid}/exe").readlink())
    for listed in (path, f"{Path(path).parent}/*"):
        allowed[0] = msgspec.structs.replace(charter, kills=(listed,))
        with pytest.raises(KernelError, match="never killed"):
            call.apply(kill_of(child.pid))
    assert child.poll() is None
    allowed[0] = msgspec.structs.replace(charter, kills=("/usr/sbin/sshd",))
    call.apply(kill_of(child.pid))
    assert child.wait() == -9


@pytest.mark.parametrize("who", [lambda: 1, os.getpid, os.getppid], ids=["init", "we", "parent"])
def test_we_and_our_ancestors_are_never_killed(call, allowed, charter, who):
    allowed[0] = msgspec.structs.replace(charter, kills=())
    with pytest.raises(KernelError, match="never killed"):
        call.apply(model.Kill(who(), 0))


def test_threads_of_the_kernel_are_never_killed(charter):
    (thread,) = [
        each.parent.name for each in Path("/proc").glob("[0-9]*/comm")
        if each.read_text() == "kthreadd\n"
    ] or [None]  # fmt: skip
    if thread is None:
        return  # in a container there are none to be seen
    with pytest.raises(KernelError, match="of the kernel"):
        msgspec.structs.replace(charter, kills=()).check_kill(int(thread), [])


def test_refusals_are_counted_and_a_flood_of_them_is_not_logged(call, caplog):
    for _ in range(100):
        with pytest.raises(KernelError):
            call.apply(model.Kill(7, 7))
    assert call.server.refusals.total >= 100
    assert len(caplog.records) <= 25


def test_what_is_no_call_ends_the_connection(call):
    with pytest.raises(wire.WireError):
        call.server.answer(b"\xc1not a call")


def test_a_charter_is_read_from_a_configuration(tmp_path):
    path = tmp_path / "config.json"
    sections = {
        "agent": {"interfaces": ["auto"], "user": "64321", "never_block": {"ports": [22]}},
        "process": {"enable_kill": True, "never_kill": ["/bin/me"]},
        "firewall": {"enabled": False},
    }
    path.write_text(json.dumps(sections))
    found = read(path)
    assert (found.user, found.kills, found.protection.ports) == (64321, ("/bin/me",), (22,))
    names = {card.name: card for card in found.domains}
    assert "process" in names
    assert "firewall" not in names
    assert Path(names["process"].object).is_file()
    sections["process"]["enable_kill"] = False
    path.write_text(json.dumps(sections))
    assert read(path).kills is None


def read(path):
    command = [sys.executable, "-c", "from ebpfsentinel.charter import main; main()"]
    done = subprocess.run([*command, f"--config={path}"], capture_output=True, check=True)
    return msgspec.json.decode(done.stdout, type=Charter)


def test_a_configuration_that_others_may_write_allows_nothing(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"agent": {"interfaces": ["auto"]}}')
    path.chmod(0o666)
    command = [sys.executable, "-c", "from ebpfsentinel.keeper import main; main()"]
    done = subprocess.run(
        [*command, f"--config={path}", f"--socket={tmp_path}/s"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"chmod go-w {path}" in done.stderr


def test_programs_cannot_be_named_by_path(object_file, charter):
    """Only the charter says where an object is: a call has no place for it."""
    (card,) = charter.cards(["contract"])
    assert card.object == object_file
    assert calls.Load.__struct_fields__ == ("domains",)


def test_what_the_file_before_guarded_may_be_guarded_but_nothing_else_of_it(charter):
    card = Card(name="more")
    now = Charter(path="/etc/it.yaml", interfaces=("eth8",), domains=(card,), kills=None)
    both = now.beside(msgspec.structs.replace(charter, kills=()))
    assert [each.name for each in both.cards(["contract", "more"])] == ["contract", "more"]
    both.check_interfaces(["eth7", "eth8"], [])
    assert both.kills is None
    assert both.protection == now.protection


def test_a_floor_that_is_too_large_does_not_crowd_out_the_keepers(call):
    address = ipaddress.ip_address
    crowd = frozenset(Connection(address(0xC0000200 + n), 1, 22) for n in range(4096))
    with pytest.raises(KernelError, match="full"):
        call(calls.Protect(wire.floor_to_wire(Floor(connections=crowd))))
    found = wire.floor_of(call(calls.Protected()))
    assert found.networks == {ipaddress.ip_network("10.0.0.0/8")}
    assert not found.connections


def test_only_executables_are_located(call, tmp_path):
    tool, note = tmp_path / "tool", tmp_path / "note"
    for each in (tool, note):
        each.write_text("x")
    tool.chmod(0o700)
    note.chmod(0o600)
    found = call(calls.Locate([str(tool), str(note), str(tmp_path), "/absent"]))
    assert found[str(tool)][1] == tool.stat().st_ino
    assert {found[each] for each in (str(note), str(tmp_path), "/absent")} == {(0, 0)}


HEAD = np.dtype([("current", "<u4"), ("pad", "<u4"), ("serial", "<u8", 2)])
TABLE = np.dtype([("drop_above", "<u4"), ("generation", "<u4")])
SAID = [
    wire.encode(calls.Apply([wire.to_wire(each)]))
    for each in (
        model.MapWrite("c_hash", np.zeros(2, np.uint64), np.zeros(2, np.uint32)),
        model.MapReplace("c_array", ONE, np.zeros(1, TABLE)),
        model.MapDelete("c_count", ONE),
        model.Swap("c_tables", 0, np.zeros(1, TABLE)),
        model.Lend("c_tables", 1, "c_lent"),
        model.Switch("c_places", {0: np.zeros(1, TABLE)}, {}, "c_head", np.zeros(1, HEAD)),
        model.Patch("c_places", 0, 0, "c_head", HEAD, ((0, bytes(8)),)),
        model.FlowTable(None),
    )
] + [
    wire.encode(each)
    for each in (
        calls.RunMany("xdp_root", np.zeros(99, np.uint8), *np.array([[0, 9], [20, 60]]), "xdp_dry"),
        calls.RunOne("xdp_root", FRAME, 3, ""),
        calls.LookUp("c_hash", np.zeros(1, np.uint64)),
        calls.Read("c_lru"),
        calls.Total("c_count", 1),
        calls.Seed("contract_iter"),
    )
]


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(SAID),
    st.lists(st.tuples(st.integers(0, 1 << 12), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_calls_with_other_bytes_in_them_are_answered_or_refused(call, said, others):
    data = bytearray(said)
    for at, byte in others:
        data[at % len(data)] = byte
    try:
        answer, _ = call.server.answer(bytes(data))
    except wire.WireError:
        return
    assert answer
