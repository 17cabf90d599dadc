/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * NPTv6 (RFC 6296): one IPv6 prefix for another, without state. Where the prefix has up to 48 bits,
 * what the checksum would have grown by is taken off bits 48 to 63 (section 3.4); where it has more, off
 * the first of the four last words that is not all ones (section 3.5). All ones is zero in ones'
 * complement, so such a word could not be mapped back: the packet is dropped. Transport checksums stay
 * true untouched, and so do those of ICMPv6 errors, whose quoted addresses are mapped back as well.
 */
#ifndef EBPFSENTINEL_PREFIXES_H
#define EBPFSENTINEL_PREFIXES_H

#include "matching.h"

#define ALL_ONES 0xffff
#define ICMPV6_QUOTE 8
#define IPV6_DST 24

enum mapped { MAPPED_NONE, MAPPED, MAPPED_NOT, MAPPED_ERROR };

static __always_inline __u16 add_word(__u32 word, __u16 adjust)
{
	__u32 sum = word + adjust;

	sum = (sum & 0xffff) + (sum >> 16);
	return sum == ALL_ONES ? 0 : sum;
}

/* Add to one 16-bit half of a word; false: it is all ones. */
static __always_inline bool adjust_half(__u32 *word, int shift, __u16 adjust)
{
	__u32 half = *word >> shift & 0xffff;

	if (half == ALL_ONES)
		return false;
	*word = (*word & ~(0xffffu << shift)) | (__u32)add_word(half, adjust) << shift;
	return true;
}

static __always_inline bool map_address(const struct nat_prefix *prefix, __u32 *addr, bool out)
{
	const __u32 *new_prefix = out ? prefix->outside : prefix->inside;
	__u16 adjust = out ? prefix->adjust_out : prefix->adjust_in;
	int word;

	for (word = 0; word < 4; word++)
		addr[word] = (addr[word] & ~prefix->mask[word]) | new_prefix[word];
	if (prefix->short_prefix)
		return adjust_half(&addr[1], 0, adjust);
	return adjust_half(&addr[2], 16, adjust) || adjust_half(&addr[2], 0, adjust) ||
	       adjust_half(&addr[3], 16, adjust) || adjust_half(&addr[3], 0, adjust);
}

static __always_inline bool store_address(struct __sk_buff *ctx, __u32 offset, const __u32 *addr)
{
	__be32 made[4];
	int word;

	for (word = 0; word < 4; word++)
		made[word] = bpf_htonl(addr[word]);
	return !bpf_skb_store_bytes(ctx, offset, made, sizeof(made), BPF_F_RECOMPUTE_CSUM);
}

/* In an error's quoted header the ends are the other way round. False: the kernel refused. */
static __always_inline bool map_quoted(struct __sk_buff *ctx, const struct packet *packet,
				       const struct nat_prefix *prefix, bool out)
{
	__u32 offset = packet->l4_offset + ICMPV6_QUOTE + (out ? IPV6_DST : IPV6_ADDRESSES),
	      addr[4];
	const __u32 *old_prefix = out ? prefix->inside : prefix->outside;
	__be32 found[4];
	int word;

	if (bpf_skb_load_bytes(ctx, offset, found, sizeof(found)))
		return true;
	for (word = 0; word < 4; word++)
		addr[word] = bpf_ntohl(found[word]);
	if (!lies_in(addr, old_prefix, prefix->mask) || !map_address(prefix, addr, out))
		return true;
	return store_address(ctx, offset, addr);
}

static __always_inline bool prefix_matches(const struct nat_prefix *prefix,
					   const struct packet *packet, bool out)
{
	if (prefix->interfaces && !(prefix->interfaces >> (packet->interface & 63) & 1))
		return false;
	if (!out)
		return lies_in(packet->dst_addr, prefix->outside, prefix->mask);
	return lies_in(packet->src_addr, prefix->inside, prefix->mask) &&
	       !lies_in(packet->dst_addr, prefix->inside, prefix->mask);
}

static __always_inline enum mapped map_by(struct __sk_buff *ctx, struct packet *packet,
					  const struct nat_prefix *prefix, bool out)
{
	__u32 number = prefix->number, addr[4];
	struct nat_rule_count *count;

	__builtin_memcpy(addr, out ? packet->src_addr : packet->dst_addr, sizeof(addr));
	if (!map_address(prefix, addr, out))
		return MAPPED_NOT;
	if (is_error(packet) && !map_quoted(ctx, packet, prefix, out))
		return MAPPED_ERROR;
	if (!store_address(ctx, packet->l3_offset + (out ? IPV6_ADDRESSES : IPV6_DST), addr))
		return MAPPED_ERROR;
	if (out)
		__builtin_memcpy(packet->src_addr, addr, sizeof(addr));
	else
		__builtin_memcpy(packet->dst_addr, addr, sizeof(addr));
	count = bpf_map_lookup_elem(&nat_rule_count, &number);
	if (count)
		count->packets++;
	return MAPPED;
}

/* An IPv6 packet through the first prefix that it has. */
static __always_inline enum mapped map_prefix(struct __sk_buff *ctx, struct packet *packet,
					      bool out)
{
	const struct nat_rules *rules = rules_in_force();
	__u32 at;

	for (at = 0; rules && at < NAT_PREFIXES; at++) {
		if (at >= rules->prefix_count)
			break;
		if (prefix_matches(&rules->prefixes[at], packet, out))
			return rules->alert ? MAPPED_NONE
					    : map_by(ctx, packet, &rules->prefixes[at], out);
	}
	return MAPPED_NONE;
}

__noinline int nat_map_in(struct __sk_buff *ctx)
{
	struct packet *packet = packet_of(&tc_packet);

	return packet ? map_prefix(ctx, packet, false) : MAPPED_NONE;
}

__noinline int nat_map_out(struct __sk_buff *ctx)
{
	struct packet *packet = packet_of(&egress_packet);

	return packet ? map_prefix(ctx, packet, true) : MAPPED_NONE;
}

#endif
