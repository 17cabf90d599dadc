/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP errors (RFC 5508 section 4, RFC 7915 for what they quote): the packet that an error quotes
 * went the other way, so its reverse is the tuple that this hook translates. What becomes of that
 * tuple is done to both headers: the quoted one gets it reversed, and the error's own addresses change
 * where it changes an end. So whoever sent the packet recognises it, and path MTU discovery and
 * traceroute work from both sides.
 */
#ifndef EBPFSENTINEL_QUOTING_H
#define EBPFSENTINEL_QUOTING_H

#include "rewrite.h"

#define ICMP_HEADER 8
#define FRAGMENT_OFFSET 0x1fff

enum quoted { QUOTED_UNKNOWN, QUOTED_TRANSLATED, QUOTED_ERROR };

/* The quoted packet, and where its headers are. */
struct quote {
	struct tr_tuple tuple;
	__u32 l3_offset;
	__u32 l4_offset;
	__u16 ports[2]; /* as they stand there, in network order */
	__u8 icmp;      /* type of a quoted echo */
	__u8 pad[3];
};

static __always_inline bool read_ports(struct __sk_buff *ctx, struct quote *quote)
{
	struct tr_tuple *tuple = &quote->tuple;
	__u8 header[8];
	bool request;

	if (bpf_skb_load_bytes(ctx, quote->l4_offset, header, sizeof(header)))
		return false;
	if (has_ports(tuple->protocol)) {
		__builtin_memcpy(quote->ports, header, 4);
		tuple->src_port = bpf_ntohs(quote->ports[0]);
		tuple->dst_port = bpf_ntohs(quote->ports[1]);
		return true;
	}
	if (tuple->protocol != (tuple->family == 4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6))
		return true;
	quote->icmp = header[0];
	__builtin_memcpy(quote->ports, header + ICMP_ID, 2);
	request = header[0] == 8 || header[0] == 13 || header[0] == 128;
	if (request)
		tuple->src_port = bpf_ntohs(quote->ports[0]);
	else
		tuple->dst_port = bpf_ntohs(quote->ports[0]);
	return true;
}

static __always_inline bool read_ipv4(struct __sk_buff *ctx, struct quote *quote)
{
	struct ipv4 ip;

	if (bpf_skb_load_bytes(ctx, quote->l3_offset, &ip, sizeof(ip)))
		return false;
	if (ip.version_ihl >> 4 != 4 || bpf_ntohs(ip.fragment) & FRAGMENT_OFFSET)
		return false;
	quote->tuple.src_addr[0] = bpf_ntohl(ip.src_addr);
	quote->tuple.dst_addr[0] = bpf_ntohl(ip.dst_addr);
	quote->tuple.protocol = ip.protocol;
	quote->l4_offset = quote->l3_offset + (ip.version_ihl & 15) * 4;
	return true;
}

static __always_inline bool read_ipv6(struct __sk_buff *ctx, struct quote *quote)
{
	struct extension extension;
	struct ipv6 ip;
	int word;

	if (bpf_skb_load_bytes(ctx, quote->l3_offset, &ip, sizeof(ip)))
		return false;
	for (word = 0; word < 4; word++) {
		quote->tuple.src_addr[word] = bpf_ntohl(ip.src_addr[word]);
		quote->tuple.dst_addr[word] = bpf_ntohl(ip.dst_addr[word]);
	}
	quote->tuple.protocol = ip.next_header;
	quote->l4_offset = quote->l3_offset + sizeof(ip);
	if (ip.next_header != EXT_FRAGMENT)
		return true;
	if (bpf_skb_load_bytes(ctx, quote->l4_offset, &extension, sizeof(extension)) ||
	    bpf_ntohs(extension.fragment) & 0xfff8)
		return false;
	quote->tuple.protocol = extension.next_header;
	quote->l4_offset += sizeof(extension);
	return true;
}

/* The quoted packet; false: too little of it is there, or it is a later fragment. */
static __always_inline bool read_quote(struct __sk_buff *ctx, const struct packet *packet,
				       struct quote *quote)
{
	quote->l3_offset = packet->l4_offset + ICMP_HEADER;
	quote->tuple.family = packet->family;
	if (packet->family == 4 ? !read_ipv4(ctx, quote) : !read_ipv6(ctx, quote))
		return false;
	return read_ports(ctx, quote);
}

/* Store the quoted packet's addresses; what the quote's sum grows by, or -1. */
static __always_inline __s64 store_quoted_addresses(struct __sk_buff *ctx,
						    const struct quote *quote,
						    const struct tr_tuple *to, __u64 grown)
{
	struct addresses made;
	__u16 before, after;
	int word;

	if (to->family == 6) {
		for (word = 0; word < 4; word++) {
			made.words[word] = bpf_htonl(to->src_addr[word]);
			made.words[word + 4] = bpf_htonl(to->dst_addr[word]);
		}
		if (bpf_skb_store_bytes(ctx, quote->l3_offset + IPV6_ADDRESSES, &made, sizeof(made),
					0))
			return -1;
		return as_sum(grown);
	}
	made.words[0] = bpf_htonl(to->src_addr[0]);
	made.words[1] = bpf_htonl(to->dst_addr[0]);
	if (bpf_skb_load_bytes(ctx, quote->l3_offset + IPV4_CHECKSUM, &before, sizeof(before)))
		return -1;
	after = ~fold_sum((__u64)(__u16)~before + as_sum(grown));
	if (bpf_skb_store_bytes(ctx, quote->l3_offset + IPV4_CHECKSUM, &after, sizeof(after), 0) ||
	    bpf_skb_store_bytes(ctx, quote->l3_offset + IPV4_ADDRESSES, &made, 8, 0))
		return -1;
	return (__u64)as_sum(grown) + grows(before, after);
}

