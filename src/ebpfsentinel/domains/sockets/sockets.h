/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The vocabulary of who uses which socket: records, map keys and values, for both halves.
 */
#ifndef EBPFSENTINEL_SOCKETS_H
#define EBPFSENTINEL_SOCKETS_H

#include "owner.h"
#include "sock.h"

/* What the programs did, on this CPU. */
struct sockets_count {
	__u64 connected;
	__u64 sent;     /* another process than before sent by an unconnected socket */
	__u64 listened; /* or bound, of UDP */
	__u64 accepted;
	__u64 named;  /* flows that were named later than at their first packet */
	__u64 seeded; /* sockets that were there before the agent */
	__u64 errors; /* no memory for who uses a socket */
};

/* A socket that was there before the agent. */
struct sockets_seed {
	struct flow_owner owner;
	__u32 addr[4];
	__u16 port;
	__u16 remote_port;
	__u8 protocol;
	__u8 family;
	__u8 state;
	__u8 pad;
};

#endif
