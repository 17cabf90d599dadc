/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a packet is to the flows there are, for every program that wants to know: flow_state(). And how
 * many flows its source has: flow_source_of(), flow_half_open().
 *
 * Later fragments carry no ports: those of the first fragment are kept for them, by addresses and
 * identification. One that comes before its first, or without, belongs to no flow.
 *
 * An ICMP error belongs to the flow of the packet that it quotes.
 */
#ifndef EBPFSENTINEL_FLOWS_H
#define EBPFSENTINEL_FLOWS_H

#include "flow_fragments.h"
#include "flow_search.h"
#include "parse.h"
#include "translations.h"

#define ICMP_UNREACHABLE 3
#define ICMP_QUENCH 4
#define ICMP_REDIRECT 5
#define ICMP_EXCEEDED 11
#define ICMP_PARAMETER 12
#define ICMP_TIMESTAMP 13
#define ICMP_TIMESTAMP_REPLY 14
#define ICMPV6_ERRORS 4 /* and below: RFC 4443 2.1 has errors below 128 */
#define ICMPV6_ECHO_REPLY 129

/* What an ICMP packet is to flows. */
enum flow_icmp { FLOW_ICMP_APART, FLOW_ICMP_ASKS, FLOW_ICMP_ANSWERS, FLOW_ICMP_ERROR };

static __always_inline enum flow_icmp flow_icmp_kind(const struct packet *packet)
{
	__u8 type = packet->icmp >> 8;

	if (packet->family == 6 && packet->protocol == PROTOCOL_ICMPV6) {
		if (type >= 1 && type <= ICMPV6_ERRORS)
			return FLOW_ICMP_ERROR;
		if (type == ICMPV6_ECHO_REPLY)
			return FLOW_ICMP_ANSWERS;
		return type == ICMPV6_ECHO_REQUEST ? FLOW_ICMP_ASKS : FLOW_ICMP_APART;
	}
	if (packet->family != 4 || packet->protocol != PROTOCOL_ICMP)
		return FLOW_ICMP_APART;
	if (type == ICMP_ECHO_REQUEST || type == ICMP_TIMESTAMP)
		return FLOW_ICMP_ASKS;
	if (type == 0 || type == ICMP_TIMESTAMP_REPLY)
		return FLOW_ICMP_ANSWERS;
	if (type == ICMP_UNREACHABLE || type == ICMP_QUENCH || type == ICMP_EXCEEDED ||
	    type == ICMP_PARAMETER || type == ICMP_REDIRECT)
		return FLOW_ICMP_ERROR;
	return FLOW_ICMP_APART;
}

static __always_inline bool flow_is_icmp(const struct packet *packet)
{
	return packet->protocol == PROTOCOL_ICMP || packet->protocol == PROTOCOL_ICMPV6;
}

/* The identifier of an echo, in both ports; false: cut short. */
static __always_inline bool flow_echo_id(struct packet *packet, void *data, void *end, __u16 *port)
{
	const __be16 *header = cursor_at_l4(data, end, packet).at;

	if ((void *)(header + 3) > end)
		return false;
	*port = bpf_ntohs(header[2]);
	return true;
}

/* What stands for ports in the key; false: they are not to be had. */
static __always_inline bool flow_ports(struct packet *packet, void *data, void *end, __u16 *ports)
{
	ports[0] = packet->src_port;
	ports[1] = packet->dst_port;
	if (__builtin_expect(packet->flags & PACKET_LATER_FRAGMENT, 0))
		return flow_fragment_ports(packet, ports);
	if (flow_is_icmp(packet)) {
		if (!flow_echo_id(packet, data, end, &ports[0]))
			return false;
		ports[1] = ports[0];
	}
	if (__builtin_expect(packet->flags & PACKET_FRAGMENT, 0))
		flow_note_fragment(packet, ports);
	return true;
}

static __always_inline void flow_put_key(struct flow_search *search, const struct packet *packet,
					 const __u16 *ports)
{
	flow_put_ends(search, packet->src_addr, packet->dst_addr, ports[0], ports[1]);
	search->key.protocol = packet->protocol;
	search->key.family = packet->family;
	search->key.zone = 0;
}

