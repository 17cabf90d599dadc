"""The examples of docs/firewall-try-first.md do what the page shows.

``python tests/test_try_first_page.py`` as root writes their output into the page anew.
"""

import os
import re
import shlex
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

PAGE = Path(__file__).parents[1] / "docs" / "firewall-try-first.md"
AGENT = Path(sys.executable).parent / "ebpfsentinel-agent"
EXAMPLE = re.compile(r"^```\n(ebpfsentinel-agent [^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"^`([\w.]+)`\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MASKS = [
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME"),
    (r"\d+ frames in [\d.]+ s", "FRAMES"),
    (r"\d+ packets, \d+ bytes.*", "HITS"),
    (r"\d+ sampled packets", "SAMPLED"),
]


def frames():
    """Ten packets that the rules of the page tell apart."""
    macs = bytes.fromhex("020000000002020000000001")
    for number in range(10):
        src = b"\xc0\0\x02\x07" if number % 4 == 0 else b"\x0a\0\0\x09"
        port = (23, 443, 25, 53)[number % 4]
        protocol = 17 if port == 53 else 6
        ports = struct.pack(">HH", 4000 + number, port)
        transport = ports + (bytes(8) + b"\x50\x02" + bytes(6) if protocol == 6 else b"\0\x08\0\0")
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(transport), 1, 0, 64, protocol, 0)
        yield macs + b"\x08\x00" + ip + src + b"\x0a\0\0\x02" + transport


def capture():
    """The packets as a pcap file."""
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    records = (struct.pack("<IIII", 0, 0, len(each), len(each)) + each for each in frames())
    return head + b"".join(records)


def prepare(lab, folder):
    """The page's files, and an agent that runs with the first of them."""
    text = PAGE.read_text().replace("eth0", "guard0")
    for name, body in FILE.findall(text):
        (folder / name).write_text(body)
    (folder / "traffic.pcap").write_bytes(capture())
    section = yaml.safe_load((folder / "config.yaml").read_text())["firewall"]
    lab.agent(firewall=section)


def ran(lab, folder, command):
    """What the example prints, as the page writes it."""
    words = shlex.split(command.replace("eth0", "guard0"))[1:]
    enter = ["nsenter", f"--net=/run/netns/{lab.guarded}", str(AGENT), *words]
    done = subprocess.run(enter, cwd=folder, check=False, capture_output=True, text=True)
    return (done.stdout + done.stderr).replace("guard0", "eth0")


def masked(text):
    for pattern, word in MASKS:
        text = re.sub(pattern, word, text)
    return re.sub(r"[ \t]+", " ", text)


@pytest.mark.skipif(os.geteuid() != 0, reason="running the agent needs root")
def test_every_example_prints_what_the_page_shows(lab, tmp_path):
    prepare(lab, tmp_path)
    examples = EXAMPLE.findall(PAGE.read_text())
    assert len(examples) >= 8
    for command, shown in examples:
        pair = masked(ran(lab, tmp_path, command)), masked(shown)
        if " plan " in command:  # packets of the network's own come and go
            pair = pair[0].partition("SAMPLED")[0], pair[1].partition("SAMPLED")[0]
        assert pair[0] == pair[1], command
        wide = [line for line in shown.splitlines() if len(line) > 80]
        assert all(line.startswith("Error: ") for line in wide), command


def write():
    sys.path.insert(0, str(Path(__file__).parent))
    from lab import Lab  # noqa: PLC0415 - not a package

    with tempfile.TemporaryDirectory() as folder:
        made = Lab(Path(folder))
        try:
            prepare(made, Path(folder))
            text = EXAMPLE.sub(
                lambda found: f"```\n{found[1]}\n{ran(made, folder, found[1])}```", PAGE.read_text()
            )
        finally:
            made.close()
    PAGE.write_text(text)


if __name__ == "__main__":
    write()
