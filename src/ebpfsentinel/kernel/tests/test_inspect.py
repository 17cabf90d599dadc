"""What others do to our hooks, chains, pins and maps is found, told once, and put back."""

import os
import subprocess
import uuid
from pathlib import Path

import numpy as np
import pytest

from ebpfsentinel import domains
from ebpfsentinel.config import discover
from ebpfsentinel.kernel.libbpf import ffi, lib
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.kernel.maps import pointer
from ebpfsentinel.kernel.pins import detach_all
from ebpfsentinel.model.action import MapWrite
from ebpfsentinel.model.kernel import OnExit

CARDS = [card for card in discover(domains) if card.object]
FIREWALL = next(card for card in CARDS if "fw_banks" in card.sealed)
WATCHED = next(card for card in CARDS if "process_wanted" in card.sealed)


@pytest.fixture
def interface():
    """One end of a veth pair of our own, on this machine; nothing is routed to it."""
    name = f"in{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", f"{name}p"], check=True)
    yield name
    subprocess.run(["ip", "link", "del", name], check=True)


@pytest.fixture
def kernel(interface):
    root = Path("/sys/fs/bpf") / f"inspect-{uuid.uuid4().hex[:8]}"
    made = LinuxKernel(OnExit.KEEP, pin_root=root)
    try:
        made.load([FIREWALL, WATCHED])
        made.attach([interface])
        assert made.inspect() == []
        yield made
    finally:
        made.detach()
        detach_all(root)


def found(kernel, *, mend=False):
    return [(each.kind, each.subject, each.text) for each in kernel.inspect(mend=mend)]


def test_nothing_is_found_where_only_we_work(kernel):
    wanted = kernel._maps["process_wanted"]
    key, value = np.zeros(1, wanted.key), np.ones(1, wanted.value)
    for _ in range(3):
        kernel.apply([MapWrite("process_wanted", key, value)])
        assert found(kernel) == []


def test_an_emptied_slot_of_a_chain_is_found_and_filled(kernel):
    chain = kernel._maps["xdp_chain"]
    assert not lib().bpf_map_delete_elem(chain.fd, ffi.new("uint32_t *", 0))
    ((kind, subject, text),) = found(kernel, mend=True)
    assert (kind, subject) == ("chain", "xdp_chain")
    assert "slot 0 holds program none, not xdp_firewall" in text
    assert found(kernel) == []


def test_a_program_in_a_slot_that_is_not_ours_is_found_and_taken_out(kernel):
    chain = kernel._maps["xdp_chain"]
    other = kernel._objects["dispatch"].programs["xdp_dry"].fd
    key, value = ffi.new("uint32_t *", 1), ffi.new("uint32_t *", other)
    assert not lib().bpf_map_update_elem(chain.fd, key, value, 0)
    ((kind, _, text),) = found(kernel, mend=True)
    assert kind == "chain"
    assert "not none" in text
    assert found(kernel) == []


def test_a_pin_that_is_gone_is_found_and_made_again(kernel):
    links, maps = kernel._root / "links", kernel._root / "maps"
    (link,) = [path for path in links.iterdir() if path.name.endswith("-xdp")]
    link.unlink()
    (maps / "fw_head").unlink()
    assert {subject for _, subject, _ in found(kernel, mend=True)} == {
        str(link),
        str(maps / "fw_head"),
    }
    assert link.exists()
    assert found(kernel) == []


def test_another_map_under_our_name_is_found(kernel):
    pin = kernel._root / "maps" / "fw_head"
    pin.unlink()
    assert not lib().bpf_obj_pin(kernel._maps["fw_banks"].fd, os.fsencode(pin))
    ((kind, _, text),) = found(kernel, mend=True)
    assert (kind, text) == ("pin", "another object has its name")
    assert found(kernel) == []


def test_a_map_that_somebody_else_writes_is_told_once(kernel):
    wanted = kernel._maps["process_wanted"]
    kernel.apply([MapWrite("process_wanted", np.zeros(1, wanted.key), np.ones(1, wanted.value))])
    assert found(kernel) == []
    lib().bpf_map_update_elem(
        wanted.fd, pointer(np.zeros(1, wanted.key)), pointer(np.zeros(1, wanted.value)), 0
    )
    assert [each[:2] for each in found(kernel)] == [("map", "process_wanted")]
    assert found(kernel) == []


def test_a_detached_program_is_found_and_attached_again(kernel, interface):
    hook = next(iter(kernel._places.values())).hooks["xdp"]
    assert not lib().bpf_link_detach(hook.fd)
    assert [each[:2] for each in found(kernel)] == [("hook", f"{interface} xdp")]
    kernel.attach([interface])
    assert found(kernel) == []


def test_traffic_changes_no_sealed_map(kernel, interface):
    frame = bytes(12) + b"\x08\x00" + bytes([0x45, 0, 0, 28]) + bytes(5) + b"\x11" + bytes(34)
    for _ in range(50):
        kernel.run("xdp_root", frame, interface=interface)
        subprocess.run(["/bin/true"], check=True)
    assert found(kernel) == []
