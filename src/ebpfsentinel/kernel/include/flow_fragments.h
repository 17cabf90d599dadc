/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The ports of later fragments, which carry none: those of the first one are kept for them for a while.
 */
#ifndef EBPFSENTINEL_FLOW_FRAGMENTS_H
#define EBPFSENTINEL_FLOW_FRAGMENTS_H

#include "packet.h"

#define FLOW_FRAGMENTS 4096
#define FLOW_FRAGMENT_NS 30000000000ull /* RFC 791: reassembly gives up after that */

struct flow_fragment_key {
	__u32 src_addr[4];
	__u32 dst_addr[4];
	__u32 id;
	__u8 protocol;
	__u8 family;
	__u16 pad;
};

struct flow_fragment {
	__u64 seen_ns;
	__u16 src_port;
	__u16 dst_port;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FLOW_FRAGMENTS);
	__type(key, struct flow_fragment_key);
	__type(value, struct flow_fragment);
} flow_fragments SEC(".maps");

static __always_inline void flow_put_fragment_key(struct flow_fragment_key *key,
						  const struct packet *packet)
{
	__builtin_memcpy(key->src_addr, packet->src_addr, 32);
	key->id = packet->fragment_id;
	key->protocol = packet->protocol;
	key->family = packet->family;
	key->pad = 0;
}

/* The ports of a later fragment, if its first one was seen. A function of its own: it is rare. */
static __noinline bool flow_fragment_ports(struct packet *packet, __u16 *ports)
{
	struct flow_fragment_key key;
	const struct flow_fragment *first;

	flow_put_fragment_key(&key, packet);
	first = bpf_map_lookup_elem(&flow_fragments, &key);
	if (!first || packet_now(packet) - first->seen_ns > FLOW_FRAGMENT_NS)
		return false;
	ports[0] = first->src_port;
	ports[1] = first->dst_port;
	return true;
}

static __noinline void flow_note_fragment(struct packet *packet, const __u16 *ports)
{
	struct flow_fragment first = {.seen_ns = packet_now(packet)};
	struct flow_fragment_key key;

	if (packet->dry)
		return;
	first.src_port = ports[0];
	first.dst_port = ports[1];
	flow_put_fragment_key(&key, packet);
	bpf_map_update_elem(&flow_fragments, &key, &first, BPF_ANY);
}

#endif