/* What an ICMP error quotes of the packet that it is about. */
struct flow_quote {
	__u32 src_addr[4];
	__u32 dst_addr[4];
	__u16 ports[2];
	__u8 protocol;
};

/* The same offset in memory, so that a verifier forgets how it came about: see parse.h. */
static __always_inline bool flow_quote_ipv4(const struct ipv4 *ip, void *end,
					    struct flow_quote *quote, __u32 *offset)
{
	if ((void *)(ip + 1) > end || ip->version_ihl >> 4 != 4 || (ip->version_ihl & 0xf) < 5 ||
	    bpf_ntohs(ip->fragment) & 0x1fff)
		return false;
	quote->src_addr[0] = bpf_ntohl(ip->src_addr);
	quote->dst_addr[0] = bpf_ntohl(ip->dst_addr);
	quote->protocol = ip->protocol;
	*offset = (ip->version_ihl & 0xf) * 4;
	return true;
}

/* Of extension headers in the quote only a fragment header is looked behind. */
static __always_inline bool flow_quote_ipv6(const struct ipv6 *ip, void *end,
					    struct flow_quote *quote, __u32 *offset)
{
	const struct extension *extension = (void *)(ip + 1);
	int word;

	if ((void *)(ip + 1) > end || bpf_ntohl(ip->version_class_flow) >> 28 != 6)
		return false;
	for (word = 0; word < 4; word++) {
		quote->src_addr[word] = bpf_ntohl(ip->src_addr[word]);
		quote->dst_addr[word] = bpf_ntohl(ip->dst_addr[word]);
	}
	quote->protocol = ip->next_header;
	*offset = sizeof(*ip);
	if (ip->next_header != EXT_FRAGMENT)
		return true;
	if ((void *)(extension + 1) > end || bpf_ntohs(extension->fragment) & 0xfff8)
		return false;
	quote->protocol = extension->next_header;
	*offset += sizeof(*extension);
	return true;
}

/* The key of the flow that an ICMP error is about (RFC 792, RFC 4443 2.4); false: it quotes none. */
static __noinline bool flow_quoted_key(struct packet *packet, void *data, void *end,
				       struct flow_search *search)
{
	void *ip = cursor_at_l4(data, end, packet).at + 8;
	struct flow_quote quote = {};
	const __be16 *ports;
	__u32 offset = 0;

	if (!(packet->family == 4 ? flow_quote_ipv4(ip, end, &quote, &offset)
				  : flow_quote_ipv6(ip, end, &quote, &offset)))
		return false;
	ports = ip + (OPAQUE(offset) & 127);
	if (quote.protocol == PROTOCOL_ICMP || quote.protocol == PROTOCOL_ICMPV6) {
		if ((void *)(ports + 3) > end)
			return false;
		quote.ports[0] = quote.ports[1] = bpf_ntohs(ports[2]);
	} else if (has_ports(quote.protocol)) {
		if ((void *)(ports + 2) > end)
			return false;
		quote.ports[0] = bpf_ntohs(ports[0]);
		quote.ports[1] = bpf_ntohs(ports[1]);
	}
	flow_put_ends(search, quote.src_addr, quote.dst_addr, quote.ports[0], quote.ports[1]);
	search->key.protocol = quote.protocol;
	search->key.family = packet->family;
	search->key.zone = 0;
	return true;
}

#define FLOW_TCP_FIN 0x01
#define FLOW_TCP_SYN 0x02
#define FLOW_TCP_RST 0x04
#define FLOW_TCP_ACK 0x10
#define FLOW_TCP_KINDS (FLOW_TCP_FIN | FLOW_TCP_SYN | FLOW_TCP_RST | FLOW_TCP_ACK)

