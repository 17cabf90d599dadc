// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A flood for measurements: sends the frame it is given out of a veth end, from another source each
 * time, and every so often to another port; and what may stand at the receiving end.
 *
 * Frames are Ethernet, IPv4 without options, UDP without a checksum. The source's low half is
 * counted up and its checksum kept right, so that a stack takes the frame.
 */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct flood {
	__u32 ifindex;
	__u16 base; /* IPv4 checksum with a source whose low half is 0, host order */
	__u16 port;
	__u16 other_port;
	__u16 every; /* frames to one that goes to other_port; 0: none */
	__u32 sent;
};

struct frame {
	__u8 link[14];
	__u8 before[10];
	__be16 checksum;
	__be16 network;
	__be16 host;
	__be32 dst_addr;
	__be16 src_port;
	__be16 dst_port;
} __attribute__((packed));

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flood);
} flood_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} arrived SEC(".maps");

SEC("xdp")
int flood_send(struct xdp_md *ctx)
{
	struct frame *frame = (void *)(long)ctx->data;
	__u32 zero = 0, sum;
	struct flood *flood = bpf_map_lookup_elem(&flood_map, &zero);
	__u16 host;

	if (!flood || (void *)(frame + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	host = flood->sent++ & 0xfff;
	sum = (__u16)~flood->base + host;
	frame->host = bpf_htons(host);
	frame->checksum = bpf_htons(~((sum & 0xffff) + (sum >> 16)));
	frame->dst_port = bpf_htons(flood->port);
	if (flood->every && flood->sent % flood->every == 0)
		frame->dst_port = bpf_htons(flood->other_port);
	return bpf_redirect(flood->ifindex, 0);
}

SEC("xdp")
int flood_drop(struct xdp_md *ctx __attribute__((unused)))
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&arrived, &zero);

	if (count)
		++*count;
	return XDP_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
