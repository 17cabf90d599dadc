/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A packet gets other addresses and ports, and its checksums stay as true as they were.
 *
 * The transport checksum goes by bpf_l4_csum_replace, because it alone knows whether the field has a
 * checksum or, where the hardware is still to work it out (CHECKSUM_PARTIAL, and all that is
 * segmented later), the sum of the pseudo header: the addresses belong to both, the ports to the first
 * alone. What a receiving card summed up (CHECKSUM_COMPLETE) must stay true as well: in IPv4 the
 * header's own checksum balances the addresses; in IPv6 nothing does, so they are stored by the
 * helper that keeps account of it (BPF_F_RECOMPUTE_CSUM), which balances what the first one does.
 *
 * The checksum is first: if the kernel will not have the packet written, nothing has been.
 */
#ifndef EBPFSENTINEL_REWRITE_H
#define EBPFSENTINEL_REWRITE_H

#include "living.h"
#include "parse.h"

#define PROTOCOL_DCCP 33
#define PROTOCOL_UDPLITE 136
#define IPV4_CHECKSUM 10
#define IPV4_ADDRESSES 12
#define IPV6_ADDRESSES 8
#define ICMP_ID 4

struct addresses {
	__be32 words[8];
};

static __always_inline __u16 fold_sum(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* What a checksum's complement grows by when one word (network order) becomes another. */
static __always_inline __u64 grows(__be32 from, __be32 to)
{
	return (__u64)(__u32)~from + to;
}

static __always_inline __u64 addresses_grow(const __u32 *from, const __u32 *to, __u32 family)
{
	__u64 sum = grows(bpf_htonl(from[0]), bpf_htonl(to[0]));

	if (family == 4)
		return sum;
	return sum + grows(bpf_htonl(from[1]), bpf_htonl(to[1])) +
	       grows(bpf_htonl(from[2]), bpf_htonl(to[2])) +
	       grows(bpf_htonl(from[3]), bpf_htonl(to[3]));
}

/* As the 32 bits that helpers take. */
static __always_inline __u32 as_sum(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (sum & 0xffffffff) + (sum >> 32);
}

/* Where the transport checksum lies behind l4_offset; 0: there is none that knows addresses or ports. */
static __always_inline __u32 checksum_at(__u8 protocol, __u8 family)
{
	if (protocol == PROTOCOL_TCP)
		return 16;
	if (protocol == PROTOCOL_UDP || protocol == PROTOCOL_UDPLITE || protocol == PROTOCOL_DCCP)
		return 6;
	if ((protocol == PROTOCOL_ICMP && family == 4) ||
	    (protocol == PROTOCOL_ICMPV6 && family == 6))
		return 2;
	return 0;
}

static __always_inline bool is_request(const struct packet *packet)
{
	__u8 type = packet->icmp >> 8;

	return packet->family == 4 ? type == 8 || type == 13 : type == 128;
}

static __always_inline bool is_icmp(const struct packet *packet)
{
	return packet->protocol == (packet->family == 4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6);
}

/* Has it an identifier that tells flows apart? */
static __always_inline bool is_echo(const struct packet *packet)
{
	__u8 type = packet->icmp >> 8;

	if (packet->icmp == ICMP_NONE || !is_icmp(packet))
		return false;
	return packet->family == 4 ? type == 0 || type == 8 || type == 13 || type == 14
				   : type == 128 || type == 129;
}

/* ICMP errors quote the packet that they are about. */
static __always_inline bool is_error(const struct packet *packet)
{
	__u8 type = packet->icmp >> 8;

	if (packet->icmp == ICMP_NONE || !is_icmp(packet))
		return false;
	return packet->family == 4 ? type == 3 || type == 4 || type == 11 || type == 12
				   : type >= 1 && type <= 4;
}

/* May the ports be changed? SCTP has a checksum over them that no increment keeps true. */
static __always_inline bool rewrites_ports(const struct packet *packet)
{
	return packet->protocol == PROTOCOL_TCP || packet->protocol == PROTOCOL_UDP ||
	       packet->protocol == PROTOCOL_UDPLITE || packet->protocol == PROTOCOL_DCCP ||
	       is_echo(packet);
}

/* Store IPv4 addresses and make the header's checksum good. */
static __always_inline bool store_ipv4(struct __sk_buff *ctx, const struct packet *packet,
				       const struct tr_tuple *to, __u64 grown)
{
	void *data = (void *)(long)ctx->data;
	struct ipv4 *ip = data + (OPAQUE(packet->l3_offset) & OFFSET_MAX);

	if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
		return false;
	ip->checksum = ~fold_sum((__u64)(__u16)~ip->checksum + as_sum(grown));
	ip->src_addr = bpf_htonl(to->src_addr[0]);
	ip->dst_addr = bpf_htonl(to->dst_addr[0]);
	return true;
}

static __always_inline bool store_ipv6(struct __sk_buff *ctx, const struct packet *packet,
				       const struct tr_tuple *to)
{
	struct addresses made;
	int word;

	for (word = 0; word < 4; word++) {
		made.words[word] = bpf_htonl(to->src_addr[word]);
		made.words[word + 4] = bpf_htonl(to->dst_addr[word]);
	}
	return !bpf_skb_store_bytes(ctx, packet->l3_offset + IPV6_ADDRESSES, &made, sizeof(made),
				    BPF_F_RECOMPUTE_CSUM);
}

/* The ports, or the identifier of an echo. */
static __always_inline bool store_ports(struct __sk_buff *ctx, const struct packet *packet,
					const struct tr_tuple *to)
{
	void *data = (void *)(long)ctx->data;
	__be16 *ports = data + (OPAQUE(packet->l4_offset) & OFFSET_MAX);
	__be16 identifier;

	if (is_icmp(packet)) {
		identifier = bpf_htons(is_request(packet) ? to->src_port : to->dst_port);
		return !bpf_skb_store_bytes(ctx, packet->l4_offset + ICMP_ID, &identifier, 2, 0);
	}
	if ((void *)(ports + 2) > (void *)(long)ctx->data_end)
		return false;
	ports[0] = bpf_htons(to->src_port);
	ports[1] = bpf_htons(to->dst_port);
	return true;
}

static __always_inline void take_on(struct packet *packet, const struct tr_tuple *to)
{
	__builtin_memcpy(packet->src_addr, to->src_addr, 32);
	if (packet->flags & PACKET_PORTS) {
		packet->src_port = to->src_port;
		packet->dst_port = to->dst_port;
	}
}

/*
 * Make the packet, which has the tuple `from`, have the tuple `to`. whole: it has a transport header.
 * False: it could not be written, and must go nowhere.
 */
static __always_inline bool rewrite(struct __sk_buff *ctx, struct packet *packet,
				    const struct tr_tuple *from, const struct tr_tuple *to,
				    bool whole)
{
	__u64 grown = addresses_grow(from->src_addr, to->src_addr, packet->family) +
		      addresses_grow(from->dst_addr, to->dst_addr, packet->family);
	__u32 at = whole ? checksum_at(packet->protocol, packet->family) : 0;
	bool pseudo = packet->protocol != PROTOCOL_ICMP;
	__be32 ports_from = bpf_htonl((__u32)from->src_port << 16 | from->dst_port);
	__be32 ports_to = bpf_htonl((__u32)to->src_port << 16 | to->dst_port);
	__u64 flags = packet->protocol == PROTOCOL_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	bool ports = whole && ports_from != ports_to;

	if (at && pseudo &&
	    bpf_l4_csum_replace(ctx, packet->l4_offset + at, 0, as_sum(grown),
				flags | BPF_F_PSEUDO_HDR))
		return false;
	if (at && ports &&
	    bpf_l4_csum_replace(ctx, packet->l4_offset + at, 0, as_sum(grows(ports_from, ports_to)),
				flags))
		return false;
	if (packet->family == 4 ? !store_ipv4(ctx, packet, to, grown)
				: !store_ipv6(ctx, packet, to))
		return false;
	if (ports && !store_ports(ctx, packet, to))
		return false;
	take_on(packet, to);
	return true;
}

#endif