/* Flags that a TCP sends: SYN, SYN+ACK, RST, RST+ACK, FIN+ACK and ACK; others do not matter. */
static __always_inline bool flow_tcp_legal(__u8 flags)
{
	__u8 kinds = flags & FLOW_TCP_KINDS;

	return kinds == FLOW_TCP_ACK || kinds == FLOW_TCP_SYN || kinds == FLOW_TCP_RST ||
	       kinds == (FLOW_TCP_SYN | FLOW_TCP_ACK) || kinds == (FLOW_TCP_RST | FLOW_TCP_ACK) ||
	       kinds == (FLOW_TCP_FIN | FLOW_TCP_ACK);
}

/* Is the packet one that is tracked? Neighbour discovery and the like are apart, as in netfilter. */
static __always_inline bool flow_is_tracked(const struct packet *packet)
{
	if (!packet->family)
		return false;
	return !(packet->protocol == PROTOCOL_ICMPV6 && packet->family == 6 &&
		 packet->icmp != ICMP_NONE && packet->icmp >> 8 > ICMPV6_ECHO_REPLY);
}

/* May a packet of no flow begin one? */
static __always_inline bool flow_may_begin(const struct packet *packet, bool pickup)
{
	__u8 kinds = packet->tcp_flags & FLOW_TCP_KINDS;

	if (packet->flags & PACKET_LATER_FRAGMENT)
		return packet->protocol != PROTOCOL_TCP;
	if (flow_is_icmp(packet))
		return flow_icmp_kind(packet) == FLOW_ICMP_ASKS;
	if (!(packet->flags & PACKET_TCP))
		return true;
	return kinds == FLOW_TCP_SYN || (pickup && kinds == FLOW_TCP_ACK);
}

/*
 * From the tuple on the wire to the one that this host knows, which is what flows stand under. `src` is the
 * end of the search that sent such a packet; is_answer: of an echo. False: it is of no translation.
 */
static __noinline bool flow_turn_inner(struct flow_search *search, __u32 src, bool is_answer,
				       __u64 now_ns)
{
	const struct tr_head *head = tr_head_now();
	struct flow_key *of = &search->key;
	struct tr_tuple key, inner;
	bool icmp = of->protocol == PROTOCOL_ICMP || of->protocol == PROTOCOL_ICMPV6;
	__u32 zero = 0;
	void *table;

	if (!head || !head->active)
		return false;
	table = bpf_map_lookup_elem(&tr_tables, &zero);
	if (!table)
		return false;
	src &= 1;
	__builtin_memcpy(key.src_addr, of->addr[src], 16);
	__builtin_memcpy(key.dst_addr, of->addr[src ^ 1], 16);
	key.src_port = icmp && is_answer ? 0 : of->port[src];
	key.dst_port = icmp && !is_answer ? 0 : of->port[src ^ 1];
	key.protocol = of->protocol;
	key.family = of->family;
	key.hook = TR_INGRESS;
	key.kind = TR_WHOLE;
	if (!tr_look_up(table, head, &key, &inner, now_ns))
		return false;
	if (icmp)
		inner.src_port = inner.dst_port = inner.src_port | inner.dst_port;
	flow_put_ends(search, inner.src_addr, inner.dst_addr, inner.src_port, inner.dst_port);
	return true;
}

/* The entry of a packet that came in, by its tuple on the wire; 0: there is none. */
static __always_inline struct flow_entry *
flow_entry_of(void *table, struct packet *packet, const __u16 *ports, struct flow_search *search)
{
	bool is_answer = flow_icmp_kind(packet) == FLOW_ICMP_ANSWERS;
	struct flow_entry *entry;

	flow_put_key(search, packet, ports);
	entry = flow_find(table, search, packet_now(packet));
	if (entry || !flow_turn_inner(search, search->from, is_answer, packet_now(packet)))
		return entry;
	return flow_find(table, search, packet_now(packet));
}

/* on_wire: NAT has not been done. */
static __always_inline enum flow_state flow_state_of_error(void *table, struct packet *packet,
							   void *data, void *end, bool on_wire)
{
	struct flow_search search = {};

	if (!flow_quoted_key(packet, data, end, &search))
		return FLOW_INVALID;
	if (flow_find(table, &search, packet_now(packet)))
		return FLOW_RELATED;
	if (!on_wire || !flow_turn_inner(&search, search.from ^ 1, true, packet_now(packet)))
		return FLOW_INVALID;
	return flow_find(table, &search, packet_now(packet)) ? FLOW_RELATED : FLOW_INVALID;
}

