// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What a TC program of another maker finds in front of a packet. */
#include "chain.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct packet_meta);
} seen SEC(".maps");

SEC("tc")
int read_meta(struct __sk_buff *ctx)
{
	struct packet_meta *meta = (void *)(long)ctx->data_meta;
	__u32 zero = 0;

	if ((void *)(meta + 1) <= (void *)(long)ctx->data && meta->protocol == PROTOCOL_UDP)
		bpf_map_update_elem(&seen, &zero, meta, 0);
	return TC_NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
