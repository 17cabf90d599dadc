/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which rule a flow's first packet goes by, and when it goes by none although one would match: what
 * stands on the never-block floor stays with this host.
 */
#ifndef EBPFSENTINEL_MATCHING_H
#define EBPFSENTINEL_MATCHING_H

#include "chain.h"
#include "floor.h"
#include "record.h"
#include "rewrite.h"

#define AF_INET 2
#define AF_INET6 10
#define LISTENING 10 /* TCP_LISTEN */

struct rules_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nat_rules);
};

EMIT_TYPE(nat_rules, struct nat_rules);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct rules_map);
} nat_rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NAT_NUMBERS);
	__type(key, __u32);
	__type(value, struct nat_rule_count);
} nat_rule_count SEC(".maps");

static __always_inline __u64 judged_since(const struct tr_head *head, const struct packet *packet)
{
	return head->judged_since_ns[packet->interface & (INTERFACE_SLOTS - 1)];
}

static __always_inline const struct nat_rules *rules_in_force(void)
{
	__u32 zero = 0;
	void *inner = bpf_map_lookup_elem(&nat_rules, &zero);

	return inner ? bpf_map_lookup_elem(inner, &zero) : 0;
}

/* A walk over the rules of one direction. */
struct walk {
	const struct nat_rules *rules;
	const struct nat_rule *list;
	const struct packet *packet;
	__u32 local;      /* the destination is an address of this host */
	__u32 translated; /* and was translated when the packet came in */
	__u32 portless;   /* a later fragment: what ports it has is not known */
	__u32 found;      /* 1 + place of the rule */
};

static __always_inline bool lies_in(const __u32 *addr, const __u32 *network, const __u32 *mask)
{
	return !(((addr[0] & mask[0]) ^ network[0]) | ((addr[1] & mask[1]) ^ network[1]) |
		 ((addr[2] & mask[2]) ^ network[2]) | ((addr[3] & mask[3]) ^ network[3]));
}

#define ASKS(bit) (OPAQUE(rule->asks) & (bit))

static __always_inline bool matches(const struct nat_rule *rule, const struct walk *walk)
{
	const struct packet *packet = walk->packet;

	if (ASKS(NAT_ASKS_FAMILY) && rule->family != packet->family)
		return false;
	if (ASKS(NAT_ASKS_INTERFACE) && !(rule->interfaces >> (packet->interface & 63) & 1))
		return false;
	if (ASKS(NAT_ASKS_PROTOCOL) && rule->protocol != packet->protocol)
		return false;
	if (ASKS(NAT_ASKS_PORT) && !walk->portless &&
	    (!(packet->flags & PACKET_PORTS) ||
	     (__u16)(packet->dst_port - rule->dst_port) > rule->dst_ports))
		return false;
	if (ASKS(NAT_ASKS_SOURCE) && !lies_in(packet->src_addr, rule->src_addr, rule->src_mask))
		return false;
	if (ASKS(NAT_ASKS_DESTINATION) &&
	    !lies_in(packet->dst_addr, rule->dst_addr, rule->dst_mask))
		return false;
	if (ASKS(NAT_ASKS_LOCAL) && !walk->local)
		return false;
	return !(ASKS(NAT_ASKS_TRANSLATED)) || walk->translated;
}

static long ask_rule(__u32 at, void *context)
{
	struct walk *walk = context;

	if (at >= NAT_RULES)
		return 1;
	if (!matches(&walk->list[at], walk))
		return 0;
	walk->found = at + 1;
	return 1;
}

/* Is the destination an address of this host? Where it does not forward, all that comes in is for it. */
__noinline int nat_is_local(struct __sk_buff *ctx, const struct packet *packet)
{
	struct bpf_fib_lookup asked = {};
	long found;
	int word;

	if (!packet)
		return 0;
	asked.family = packet->family == 4 ? AF_INET : AF_INET6;
	asked.l4_protocol = packet->protocol;
	asked.tot_len = 0;
	asked.ifindex = ctx->ingress_ifindex;
	if (packet->family == 4) {
		asked.ipv4_src = bpf_htonl(packet->src_addr[0]);
		asked.ipv4_dst = bpf_htonl(packet->dst_addr[0]);
	} else {
		for (word = 0; word < 4; word++) {
			asked.ipv6_src[word] = bpf_htonl(packet->src_addr[word]);
			asked.ipv6_dst[word] = bpf_htonl(packet->dst_addr[word]);
		}
	}
	found = bpf_fib_lookup(ctx, &asked, sizeof(asked), 0);
	return found == BPF_FIB_LKUP_RET_NOT_FWDED || found == BPF_FIB_LKUP_RET_FWD_DISABLED;
}