static __always_inline enum flow_state flow_ask(struct packet *packet, void *data, void *end)
{
	void *table = flow_table_in_force();
	const struct flow_head *head;
	struct flow_search search;
	struct flow_entry *entry;
	__u16 ports[2];

	if (!table || !flow_is_tracked(packet))
		return FLOW_UNKNOWN;
	if (packet->flags & PACKET_MALFORMED ||
	    (packet->flags & PACKET_TCP && !flow_tcp_legal(packet->tcp_flags)))
		return FLOW_INVALID;
	if (flow_icmp_kind(packet) == FLOW_ICMP_ERROR)
		return flow_state_of_error(table, packet, data, end, true);
	if (!flow_ports(packet, data, end, ports))
		return FLOW_INVALID;
	entry = flow_entry_of(table, packet, ports, &search);
	if (entry && entry->status & FLOW_ENDED)
		entry = 0;
	packet->flow_there = entry != 0;
	head = flow_head_of(table);
	if (entry && entry->status >> (FLOW_SEEN + (search.from ^ 1)) & 1)
		return FLOW_ESTABLISHED;
	if (entry || (head && flow_may_begin(packet, head->pickup)))
		return FLOW_NEW;
	return FLOW_INVALID;
}

/*
 * What the packet is to the flows there are, asked once a packet. From XDP it is what connection
 * tracking will say of it, also behind NAT. Writes nothing but what later fragments need.
 */
static __always_inline enum flow_state flow_state(struct packet *packet, void *data, void *end)
{
	if (!packet->flow_state)
		packet->flow_state = flow_ask(packet, data, end);
	return packet->flow_state;
}

/* The flow of a packet that came in, ended or not; 0: there is none, or it has no tuple to tell by. */
static __always_inline struct flow_entry *flow_of(struct packet *packet, void *data, void *end,
						  struct flow_search *search)
{
	void *table = flow_table_in_force();
	__u16 ports[2];

	if (!table || !flow_is_tracked(packet) || !flow_ports(packet, data, end, ports))
		return 0;
	return flow_entry_of(table, packet, ports, search);
}

/*
 * Is the packet of a flow that whoever it goes to wants: one that this end opened, or a TCP connection
 * whose handshake is done? That there was an answer says less: a server answers what is forged, too.
 */
static __always_inline bool flow_is_wanted(struct packet *packet, void *data, void *end)
{
	struct flow_search search;
	const struct flow_entry *entry = flow_of(packet, data, end, &search);

	if (!entry || entry->status & FLOW_ENDED)
		return false;
	return (entry->status >> FLOW_OPENED_BY & 1) == (search.from ^ 1) ||
	       (entry->status & FLOW_STAGE_MASK) == FLOW_TCP_ESTABLISHED;
}

/*
 * How many flows the packet's source has opened that are there now; 0: none. Those that are half open
 * lapse within a known time after the last one was opened, which is when user space stops believing
 * half_open, and programs must too: use flow_half_open().
 */
static __always_inline const struct flow_source *flow_source_of(const struct packet *packet)
{
	struct flow_source_key key = {.family = packet->family};

	__builtin_memcpy(key.addr, packet->src_addr, sizeof(key.addr));
	return bpf_map_lookup_elem(&flow_sources, &key);
}

/* Connections of the packet's source that are half open. */
static __always_inline __u32 flow_half_open(struct packet *packet)
{
	const struct flow_source *source = flow_source_of(packet);
	void *table = flow_table_in_force();
	const struct flow_head *head = table ? flow_head_of(table) : 0;
	__u32 longest;

	if (!source || !head)
		return 0;
	longest = head->timeout[FLOW_SYN_SENT] + head->timeout[FLOW_SYN_RECV];
	if (flow_ticks(packet_now(packet)) - flow_ticks(source->opened_ns) > longest)
		return 0;
	return source->half_open;
}

#endif
