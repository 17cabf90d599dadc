/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The never-block floor: packets that nothing here may drop, so that the owner stays in. Looked up
 * once by the root of a chain, into packet->spared_slots; the drop verbs of packet.h obey it.
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
	__u32 loopback; /* ifindex of lo where we are attached to it */
	__u32 pad;
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

/* The high 16 bits of an IPv4 address, 32 of an IPv6 address, as one of 256. */
static __always_inline __u32 floor_hash(const struct packet *packet)
{
	__u32 word = packet->family == 6 ? packet->src_addr[0] : packet->src_addr[0] >> 16;

	return word * FLOOR_HASH >> 24;
}

static __always_inline bool floor_may_hold_port(const struct floor *known,
						const struct packet *packet)
{
	return known->port_filter >> (packet->dst_port & 63) & 1;
}

static __always_inline bool floor_may_hold_source(const struct floor *known,
						  const struct packet *packet)
{
	__u32 bit = floor_hash(packet) & 255;

	return known->address_filter[bit >> 6] >> (bit & 63) & 1;
}

static __always_inline bool has_bit(const __u64 *bits, __u16 at)
{
	return bits[at >> 6] >> (at & 63) & 1;
}

static __always_inline bool floor_holds_port(const struct floor *known, const struct packet *packet)
{
	struct floor_tcp key = {.local_port = packet->dst_port, .family = packet->family};

	if (!(packet->flags & PACKET_TCP))
		return false;
	if (has_bit(known->ports, packet->dst_port))
		return true;
	if (!has_bit(known->tcp_ports, packet->dst_port))
		return false;
	__builtin_memcpy(key.addr, packet->dst_addr, 16);
	if (bpf_map_lookup_elem(&floor_tcp, &key))
		return true;
	__builtin_memcpy(key.addr, packet->src_addr, 16);
	key.remote_port = packet->src_port;
	return bpf_map_lookup_elem(&floor_tcp, &key);
}

static __always_inline bool floor_holds_source(const struct packet *packet)
{
	struct floor_net key = {.prefix_bits = 160, .family = bpf_htonl(packet->family)};
	int word;

	for (word = 0; word < 4; word++)
		key.addr[word] = bpf_htonl(packet->src_addr[word]);
	return packet->family && bpf_map_lookup_elem(&floor_net, &key);
}

static __always_inline void look_up_floor(struct packet *packet, bool tc)
{
	__u32 zero = 0;
	const struct floor *known = bpf_map_lookup_elem(&floor_head, &zero);

	packet->spared = 0;
	if (!known)
		return;
	if (known->lapse_ns && bpf_ktime_get_boot_ns() >= known->lapse_ns)
		packet->spared_slots = tc ? known->lapse_tc : known->lapse_xdp;
	if ((floor_may_hold_port(known, packet) && floor_holds_port(known, packet)) ||
	    (floor_may_hold_source(known, packet) && floor_holds_source(packet)) ||
	    (packet->ifindex == known->loopback && !packet->dry)) /* a question may come in there */
		packet->spared_slots = -1;
}

#endif