/* Store the quoted ports or identifier; what the quote's sum grows by, or -1. */
static __always_inline __s64 store_quoted_ports(struct __sk_buff *ctx, const struct quote *quote,
						const struct tr_tuple *to)
{
	__be16 ports[2] = {bpf_htons(to->src_port), bpf_htons(to->dst_port)};

	if (has_ports(to->protocol)) {
		if (bpf_skb_store_bytes(ctx, quote->l4_offset, ports, sizeof(ports), 0))
			return -1;
		return grows(quote->ports[0], ports[0]) + grows(quote->ports[1], ports[1]);
	}
	if (to->protocol != PROTOCOL_ICMP && to->protocol != PROTOCOL_ICMPV6)
		return 0;
	if (!to->src_port)
		ports[0] = ports[1];
	if (bpf_skb_store_bytes(ctx, quote->l4_offset + ICMP_ID, ports, 2, 0))
		return -1;
	return grows(quote->ports[0], ports[0]);
}

/* Make the quoted transport checksum good, where it is quoted; what the quote's sum grows by, or -1. */
static __always_inline __s64 store_quoted_checksum(struct __sk_buff *ctx, const struct quote *quote,
						   const struct tr_tuple *to, __u64 grown)
{
	__u32 at = checksum_at(to->protocol, to->family);
	__u16 before, after;

	if (!at || bpf_skb_load_bytes(ctx, quote->l4_offset + at, &before, sizeof(before)))
		return 0;
	if (!before && to->protocol == PROTOCOL_UDP)
		return 0;
	after = ~fold_sum((__u64)(__u16)~before + as_sum(grown));
	if (bpf_skb_store_bytes(ctx, quote->l4_offset + at, &after, sizeof(after), 0))
		return -1;
	return grows(before, after);
}

/* The quoted packet gets the tuple `to`; what the quote's sum grows by, or -1. */
static __always_inline __s64 store_quote(struct __sk_buff *ctx, const struct quote *quote,
					 const struct tr_tuple *to)
{
	__u64 grown = addresses_grow(quote->tuple.src_addr, to->src_addr, to->family) +
		      addresses_grow(quote->tuple.dst_addr, to->dst_addr, to->family);
	__s64 addresses = store_quoted_addresses(ctx, quote, to, grown), ports, checksum;

	if (addresses < 0)
		return -1;
	ports = store_quoted_ports(ctx, quote, to);
	if (ports < 0)
		return -1;
	checksum = store_quoted_checksum(
		ctx, quote, to, (to->protocol == PROTOCOL_ICMP ? 0 : as_sum(grown)) + (__u64)ports);
	if (checksum < 0)
		return -1;
	return as_sum((__u64)as_sum(addresses) + ports + checksum);
}

/* The error's own addresses: those ends that the translation changes. */
static __always_inline void own_addresses(struct tr_tuple *own, const struct packet *packet,
					  const struct tr_tuple *from, const struct tr_tuple *to)
{
	__builtin_memcpy(own->src_addr, packet->src_addr, 32);
	if ((from->src_addr[0] ^ to->src_addr[0]) | (from->src_addr[1] ^ to->src_addr[1]) |
	    (from->src_addr[2] ^ to->src_addr[2]) | (from->src_addr[3] ^ to->src_addr[3]))
		__builtin_memcpy(own->src_addr, to->src_addr, 16);
	if (!((from->dst_addr[0] ^ packet->dst_addr[0]) |
	      (from->dst_addr[1] ^ packet->dst_addr[1]) |
	      (from->dst_addr[2] ^ packet->dst_addr[2]) |
	      (from->dst_addr[3] ^ packet->dst_addr[3])))
		__builtin_memcpy(own->dst_addr, to->dst_addr, 16);
}

/* Translate an error and what it quotes, if that is of a translation. */
static __always_inline enum quoted translate_error(struct __sk_buff *ctx, struct packet *packet,
						   struct nat_work *work,
						   const struct tr_head *head, enum tr_hook hook)
{
	struct tr_tuple old = {}, own = {};
	struct quote quote = {};
	struct tr_entry *entry;
	__s64 grown;

	if (!read_quote(ctx, packet, &quote))
		return QUOTED_UNKNOWN;
	quote.tuple.hook = hook;
	tr_reverse(&work->key, &quote.tuple);
	entry = look_up(head, &work->key, &work->to, packet_now(packet));
	if (!entry || entry->flags & TR_IDENTITY)
		return QUOTED_UNKNOWN;
	own_addresses(&own, packet, &work->key, &work->to);
	tr_reverse(&work->back, &work->to);
	grown = store_quote(ctx, &quote, &work->back);
	if (grown < 0 || bpf_l4_csum_replace(ctx, packet->l4_offset + 2, 0, as_sum(grown), 0))
		return QUOTED_ERROR;
	__builtin_memcpy(old.src_addr, packet->src_addr, 32);
	return rewrite(ctx, packet, &old, &own, true) ? QUOTED_TRANSLATED : QUOTED_ERROR;
}

#endif
