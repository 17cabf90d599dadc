/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Mirror: a copy of what a rule matched leaves by another interface.
 *
 * XDP cannot copy a packet, it can only send it elsewhere. So of a packet that is dropped, what
 * leaves is the packet itself, in the place of the drop; one that passes is copied by TC, where it
 * comes next. TC finds the rule by asking the classifier again: what XDP leaves in front of a packet
 * is not seen there under generic XDP. User space has TC attached while there are such rules.
 *
 * Programs of their own, reached by tail call, as those that reject. A copy that cannot be made
 * changes no verdict, and is counted. Linux before 5.12 cannot ask whether the packet fits: what does
 * not is lost there on its way out.
 */
#ifndef EBPFSENTINEL_MIRROR_H
#define EBPFSENTINEL_MIRROR_H

#include "firewall.h"
#include "record.h"

#include <bpf/bpf_core_read.h>

#define ETHERNET_BYTES 14

/* Where the packets of a rule go, by its number. The kernel takes out interfaces that go. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, FW_MIRRORS);
	__type(key, __u32);
	__type(value, __u32);
} fw_mirrors SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fw_copies);
} fw_copies SEC(".maps");

#define COUNT_COPY(field)                                                                          \
	do {                                                                                       \
		__u32 zero = 0;                                                                    \
		struct fw_copies *count = bpf_map_lookup_elem(&fw_copies, &zero);                  \
                                                                                                   \
		if (count)                                                                         \
			count->field++;                                                            \
	} while (0)

/* Index of the interface, if it is there and takes so long a packet; 0: it is counted why not. */
static __always_inline __u32 way_out(void *ctx, const struct packet *packet, bool segments)
{
	const __u32 *found = bpf_map_lookup_elem(&fw_mirrors, &packet->rule_id);
	int tags = ETHERNET_BYTES - packet->l3_offset;
	__u32 ifindex = found ? *found : 0, mtu = 0;
	long fits = 0;

	if (!ifindex) {
		COUNT_COPY(no_interface);
		return 0;
	}
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_check_mtu))
		fits = segments ? bpf_check_mtu(ctx, ifindex, &mtu, 0, BPF_MTU_CHK_SEGS)
				: bpf_check_mtu(ctx, ifindex, &mtu, tags, 0);
	if (fits < 0)
		COUNT_COPY(no_interface);
	else if (fits)
		COUNT_COPY(too_big);
	return fits ? 0 : ifindex;
}

SEC("xdp")
int xdp_mirror(struct xdp_md *ctx)
{
	struct packet *packet = packet_of(&xdp_packet);

	if (!packet)
		return XDP_DROP;
	packet_count(packet, true);
	if (!way_out(ctx, packet, false))
		return XDP_DROP;
	if (bpf_redirect_map(&fw_mirrors, packet->rule_id, XDP_DROP) != XDP_REDIRECT) {
		COUNT_COPY(no_interface);
		return XDP_DROP;
	}
	COUNT_COPY(sent);
	return XDP_REDIRECT;
}

SEC("tc")
int tc_mirror(struct __sk_buff *ctx)
{
	struct packet *packet = packet_of(&tc_packet);
	__u32 ifindex;

	if (!packet)
		return TC_NEXT;
	ifindex = way_out(ctx, packet, ctx->gso_size);
	if (ifindex) {
		if (bpf_clone_redirect(ctx, ifindex, 0))
			COUNT_COPY(failed);
		else
			COUNT_COPY(sent);
	}
	return packet->mirror == MIRROR_AND_DROP ? tc_drop(ctx, packet) : tc_next(ctx, packet);
}

#endif
