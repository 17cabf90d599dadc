/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One parse of a frame: a cursor that checks bounds, advances, and returns the next protocol.
 *
 * What cannot be parsed is said, never guessed: family 0 for what is not IP (or not whole), and
 * PACKET_MALFORMED for a header cut short, a third VLAN tag, or more extension headers than
 * EXTENSION_DEPTH (RFC 8200 section 4 sets no limit; a verifier and a CPU need one).
 *
 * Where paths of different length meet (IP options, extension headers) the offset goes through
 * packet->l4_offset in memory: the verifier forgets what it knew of it, sees equal states, and
 * checks what follows once instead of once for every way to get there.
 */
#ifndef EBPFSENTINEL_PARSE_H
#define EBPFSENTINEL_PARSE_H

#include "packet.h"

struct cursor {
	void *at;
	void *end;
};

struct ethernet {
	__u8 dst_mac[6];
	__u8 src_mac[6];
	__be16 ethertype;
} __attribute__((packed));

struct vlan {
	__be16 tci;
	__be16 ethertype;
};

struct ipv4 {
	__u8 version_ihl;
	__u8 tos;
	__be16 bytes;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__be32 src_addr;
	__be32 dst_addr;
};

struct ipv6 {
	__be32 version_class_flow;
	__be16 payload_bytes;
	__u8 next_header;
	__u8 hop_limit;
	__be32 src_addr[4];
	__be32 dst_addr[4];
};

struct extension {
	__u8 next_header;
	__u8 length;
	__be16 fragment; /* of a fragment header: offset, 2 reserved bits, more */
	__be32 id;
};

#define EXT_HOP_BY_HOP 0
#define EXT_ROUTING 43
#define EXT_FRAGMENT 44
#define EXT_AUTHENTICATION 51
#define EXT_DESTINATION 60
#define EXT_MOBILITY 135
#define NO_NEXT_HEADER 59

#define OFFSET_MAX 4095 /* headers reach no further; keeps packet pointers provably in bounds */

/* A cursor at packet->l4_offset, whatever that is. */
static __always_inline struct cursor cursor_at_l4(void *data, void *end, struct packet *packet)
{
	struct cursor cursor = {.at = data + (OPAQUE(packet->l4_offset) & OFFSET_MAX), .end = end};

	return cursor;
}

/* Step over `bytes` and return where they began; 0 when they are not all there. */
static __always_inline void *cursor_take(struct cursor *cursor, __u32 bytes)
{
	void *start = cursor->at;

	if (start + bytes > cursor->end)
		return 0;
	cursor->at = start + bytes;
	return start;
}

static __always_inline bool is_vlan(__u16 ethertype)
{
	return ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_QINQ;
}

/* Ethernet and up to two VLAN tags; returns the ethertype behind them, 0 if cut short. */
static __always_inline __u16 parse_link(struct cursor *cursor, struct packet *packet)
{
	const struct ethernet *ethernet = cursor_take(cursor, sizeof(*ethernet));
	const struct vlan *vlan;
	__u16 ethertype;
	int depth;

	if (!ethernet)
		return 0;
	ethertype = bpf_ntohs(ethernet->ethertype);
	for (depth = 0; depth < VLAN_DEPTH && is_vlan(ethertype); depth++) {
		vlan = cursor_take(cursor, sizeof(*vlan));
		if (!vlan)
			return 0;
		if (packet->flags & PACKET_VLAN)
			packet->inner_vlan_id = bpf_ntohs(vlan->tci) & 0xfff;
		else
			packet->vlan_id = bpf_ntohs(vlan->tci) & 0xfff;
		packet->flags |= PACKET_VLAN;
		ethertype = bpf_ntohs(vlan->ethertype);
	}
	return ethertype;
}

static __always_inline bool has_ports(__u8 protocol)
{
	/* TCP, UDP, DCCP, SCTP and UDP-Lite begin with source and destination port. */
	return protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP || protocol == 33 ||
	       protocol == 132 || protocol == 136;
}

/* Four bytes are enough: a first fragment with no more than the ports is still judged by them. */
static __always_inline void parse_transport(void *data, void *end, struct packet *packet)
{
	struct cursor cursor = cursor_at_l4(data, end, packet);
	__u8 protocol = OPAQUE(packet->protocol);
	const __u8 *header = cursor.at;
	const __be16 *ports;

	if (OPAQUE(packet->flags) & PACKET_LATER_FRAGMENT)
		return;
	if (protocol == PROTOCOL_ICMP || protocol == PROTOCOL_ICMPV6) {
		if ((void *)(header + 2) <= cursor.end)
			packet->icmp = header[0] << 8 | header[1];
		else
			packet->flags |= PACKET_MALFORMED;
		return;
	}
	if (!has_ports(protocol))
		return;
	ports = cursor_take(&cursor, 4);
	if (!ports) {
		packet->flags |= PACKET_MALFORMED;
		return;
	}
	packet->src_port = bpf_ntohs(ports[0]);
	packet->dst_port = bpf_ntohs(ports[1]);
	packet->flags |= PACKET_PORTS;
	if (protocol != PROTOCOL_TCP)
		return;
	packet->flags |= PACKET_TCP;
	if ((void *)(header + 14) > cursor.end) {
		packet->flags |= PACKET_MALFORMED;
		return;
	}
	packet->tcp_high = header[12];
	packet->tcp_flags = header[13];
}

