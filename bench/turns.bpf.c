// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * As trace.bpf.c, for what rewrites packets: on every repeat of BPF_PROG_RUN the next frame of a trace
 * is written over the whole packet, as it was. tc_turns then calls the program under test; xdp_turns sends
 * the frame out of an interface.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define FRAMES 512
#define WORDS 10

struct frame {
	__u64 words[WORDS];
};

struct trace {
	__u32 next;
	__u32 pad;
	struct frame frames[FRAMES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct trace);
} trace SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} target SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} way_out SEC(".maps");

static __always_inline bool write_next(void *data, void *end)
{
	__u32 zero = 0;
	struct trace *all = bpf_map_lookup_elem(&trace, &zero);
	struct frame *to = data;
	__u32 next;
	int word;

	if (!all || (void *)(to + 1) > end)
		return false;
	next = all->next++ & (FRAMES - 1);
	for (word = 0; word < WORDS; word++)
		to->words[word] = all->frames[next].words[word];
	return true;
}

SEC("tc")
int tc_turns(struct __sk_buff *ctx)
{
	if (write_next((void *)(long)ctx->data, (void *)(long)ctx->data_end))
		bpf_tail_call(ctx, &target, 0);
	return 2;
}

SEC("xdp")
int xdp_turns(struct xdp_md *ctx)
{
	__u32 zero = 0, *ifindex = bpf_map_lookup_elem(&way_out, &zero);

	if (!ifindex || !write_next((void *)(long)ctx->data, (void *)(long)ctx->data_end))
		return XDP_ABORTED;
	return bpf_redirect(*ifindex, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
