/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whether a rule holds for a packet, by its record alone.
 */
#ifndef EBPFSENTINEL_HOLDS_H
#define EBPFSENTINEL_HOLDS_H

#include "tables.h"

#define NSEC_PER_SEC 1000000000ULL

/*
 * The first eight bytes of a rule, read at once: 0 where it has been removed, else its number is not
 * 0. Above all else is its priority.
 */
#define FOUND(rule) (*(const volatile __u64 *)(rule))
#define FOUND_PRIORITY(found) ((found) >> (32 + FW_PRIORITY_AT))

static __always_inline __u64 detail_of(const struct packet *packet)
{
	if (packet->flags & (PACKET_MALFORMED | PACKET_LATER_FRAGMENT))
		return FW_NOTHING;
	if (packet->protocol == PROTOCOL_TCP)
		return FW_TCP_FLAGS | packet->tcp_flags;
	if (packet->protocol == PROTOCOL_ICMP || packet->protocol == PROTOCOL_ICMPV6)
		return packet->icmp;
	return FW_NOTHING;
}

static __always_inline __u64 service_of(const struct packet *packet)
{
	__u64 fragment = packet->flags & PACKET_LATER_FRAGMENT ? FW_LATER
			 : packet->flags & PACKET_FRAGMENT     ? FW_FIRST
							       : FW_WHOLE;

	return fragment << 6 | packet->tos >> 2;
}

static __always_inline __u64 traits_of(const struct packet *packet)
{
	return (__u64)packet->protocol << FW_PROTOCOL_AT | detail_of(packet) << FW_DETAIL_AT |
	       service_of(packet) << FW_SERVICE_AT | (__u64)packet->vlan_id << FW_VLAN_AT |
	       (__u64)packet->inner_vlan_id << FW_INNER_VLAN_AT |
	       (__u64)packet->interface << FW_INTERFACE_AT;
}

/* Six bytes in network order as a number. */
static __always_inline __u64 mac(const __u16 *words)
{
	return (__u64)bpf_ntohs(words[0]) << 32 | (__u64)bpf_ntohs(words[1]) << 16 |
	       bpf_ntohs(words[2]);
}

static __always_inline __u64 pair(const __u32 *words)
{
	return (__u64)words[0] << 32 | words[1];
}

static __always_inline __u64 now_s(void)
{
	return bpf_ktime_get_boot_ns() / NSEC_PER_SEC;
}

static __always_inline bool ports_hold(const struct fw_rule *rule, const struct packet *packet)
{
	return packet->flags & PACKET_PORTS &&
	       (__u16)(packet->src_port - rule->src_port) <= rule->src_ports &&
	       (__u16)(packet->dst_port - rule->dst_port) <= rule->dst_ports;
}

/* Both at once: the one that led to the rule may have done so for a bucket, not for this address. */
static __always_inline bool addresses_hold(const struct fw_rule *rule, const struct fw_rest *rest,
					   const struct packet *packet, bool wide)
{
	const __u32 *src = packet->src_addr, *dst = packet->dst_addr;

	if (!wide)
		return !(((src[0] ^ rule->low[0]) & rule->low_mask[0]) |
			 ((dst[0] ^ rule->low[1]) & rule->low_mask[1]));
	return !(((pair(src) ^ rest->high[0]) & rest->high_mask[0]) |
		 ((pair(dst) ^ rest->high[1]) & rest->high_mask[1])) &&
	       !(((pair(src + 2) ^ rule->low[0]) & rule->low_mask[0]) |
		 ((pair(dst + 2) ^ rule->low[1]) & rule->low_mask[1]));
}

/* Not 0: the rule is for packets of other states. No branch, for the verifier's sake. */
static __always_inline __u64 other_state(const struct fw_rule *rule, const struct packet *packet)
{
	return ~rule->states >> (packet->flow_state & 7) & 1;
}

static __always_inline bool macs_hold(const struct fw_rule *rule, const struct fw_rest *rest)
{
	__u32 zero = 0;
	const struct fw_scratch *scratch = bpf_map_lookup_elem(&fw_scratch, &zero);

	if (!scratch)
		return false;
	if (rule->asks & FW_ASKS_SRC_MAC && scratch->keys[FW_SRC_MAC] != rest->mac[0])
		return false;
	return !(rule->asks & FW_ASKS_DST_MAC) || scratch->keys[FW_DST_MAC] == rest->mac[1];
}

static __always_inline bool rare_holds(const struct fw_rule *rule, const struct fw_rest *rest,
				       const struct packet *packet)
{
	if (((traits_of(packet) ^ rule->traits) & rest->traits_mask) | other_state(rule, packet))
		return false;
	if (rule->asks & (FW_ASKS_SRC_MAC | FW_ASKS_DST_MAC) && !macs_hold(rule, rest))
		return false;
	return !(rule->asks & FW_ASKS_TIME) || now_s() < rest->expires_s;
}

/*
 * It goes through memory, so that the verifier forgets how it came about, and follows the rules once
 * and not once for each kind of packet.
 */
static __always_inline void put_in_places(struct fw_packet *to, const struct packet *packet,
					  const struct fw_scratch *scratch)
{
	const __u32 *src = packet->src_addr, *dst = packet->dst_addr;
	bool wide = packet->family == 6;

	to->low[0] = wide ? pair(src + 2) : src[0];
	to->low[1] = wide ? pair(dst + 2) : dst[0];
	to->high[0] = wide ? pair(src) : 0;
	to->high[1] = wide ? pair(dst) : 0;
	to->mac[0] = scratch->keys[FW_SRC_MAC];
	to->mac[1] = scratch->keys[FW_DST_MAC];
	to->traits = traits_of(packet);
	to->now_s = now_s();
	to->src_port = packet->src_port;
	to->dst_port = packet->dst_port;
	to->lacks = packet->flags & PACKET_PORTS ? 0 : FW_ASKS_PORTS;
	to->state = packet->flow_state & 7;
}

/* All ones, if the rule asks for it. */
static __always_inline __u64 if_asked(const struct fw_rule *rule, __u8 what)
{
	return -(__u64)((rule->asks & what) / what);
}

/* 1: the number is less than 0. */
static __always_inline __u64 below(__s64 number)
{
	return (__u64)number >> 63;
}

/*
 * 0: the rule holds. There is no branch in it, since a verifier would follow both ways of each, for
 * every rule after every other.
 */
static __always_inline __u64 differ(const struct fw_rule *rule, const struct fw_rest *rest,
				    const struct fw_packet *packet)
{
	__u64 odds = (packet->traits ^ rule->traits) & rest->traits_mask;
	__u16 above_src = packet->src_port - rule->src_port;
	__u16 above_dst = packet->dst_port - rule->dst_port;
	int end;

	for (end = 0; end < 2; end++)
		odds |= ((packet->low[end] ^ rule->low[end]) & rule->low_mask[end]) |
			((packet->high[end] ^ rest->high[end]) & rest->high_mask[end]);
	odds |= packet->lacks & rule->asks;
	odds |= below((__s64)rule->src_ports - above_src) |
		below((__s64)rule->dst_ports - above_dst);
	odds |= (packet->mac[0] ^ rest->mac[0]) & if_asked(rule, FW_ASKS_SRC_MAC);
	odds |= (packet->mac[1] ^ rest->mac[1]) & if_asked(rule, FW_ASKS_DST_MAC);
	odds |= below(rest->expires_s - packet->now_s - 1) & if_asked(rule, FW_ASKS_TIME);
	return odds | (~rule->states >> packet->state & 1);
}

#endif
