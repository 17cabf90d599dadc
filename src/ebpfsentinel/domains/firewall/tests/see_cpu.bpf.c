// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* UDP packets on their way up the stack, by the CPU and the task that they are taken in. */
#include "chain.h"

struct place {
	__u32 cpu;
	char task[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct place);
	__type(value, __u64);
} places SEC(".maps");

static __always_inline bool is_udp(struct __sk_buff *ctx)
{
	bool ipv6 = ctx->protocol == bpf_htons(ETHERTYPE_IPV6);
	__u8 protocol = 0;

	if (bpf_skb_load_bytes(ctx, ipv6 ? 20 : 23, &protocol, sizeof(protocol)))
		return false;
	return protocol == PROTOCOL_UDP;
}

SEC("tc")
int see_cpu(struct __sk_buff *ctx)
{
	struct place place = {.cpu = bpf_get_smp_processor_id()};
	__u64 *count, one = 1;

	if (!is_udp(ctx))
		return TC_NEXT;
	bpf_get_current_comm(place.task, sizeof(place.task));
	count = bpf_map_lookup_elem(&places, &place);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&places, &place, &one, BPF_ANY);
	return TC_NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
