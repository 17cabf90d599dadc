/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The IP header. It is read once, its new form is made beside it, and where the two differ written
 * once. IPv4's own checksum is changed by the difference: a wrong one stays as wrong as it was. IPv6
 * has none, so a sum that the card made over the packet (CHECKSUM_COMPLETE) is made anew.
 */
#ifndef EBPFSENTINEL_SCRUB_IP_H
#define EBPFSENTINEL_SCRUB_IP_H

#include "work.h"

#define IPV4_DF 0x4000
#define IPV4_MORE 0x2000
#define IPV4_OFFSET 0x1fff
#define ECN_CE 3

/* Up to the checksum and with it, as words. */
union ipv4_head {
	struct ipv4 ip;
	__u32 words[5];
};

/* Up to the hop limit. */
union ipv6_head {
	struct {
		__be32 version_class_flow;
		__be16 payload_bytes;
		__u8 next_header;
		__u8 hop_limit;
	} ip;
	__u32 words[2];
};

/*
 * The field that holds DSCP and ECN. "Congestion experienced" stays: it was said by a router, and who
 * sends must hear it (RFC 3168 5). It dies out by itself where nobody says that he can do ECN.
 */
static __always_inline __u8 new_tos(const struct work *work, __u8 tos, __u32 *done)
{
	if (work->changes & SC_TOS && (tos ^ work->head->tos) & 0xfc) {
		tos = (tos & 3) | (work->head->tos & 0xfc);
		*done |= SC_TOS;
	}
	if (work->changes & SC_ECN && tos & 3 && (tos & 3) != ECN_CE) {
		tos &= 0xfc;
		*done |= SC_ECN;
	}
	return tos;
}

/*
 * The identification is free only in an atomic datagram, one that is not a fragment and must not
 * become one (RFC 6864 4.1); of others it tells what belongs together. One that may be cut from now
 * on needs one, and many senders leave 0 in those that may not.
 */
static __always_inline void change_id(const struct work *work, struct ipv4 *ip, __u16 fragment,
				      __u32 *done)
{
	bool atomic = (fragment & (IPV4_DF | IPV4_MORE | IPV4_OFFSET)) == IPV4_DF;

	if (!atomic)
		return;
	if (work->changes & SC_ID || (*done & SC_DF && !ip->id)) {
		ip->id = bpf_get_prandom_u32();
		*done |= SC_ID;
	}
}

/* Time to live; that of a multicast packet says how far it may go (RFC 1112 6.1), so it stays. */
static __always_inline void change_ipv4(const struct work *work, struct ipv4 *ip, __u32 *done)
{
	__u16 fragment = bpf_ntohs(ip->fragment);

	if (work->changes & SC_TTL && ip->ttl < work->head->min_ttl &&
	    work->packet->dst_addr[0] >> 28 != 0xe) {
		ip->ttl = work->head->min_ttl;
		*done |= SC_TTL;
	}
	ip->tos = new_tos(work, ip->tos, done);
	if (work->changes & SC_DF && fragment & IPV4_DF) {
		ip->fragment = bpf_htons(fragment & ~IPV4_DF);
		*done |= SC_DF;
	}
	change_id(work, ip, fragment, done);
}

static __always_inline __u32 scrub_ipv4(struct work *work)
{
	__u32 at = work->packet->l3_offset, done = 0;
	union ipv4_head before, after;
	const struct ipv4 *ip = header_at(work, at, sizeof(*ip));
	__s64 difference;

	if (!ip)
		return 0;
	before.ip = after.ip = *ip;
	change_ipv4(work, &after.ip, &done);
	if (!done || !enforces(work))
		return done;
	difference = bpf_csum_diff(before.words, 12, after.words, 12, 0);
	if (bpf_l3_csum_replace(work->ctx, at + offsetof(struct ipv4, checksum), 0, difference,
				0) ||
	    bpf_skb_store_bytes(work->ctx, at, &after, offsetof(struct ipv4, checksum), 0)) {
		work->count->errors++;
		return 0;
	}
	work->packet->tos = after.ip.tos;
	return done;
}

/*
 * Those whose receiver looks at the hop limit stay as they are: neighbour discovery and redirects must
 * have come from the link, and to raise it would be to vouch for that (RFC 4861 6.1, 7.1, 8.1).
 */
static __always_inline bool may_raise_hop_limit(const struct packet *packet)
{
	if (packet->dst_addr[0] >> 24 == 0xff)
		return false;
	return packet->protocol != PROTOCOL_ICMPV6 ||
	       packet->icmp >> 8 < ICMPV6_ROUTER_SOLICITATION ||
	       packet->icmp >> 8 > ICMPV6_NEIGHBOUR_ADVERTISEMENT + 1;
}

static __always_inline __u32 scrub_ipv6(struct work *work)
{
	__u32 at = work->packet->l3_offset, done = 0;
	union ipv6_head after;
	const struct ipv6 *ip = header_at(work, at, sizeof(*ip));
	__u8 tos;

	if (!ip)
		return 0;
	__builtin_memcpy(&after, ip, sizeof(after));
	if (work->changes & SC_HOP_LIMIT && ip->hop_limit < work->head->min_hop_limit &&
	    may_raise_hop_limit(work->packet)) {
		after.ip.hop_limit = work->head->min_hop_limit;
		done |= SC_HOP_LIMIT;
	}
	tos = new_tos(work, bpf_ntohl(ip->version_class_flow) >> 20, &done);
	after.ip.version_class_flow &= bpf_htonl(0xf00fffff);
	after.ip.version_class_flow |= bpf_htonl((__u32)tos << 20);
	if (!done || !enforces(work))
		return done;
	if (bpf_skb_store_bytes(work->ctx, at, &after, sizeof(after), BPF_F_RECOMPUTE_CSUM)) {
		work->count->errors++;
		return 0;
	}
	work->packet->tos = tos;
	return done;
}

#endif
