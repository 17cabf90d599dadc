// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A flood: frames (BPF_PROG_RUN, live) out of an interface, each with a source that is one of many.
 * Checksums are right, so that what a defence lets through reaches the stack. A frame is written
 * anew each time: its page comes back as the receiver left it.
 */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ETHERNET_BYTES 14
#define FRAME_BYTES 74 /* Ethernet, IPv6, and the TCP header */

struct flood {
	__u32 ifindex;
	__u32 sources;
	__u32 base;     /* of the sources: an IPv4 address, or the last word of an IPv6 address */
	__u32 l4_check; /* offset of the transport's checksum; 0: there is none */
	__u16 frame[FRAME_BYTES / 2];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flood);
} flood_map SEC(".maps");

static __always_inline void mend(__u16 *check, __be32 before, __be32 after)
{
	__u64 sum = bpf_csum_diff(&before, 4, &after, 4, (__u16) ~*check);

	sum = (sum & 0xffff) + (sum >> 16 & 0xffff);
	sum = (sum & 0xffff) + (sum >> 16);
	*check = ~sum;
}

static __always_inline void put(void *data, const struct flood *flood, __u32 offset, __be32 value,
				bool in_header)
{
	__be32 *at = data + offset;
	__be32 before = *at;

	*at = value;
	if (in_header)
		mend(data + ETHERNET_BYTES + 10, before, value);
	if (flood->l4_check == 50)
		mend(data + 50, before, value);
	else if (flood->l4_check == 70)
		mend(data + 70, before, value);
	else if (flood->l4_check == 60)
		mend(data + 60, before, value);
	else if (flood->l4_check == 56)
		mend(data + 56, before, value);
	else if (flood->l4_check == 40)
		mend(data + 40, before, value);
}

SEC("xdp")
int forge(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 zero = 0, chance = bpf_get_prandom_u32();
	struct flood *flood = bpf_map_lookup_elem(&flood_map, &zero);

	if (!flood || !flood->sources || data + FRAME_BYTES > end)
		return XDP_DROP;
	__builtin_memcpy(data, flood->frame, FRAME_BYTES);
	if (*(__be16 *)(data + 12) == bpf_htons(0x0800))
		put(data, flood, 26, bpf_htonl(flood->base + chance % flood->sources), true);
	else
		put(data, flood, 34, bpf_htonl(flood->base + chance % flood->sources), false);
	return bpf_redirect(flood->ifindex, 0);
}

/*
 * At the sender: what is sent to a forged source gets lost, as it would out there. A veth wants a
 * program of its peer before frames can be redirected into it anyway.
 */
SEC("xdp")
int take(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 zero = 0, to;
	struct flood *flood = bpf_map_lookup_elem(&flood_map, &zero);

	if (!flood || data + 58 > end)
		return XDP_PASS;
	if (*(__be16 *)(data + 12) == bpf_htons(0x0800))
		to = bpf_ntohl(*(__be32 *)(data + 30));
	else
		to = bpf_ntohl(*(__be32 *)(data + 50));
	return flood->sources > 1 && to - flood->base < flood->sources ? XDP_DROP : XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
