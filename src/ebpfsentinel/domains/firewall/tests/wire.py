"""Frames of any kind over a real veth pair: which of them get past the program at its end."""

from __future__ import annotations

import socket

ETH_P_ALL = 3
END = b"\x02\xfe\xff\xff\xff\xff"


class Wire:
    """A raw socket at each end; the receiver's is a tap behind XDP, before the stack.

    A frame is known again by its source address, which is set here. The last one is an ARP request,
    which passes a default drop: the pair keeps the order, so behind it nothing comes.
    """

    def __init__(self, network) -> None:
        self._sender = network.peer.call(raw, network.peer.device)
        self._tap = network.agent.call(raw, network.agent.device)
        self._tap.settimeout(60)

    def past(self, *frames: bytes) -> list[bool]:
        """For each frame: did it get past the program?"""
        names = [b"\x02\xfe" + number.to_bytes(4, "big") for number in range(len(frames))]
        for name, frame in zip(names, frames, strict=True):
            self._sender.send(frame[:6] + name + frame[12:])
        self._sender.send(b"\xff" * 6 + END + b"\x08\x06" + bytes(46))
        seen = set()
        while (name := self._tap.recv(2048)[6:12]) != END:
            seen.add(name)
        return [name in seen for name in names]

    def close(self) -> None:
        for each in (self._sender, self._tap):
            each.close()


def raw(device: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    made.bind((device, 0))
    return made
