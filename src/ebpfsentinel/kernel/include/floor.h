/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The never-block floor: packets that nothing here may drop, so that the owner stays in. Looked up
 * once by the root of a chain, into packet->spared_slots; the drop verbs of chain.h obey it.
 *
 * Almost no packet stands on the floor, so what all pay for must be small: one cache line, with a
 * bit for every 64th port and a hash of the source's high bits (as user space hashes networks). Only
 * where one of them is set, tables are asked: a bitmap of ports, connections, and networks.
 *
 * Loopback means what comes in on lo. A packet from 127.0.0.1 or ::1 on another interface is
 * forged, and not spared.
 *
 * lapse_ns is the dead man's switch of a change that waits to be confirmed: from then on (boot
 * clock) the programs at these places of the chains drop nothing, agent or no agent.
 */
#ifndef EBPFSENTINEL_FLOOR_H
#define EBPFSENTINEL_FLOOR_H

#include "packet.h"

#define FLOOR_CONNECTIONS 2048
#define FLOOR_NETWORKS 4096
#define FLOOR_HASH 0x9e3779b1u

struct floor {
	__u64 lapse_ns; /* 0: nothing waits */
	__u32 lapse_xdp;
	__u32 lapse_tc;
	__u32 lapse_egress;
	__u32 loopback;          /* ifindex of lo where we are attached to it */
	__u64 port_filter;       /* bit p % 64 of each destination port below */
	__u64 address_filter[4]; /* bit floor_hash() of each network's addresses */
	__u64 ports[1024];       /* TCP, whatever the address */
	__u64 tcp_ports[1024];   /* those that floor_tcp has something of */
};

/* An established connection; or, with remote_port 0, a listener of this address. */
struct floor_tcp {
	__u32 addr[4];
	__u16 remote_port;
	__u16 local_port;
	__u32 family;
};

/* Network order; the family is the first word of what is compared. */
struct floor_net {
	__u32 prefix_bits;
	__be32 family;
	__be32 addr[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct floor);
} floor_head SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FLOOR_CONNECTIONS);
	__type(key, struct floor_tcp);
	__type(value, __u32);
} floor_tcp SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, FLOOR_NETWORKS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct floor_net);
	__type(value, __u32);
} floor_net SEC(".maps");

/* Who is at either end: of what leaves, the source is we. */
enum floor_way { FLOOR_IN, FLOOR_OUT };

static __always_inline const __u32 *remote_addr(const struct packet *packet, enum floor_way way)
{
	return way == FLOOR_OUT ? packet->dst_addr : packet->src_addr;
}

static __always_inline const __u32 *local_addr(const struct packet *packet, enum floor_way way)
{
	return way == FLOOR_OUT ? packet->src_addr : packet->dst_addr;
}

static __always_inline __u16 remote_port(const struct packet *packet, enum floor_way way)
{
	return way == FLOOR_OUT ? packet->dst_port : packet->src_port;
}

static __always_inline __u16 local_port(const struct packet *packet, enum floor_way way)
{
	return way == FLOOR_OUT ? packet->src_port : packet->dst_port;
}

/* The high 16 bits of an IPv4 address, 32 of an IPv6 address, as one of 256. */
static __always_inline __u32 floor_hash(const struct packet *packet, enum floor_way way)
{
	__u32 word = remote_addr(packet, way)[0];

	return (packet->family == 6 ? word : word >> 16) * FLOOR_HASH >> 24;
}

static __always_inline bool floor_may_hold_port(const struct floor *known,
						const struct packet *packet, enum floor_way way)
{
	return known->port_filter >> (local_port(packet, way) & 63) & 1;
}

static __always_inline bool floor_may_hold_remote(const struct floor *known,
						  const struct packet *packet, enum floor_way way)
{
	__u32 bit = floor_hash(packet, way) & 255;

	return known->address_filter[bit >> 6] >> (bit & 63) & 1;
}

static __always_inline bool has_bit(const __u64 *bits, __u16 at)
{
	return bits[at >> 6] >> (at & 63) & 1;
}

static __always_inline bool floor_holds_port(const struct floor *known, const struct packet *packet,
					     enum floor_way way)
{
	struct floor_tcp key = {.local_port = local_port(packet, way), .family = packet->family};

	if (!(packet->flags & PACKET_TCP))
		return false;
	if (has_bit(known->ports, key.local_port))
		return true;
	if (!has_bit(known->tcp_ports, key.local_port))
		return false;
	__builtin_memcpy(key.addr, local_addr(packet, way), 16);
	if (bpf_map_lookup_elem(&floor_tcp, &key))
		return true;
	__builtin_memcpy(key.addr, remote_addr(packet, way), 16);
	key.remote_port = remote_port(packet, way);
	return bpf_map_lookup_elem(&floor_tcp, &key);
}

static __always_inline bool floor_holds_remote(const struct packet *packet, enum floor_way way)
{
	struct floor_net key = {.prefix_bits = 160, .family = bpf_htonl(packet->family)};
	int word;

	for (word = 0; word < 4; word++)
		key.addr[word] = bpf_htonl(remote_addr(packet, way)[word]);
	return packet->family && bpf_map_lookup_elem(&floor_net, &key);
}

static __always_inline __u32 lapsed(const struct floor *known, enum hook hook)
{
	if (hook == HOOK_XDP)
		return known->lapse_xdp;
	return hook == HOOK_TC ? known->lapse_tc : known->lapse_egress;
}

static __always_inline void look_up_floor(struct packet *packet, enum hook hook)
{
	__u32 zero = 0;
	const struct floor *known = bpf_map_lookup_elem(&floor_head, &zero);
	enum floor_way way = hook == HOOK_EGRESS ? FLOOR_OUT : FLOOR_IN;

	packet->spared = 0;
	if (!known)
		return;
	if (known->lapse_ns && bpf_ktime_get_boot_ns() >= known->lapse_ns)
		packet->spared_slots = lapsed(known, hook);
	if ((floor_may_hold_port(known, packet, way) && floor_holds_port(known, packet, way)) ||
	    (floor_may_hold_remote(known, packet, way) && floor_holds_remote(packet, way)) ||
	    (packet->ifindex == known->loopback && !packet->dry)) /* a question may come in there */
		packet->spared_slots = -1;
}

#endif
