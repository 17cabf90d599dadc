/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Fragments that no honest sender makes: cut in the midst of eight bytes though more follow, beyond
 * the 65,535 bytes that a packet can have (the "ping of death"), empty, with a transport header that
 * is not whole, or laid over one (RFC 1858, RFC 3128, RFC 7112, RFC 8200 4.5).
 *
 * An IPv6 "atomic fragment" (the first and the last at once) is no fragment: RFC 6946.
 */
#ifndef EBPFSENTINEL_SCRUB_FRAGMENTS_H
#define EBPFSENTINEL_SCRUB_FRAGMENTS_H

#include "work.h"

struct fragment {
	__u32 offset; /* bytes */
	__u32 bytes;  /* of payload from the transport header on, or what stands in its place */
	bool more;
};

static __always_inline bool is_fragment(const struct packet *packet)
{
	return packet->flags & (PACKET_FRAGMENT | PACKET_LATER_FRAGMENT);
}

static __always_inline bool read_ipv4_fragment(const struct work *work, struct fragment *found)
{
	const struct ipv4 *ip = header_at(work, work->packet->l3_offset, sizeof(*ip));
	__u32 headers = work->packet->l4_offset - work->packet->l3_offset;

	if (!ip || bpf_ntohs(ip->bytes) < headers)
		return false;
	found->offset = (bpf_ntohs(ip->fragment) & 0x1fff) * 8;
	found->more = bpf_ntohs(ip->fragment) & 0x2000;
	found->bytes = bpf_ntohs(ip->bytes) - headers;
	return true;
}

static __always_inline bool read_ipv6_fragment(const struct work *work, struct fragment *found)
{
	const struct packet *packet = work->packet;
	const struct ipv6 *ip = header_at(work, packet->l3_offset, sizeof(*ip));
	__u32 headers = packet->l4_offset - packet->l3_offset - sizeof(*ip);
	const struct extension *extension;

	if (!ip || bpf_ntohs(ip->payload_bytes) < headers)
		return false;
	found->bytes = bpf_ntohs(ip->payload_bytes) - headers;
	found->offset = 0;
	found->more = true;
	if (!(packet->flags & PACKET_LATER_FRAGMENT))
		return true;
	extension = header_at(work, packet->l4_offset - sizeof(*extension), sizeof(*extension));
	if (!extension)
		return false;
	found->offset = bpf_ntohs(extension->fragment) & 0xfff8;
	found->more = bpf_ntohs(extension->fragment) & 1;
	return true;
}

static __always_inline __u32 least_transport_bytes(const struct packet *packet)
{
	return packet->protocol == PROTOCOL_TCP ? 20 : 8;
}

static __always_inline bool has_transport(const struct packet *packet)
{
	return has_ports(packet->protocol) || packet->protocol == PROTOCOL_ICMP ||
	       packet->protocol == PROTOCOL_ICMPV6;
}

static __always_inline bool is_bad_fragment(const struct work *work)
{
	const struct packet *packet = work->packet;
	struct fragment found = {};
	bool read = packet->family == 6 ? read_ipv6_fragment(work, &found)
					: read_ipv4_fragment(work, &found);

	if (!read || packet->flags & PACKET_MALFORMED)
		return true;
	if (!found.bytes || (found.more && found.bytes % 8) || found.offset + found.bytes > 65515)
		return true;
	if (!found.offset)
		return has_transport(packet) && found.bytes < least_transport_bytes(packet);
	return packet->protocol == PROTOCOL_TCP && found.offset < 20;
}

/* Is it to be dropped for being a fragment? */
static __always_inline bool refuses_fragment(const struct work *work)
{
	if (!(work->changes & (SC_FRAGMENTS | SC_BAD_FRAGMENTS)) || !is_fragment(work->packet))
		return false;
	return work->changes & SC_FRAGMENTS || is_bad_fragment(work);
}

#endif