static __always_inline bool parse_ipv4(struct cursor *cursor, struct packet *packet)
{
	const struct ipv4 *ip = cursor_take(cursor, sizeof(*ip));
	__u32 options;
	__u16 fragment;

	if (!ip || ip->version_ihl >> 4 != 4 || (ip->version_ihl & 0xf) < 5)
		return false;
	options = ((ip->version_ihl & 0xf) - 5) * 4;
	if (options && !cursor_take(cursor, options))
		return false;
	fragment = bpf_ntohs(ip->fragment);
	if (fragment & 0x1fff)
		packet->flags |= PACKET_LATER_FRAGMENT;
	else if (fragment & 0x2000)
		packet->flags |= PACKET_FRAGMENT;
	if (fragment & 0x3fff)
		packet->fragment_id = bpf_ntohs(ip->id);
	packet->tos = ip->tos;
	OPAQUE(packet->protocol) = ip->protocol;
	OPAQUE(packet->l4_offset) = packet->l3_offset + sizeof(*ip) + options;
	packet->src_addr[0] = bpf_ntohl(ip->src_addr);
	packet->dst_addr[0] = bpf_ntohl(ip->dst_addr);
	packet->family = 4;
	return true;
}

static __always_inline bool is_extension(__u8 header)
{
	return header == EXT_HOP_BY_HOP || header == EXT_ROUTING || header == EXT_FRAGMENT ||
	       header == EXT_AUTHENTICATION || header == EXT_DESTINATION || header == EXT_MOBILITY;
}

/* One extension header (RFC 8200 4.1, RFC 4302); false: cut short. */
static __always_inline bool parse_extension(void *data, void *end, struct packet *packet)
{
	struct cursor cursor = cursor_at_l4(data, end, packet);
	const struct extension *extension = cursor_take(&cursor, sizeof(*extension));
	__u8 header = OPAQUE(packet->protocol);
	__u32 bytes = 8;
	__u16 fragment;

	if (!extension)
		return false;
	fragment = bpf_ntohs(extension->fragment);
	if (header == EXT_AUTHENTICATION)
		bytes = (extension->length + 2) * 4;
	else if (header != EXT_FRAGMENT)
		bytes = (extension->length + 1) * 8;
	else if (fragment & 0xfff8)
		OPAQUE(packet->flags) |= PACKET_LATER_FRAGMENT;
	else if (fragment & 1)
		OPAQUE(packet->flags) |= PACKET_FRAGMENT;
	if (header == EXT_FRAGMENT)
		packet->fragment_id = bpf_ntohl(extension->id);
	OPAQUE(packet->protocol) = extension->next_header;
	bytes += OPAQUE(packet->l4_offset);
	OPAQUE(packet->l4_offset) = bytes;
	return bytes <= OFFSET_MAX;
}

/* Walk them all; false: cut short or nested too deeply. Behind a later fragment is payload. */
static __always_inline bool parse_extensions(void *data, void *end, struct packet *packet)
{
	int depth;

	for (depth = 0; depth < EXTENSION_DEPTH; depth++) {
		if (!is_extension(OPAQUE(packet->protocol)) ||
		    OPAQUE(packet->flags) & PACKET_LATER_FRAGMENT)
			return true;
		if (!parse_extension(data, end, packet))
			return false;
	}
	return !is_extension(OPAQUE(packet->protocol));
}

static __always_inline bool parse_ipv6(struct cursor *cursor, void *data, struct packet *packet)
{
	const struct ipv6 *ip = cursor_take(cursor, sizeof(*ip));
	int word;

	if (!ip || (bpf_ntohl(ip->version_class_flow) >> 28) != 6)
		return false;
	for (word = 0; word < 4; word++) {
		packet->src_addr[word] = bpf_ntohl(ip->src_addr[word]);
		packet->dst_addr[word] = bpf_ntohl(ip->dst_addr[word]);
	}
	packet->tos = bpf_ntohl(ip->version_class_flow) >> 20;
	OPAQUE(packet->protocol) = ip->next_header;
	OPAQUE(packet->l4_offset) = packet->l3_offset + sizeof(*ip);
	packet->flags |= PACKET_IPV6;
	packet->family = 6;
	if (parse_extensions(data, cursor->end, packet))
		return true;
	packet->protocol = NO_NEXT_HEADER; /* matches no transport rule */
	return false;
}

/* Fill `packet` from the frame in [data, end); everything but vlan_id and the VLAN flag is reset. */
static __always_inline void parse_frame(void *data, void *end, struct packet *packet)
{
	struct cursor cursor = {.at = data, .end = end};
	bool whole = false;

	__builtin_memset(packet, 0, PACKET_RESET_BYTES);
	packet->icmp = ICMP_NONE;
	packet->flow_state = 0;
	packet->learns = 0;
	packet->ethertype = parse_link(&cursor, packet);
	packet->l3_offset = packet->l4_offset = cursor.at - data;
	if (packet->ethertype == ETHERTYPE_IPV4)
		whole = parse_ipv4(&cursor, packet);
	else if (packet->ethertype == ETHERTYPE_IPV6)
		whole = parse_ipv6(&cursor, data, packet);
	else if (packet->ethertype && !is_vlan(packet->ethertype))
		return;
	if (whole)
		parse_transport(data, end, packet);
	else
		packet->flags |= PACKET_MALFORMED;
}

#endif
