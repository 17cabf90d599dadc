"""The door between the privileged and the unprivileged half: one socket, one contract.

The **keeper** (root, small) holds the real kernel; the **agent** (a user of its own, no capability)
parses, judges, listens and sends. What the agent wants of the kernel goes over a Unix socket as the
calls of the :class:`~ebpfsentinel.model.kernel.Kernel` contract, one at a time, and answers come
back; rings come as descriptors, so that no record ever passes the door.

* :mod:`~ebpfsentinel.kernel.door.arrays`: numpy arrays as bytes.
* :mod:`~ebpfsentinel.kernel.door.wire`: every call and every answer, typed and bounded.
* :mod:`~ebpfsentinel.kernel.door.channel`: frames and descriptors over a socket.
* :mod:`~ebpfsentinel.kernel.door.charter`: what the configuration allows, and the refusals.
* :mod:`~ebpfsentinel.kernel.door.serve`: the keeper's end.
* :mod:`~ebpfsentinel.kernel.door.remote`: the agent's end, a kernel like the others.

The keeper believes nothing: types, lengths, shapes and offsets are checked before anything reaches
the kernel or libbpf, and what the configuration does not ask for is refused.
"""
