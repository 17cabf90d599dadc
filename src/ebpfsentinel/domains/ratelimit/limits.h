/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which limits apply to a packet.
 *
 * Of those by source ("who you are") it is the most specific: a host before a network, a longer
 * prefix before a shorter one, last those without a source. For each prefix length that occurs, the
 * masked source is looked up once, longest first; from there each limit names the next less specific
 * one (next), which is asked where its other conditions do not hold.
 *
 * Shared limits apply in addition, in their order.
 */
#ifndef EBPFSENTINEL_LIMITS_H
#define EBPFSENTINEL_LIMITS_H

#include "answering.h"
#include "buckets.h"
#include "record.h"

struct limits_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rl_limits);
};

EMIT_TYPE(rl_limits, struct rl_limits);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct limits_map);
} rl_limits SEC(".maps");

static __always_inline const struct rl_limits *limits_in_force(void)
{
	__u32 zero = 0;
	void *inner = bpf_map_lookup_elem(&rl_limits, &zero);

	return inner ? bpf_map_lookup_elem(inner, &zero) : 0;
}

static __always_inline const struct rl_rule *rule_of(const struct rl_limits *limits, __u32 number)
{
	return &limits->rules[number & (RL_NUMBERS - 1)];
}

static __always_inline bool within(const __u32 *addr, const __u32 *network, const __u32 *mask)
{
	__u32 masked[4] = {addr[0] & mask[0], addr[1] & mask[1], addr[2] & mask[2],
			   addr[3] & mask[3]};

	return !differ(masked, network);
}

/* Read anew for every question: the verifier would follow each combination of bits by itself. */
#define ASKS(bit) (OPAQUE(rule->asks) & (bit))

static __always_inline bool asked_for(const struct rl_rule *rule, struct packet *packet)
{
	if (ASKS(RL_ASKS_TIME) && packet_now(packet) >= rule->until_ns)
		return false;
	if (ASKS(RL_ASKS_INTERFACE) && !(rule->interfaces >> (packet->interface & 63) & 1))
		return false;
	if (ASKS(RL_ASKS_VLAN) && rule->vlan_id != packet->vlan_id)
		return false;
	if (ASKS(RL_ASKS_SYN) &&
	    (packet->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) != TCP_SYN)
		return false;
	if (ASKS(RL_ASKS_PROTOCOL) && rule->protocol != packet->protocol)
		return false;
	if (ASKS(RL_ASKS_PORT) && (!(packet->flags & PACKET_PORTS) ||
				   (__u16)(packet->dst_port - rule->dst_port) > rule->dst_ports))
		return false;
	if (ASKS(RL_ASKS_SOURCE) && (rule->src_family != packet->family ||
				     !within(packet->src_addr, rule->src_addr, rule->src_mask)))
		return false;
	return !(ASKS(RL_ASKS_DESTINATION)) ||
	       (rule->dst_family == packet->family &&
		within(packet->dst_addr, rule->dst_addr, rule->dst_mask));
}

static __always_inline bool applies(const struct rl_rule *rule, struct packet *packet)
{
	return !rule->asks || asked_for(rule, packet);
}

/* The first limit to ask for a network of sources; 0: there is none of that prefix. */
static __always_inline __u32 slot_of(const struct rl_limits *limits, const __u32 *addr, __u32 ipv6,
				     __u32 bits)
{
	__u32 at = hash_of(limits, addr, limits->salt << 9 | bits << 1 | ipv6), probe;

	for (probe = 0; probe < RL_PROBES; probe++) {
		__u32 number = limits->slots[(at + probe) & (RL_SLOTS - 1)];
		const struct rl_rule *rule = rule_of(limits, number);

		if (!number)
			return 0;
		if (!(differ(rule->src_addr, addr) | (rule->src_bits ^ bits) |
		      (rule->src_family ^ (4 | ipv6 << 1))))
			return number;
	}
	return 0;
}

/* The limit to ask first. */
static __always_inline __u32 network_limit(const struct rl_limits *limits,
					   const struct packet *packet)
{
	__u32 ipv6 = is_ipv6(packet), zero = 0, at;
	const struct rl_length *length = limits->length[ipv6];
	__u32 count = limits->lengths[ipv6];
	struct rl_scratch *scratch;

	if (!count)
		return limits->first;
	scratch = bpf_map_lookup_elem(&rl_scratch, &zero);
	if (!scratch)
		return limits->first;
	for (at = 0; at < RL_LENGTHS && at < count; at++, length++) {
		__u32 addr[4] = {
			packet->src_addr[0] & length->mask[0],
			packet->src_addr[1] & length->mask[1],
			packet->src_addr[2] & length->mask[2],
			packet->src_addr[3] & length->mask[3],
		};

		OPAQUE(scratch->source) = slot_of(limits, addr, ipv6, length->bits);
		if (OPAQUE(scratch->source))
			return OPAQUE(scratch->source);
	}
	return limits->first;
}

/* The limit by source that applies; 0: none does. */
static __always_inline __u32 source_limit(const struct rl_limits *limits, struct packet *packet)
{
	__u32 number = network_limit(limits, packet), hop;

	for (hop = 0; hop < RL_CHAIN && number; hop++) {
		const struct rl_rule *rule = rule_of(limits, number);

		if (applies(rule, packet))
			return number;
		number = rule->next;
	}
	return 0;
}

#endif