enum owner { OWNER_NONE, OWNER_LISTENS, OWNER_CONNECTED };

static __always_inline __u32 put_socket_tuple(struct bpf_sock_tuple *asked,
					      const struct tr_tuple *key)
{
	int word;

	if (key->family == 4) {
		asked->ipv4.saddr = bpf_htonl(key->src_addr[0]);
		asked->ipv4.daddr = bpf_htonl(key->dst_addr[0]);
		asked->ipv4.sport = bpf_htons(key->src_port);
		asked->ipv4.dport = bpf_htons(key->dst_port);
		return sizeof(asked->ipv4);
	}
	for (word = 0; word < 4; word++) {
		asked->ipv6.saddr[word] = bpf_htonl(key->src_addr[word]);
		asked->ipv6.daddr[word] = bpf_htonl(key->dst_addr[word]);
	}
	asked->ipv6.sport = bpf_htons(key->src_port);
	asked->ipv6.dport = bpf_htons(key->dst_port);
	return sizeof(asked->ipv6);
}

/* Which socket of this host would have a packet of this tuple? The verifier knows two kinds of them. */
__noinline int nat_owner(struct __sk_buff *ctx, const struct tr_tuple *key)
{
	struct bpf_sock_tuple asked = {};
	struct bpf_sock *found;
	__u32 bytes;
	int owner;

	if (!key)
		return OWNER_NONE;
	bytes = put_socket_tuple(&asked, key);
	if (key->protocol == PROTOCOL_UDP) {
		found = bpf_sk_lookup_udp(ctx, &asked, bytes, -1, 0);
		if (!found)
			return OWNER_NONE;
		bpf_sk_release(found);
		return OWNER_LISTENS;
	}
	if (key->protocol != PROTOCOL_TCP)
		return OWNER_NONE;
	found = bpf_skc_lookup_tcp(ctx, &asked, bytes, -1, 0);
	if (!found)
		return OWNER_NONE;
	owner = found->state == LISTENING ? OWNER_LISTENS : OWNER_CONNECTED;
	bpf_sk_release(found);
	return owner;
}

static __always_inline bool has_lapsed(const struct packet *packet, enum tr_hook hook)
{
	__u32 zero = 0;
	const struct floor *known = bpf_map_lookup_elem(&floor_head, &zero);
	__u32 slots;

	if (!known || !known->lapse_ns || bpf_ktime_get_boot_ns() < known->lapse_ns)
		return false;
	slots = hook == TR_INGRESS ? known->lapse_tc : known->lapse_egress;
	return slots >> (packet->slot & 31) & 1;
}

static __always_inline bool is_management(const struct packet *packet, enum tr_hook hook)
{
	enum floor_way way = hook == TR_EGRESS ? FLOOR_OUT : FLOOR_IN;
	__u32 zero = 0;
	const struct floor *known = bpf_map_lookup_elem(&floor_head, &zero);

	return known && floor_may_hold_port(known, packet, way) &&
	       floor_holds_port(known, packet, way);
}

/*
 * A rule would translate this flow: must it be left alone? What goes to a management port, or is of an
 * administrator's session, is; so is all when an unconfirmed change has lapsed, what a network of the
 * floor sends to a port where this host listens, and a connection that a socket of this host has
 * already (it was there before the rule).
 */
static __always_inline bool must_stay(struct __sk_buff *ctx, const struct packet *packet,
				      const struct tr_tuple *key, enum tr_hook hook)
{
	int owner;

	if (packet_spared(packet) && (is_management(packet, hook) || has_lapsed(packet, hook)))
		return true;
	if (hook == TR_EGRESS || !(packet->flags & PACKET_TCP))
		return false;
	if (!packet_spared(packet) && (packet->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
		return false;
	owner = nat_owner(ctx, key);
	return owner == OWNER_CONNECTED || (owner == OWNER_LISTENS && packet_spared(packet));
}

#endif
