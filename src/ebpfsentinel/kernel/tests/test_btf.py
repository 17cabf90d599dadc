"""BTF and ELF: what a compiler wrote is read right, and anything else is an error that says so."""

import contextlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfsentinel.kernel.btf import DATASEC, STRUCT, Btf, BtfError
from ebpfsentinel.kernel.build import compile_object
from ebpfsentinel.kernel.declared import declared_maps, read_object
from ebpfsentinel.kernel.elf import Elf, ElfError, section

SOURCE = Path(__file__).with_name("contract.bpf.c")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return compile_object(SOURCE, tmp_path_factory.mktemp("btf") / "contract.bpf.o")


@pytest.fixture(scope="module")
def raw(compiled):
    return section(compiled, ".BTF")


def test_a_struct_with_nested_arrays_enums_and_texts(compiled):
    record = read_object(compiled).records["c_ring"]
    assert record.itemsize == 56
    assert {name: record.fields[name][1] for name in record.names} == {
        "serial": 0,
        "bytes": 8,
        "word": 12,
        "text": 16,
        "parts": 32,
        "grid": 48,
        "pad": 54,
    }
    assert record["text"] == np.dtype("S16")
    assert record["word"] == np.dtype("<u4")
    assert record["parts"].shape == (2,)
    assert record["parts"].base["pad"] == np.dtype(("u1", 6))
    row = np.zeros(1, record)
    assert row["grid"].shape == (1, 2, 3)
    row["grid"][0, 1, 2] = 9
    assert row.tobytes()[48 + 5] == 9


def test_maps_as_they_are_declared(compiled):
    maps = read_object(compiled).maps
    assert (maps["c_hash"].type, maps["c_hash"].max_entries) == (1, 8)
    assert (maps["c_hash"].key, maps["c_hash"].value) == (np.dtype("<u8"), np.dtype("<u4"))
    assert (maps["c_ring"].type, maps["c_ring"].max_entries) == (27, 4096)
    inner = maps["c_tables"].inner
    assert (inner.type, inner.max_entries) == (2, 1)
    assert inner.value.names == ("drop_above", "generation")


def test_programs_by_section(compiled):
    assert read_object(compiled).programs == {
        "c_ring_canary": "raw_tp/canary",
        "contract_xdp": "xdp",
        "contract_undo": "xdp",
        "contract_trace": "raw_tp/sys_enter",
        "contract_absent": "tp_btf/contract_no_such_hook",
        "contract_iter": "iter/task",
    }


def test_enums_and_their_values(raw):
    assert dict(Btf(raw).enums())["contract_word"]["CONTRACT_LOW"] == 1


def everything(btf):
    """All that can be asked of a BTF."""
    list(btf.enums())
    records = btf.records()
    for number in [*range(len(btf.types)), *records.values()]:
        for ask in (btf.dtype, btf.size, btf.members):
            with contextlib.suppress(BtfError):
                ask(number)
    btf.maps()
    declared_maps(btf)


def survives(damaged):
    with contextlib.suppress(BtfError):
        everything(Btf(damaged))


@given(st.binary(max_size=400))
def test_random_bytes_are_an_error_at_most(junk):
    survives(junk)


@settings(deadline=None)
@given(st.data())
def test_a_damaged_section_is_an_error_at_most(raw, data):
    changed = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 6))):
        changed[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    survives(bytes(changed[: data.draw(st.integers(0, len(raw)))]))
    survives(bytes(changed))


@given(st.lists(st.tuples(st.integers(0, 31), st.integers(0, 3), st.integers(0, 9)), max_size=8))
def test_types_that_refer_to_each_other_in_any_way(kinds):
    types = b""
    for kind, vlen, target in kinds:
        info = kind << 24 | vlen
        extra = {1: 4, 3: 12, 4: 12 * vlen, 5: 12 * vlen, 6: 8 * vlen, 13: 8 * vlen, 14: 4}
        length = extra.get(kind, 12 * vlen if kind in (15, 19) else 4 * (kind == 17))
        words = [1, info, target, *([target] * (length // 4))]
        types += b"".join(word.to_bytes(4, "little") for word in words)
    strings = b"\0.maps\0"
    head = [24, 0, len(types), len(types), len(strings)]
    header = b"\x9f\xeb\x01\0" + b"".join(word.to_bytes(4, "little") for word in head)
    survives(header + types + strings)


def test_no_btf_names_the_remedy():
    with pytest.raises(BtfError, match="clang -g"):
        Btf(b"\0" * 64)


def test_find_is_by_kind_and_name(raw):
    btf = Btf(raw)
    assert btf.types[btf.find(STRUCT, "contract_record")].size_or_type == 56
    assert btf.types[btf.find(DATASEC, ".maps")].vlen > 5
    with pytest.raises(KeyError):
        btf.find(STRUCT, "nothing")


@settings(deadline=None)
@given(st.data())
def test_a_damaged_object_file_is_an_error_at_most(compiled, tmp_path_factory, data):
    whole = bytearray(compiled.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, 63) | st.integers(len(whole) - 2000, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.o"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    with contextlib.suppress(ElfError):
        elf = Elf.read(path)
        elf.functions()
        elf.section(".BTF")


def test_a_file_that_is_no_object_says_so(tmp_path):
    path = tmp_path / "text.o"
    path.write_text("not an object")
    with pytest.raises(ElfError, match=r"text\.o is no BPF object"):
        Elf.read(path)


def test_reading_an_object_needs_no_library(compiled):
    code = (
        "import sys; from pathlib import Path; "
        "from ebpfsentinel.kernel.declared import read_object; "
        f"read_object(Path({str(compiled)!r})); assert 'cffi' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
