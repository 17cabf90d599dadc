// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A different packet on every repeat of BPF_PROG_RUN: writes the next frame of a trace over the
 * packet, takes back the metadata that the last run left in front of it (else its headroom is used
 * up after 15 repeats), and calls the program under test.
 *
 * One program for targets that take multi-buffer frames and one for those that do not: the kernel
 * lets no tail call cross.
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

#define TARGET(name)                                                                               \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY);                                             \
		__uint(max_entries, 1);                                                            \
		__type(key, __u32);                                                                \
		__type(value, __u32);                                                              \
	} name SEC(".maps")

TARGET(plain_target);
TARGET(frags_target);

static __always_inline void next_frame(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct trace *all = bpf_map_lookup_elem(&trace, &zero);
	struct frame *to;
	__u32 next;
	int word;

	bpf_xdp_adjust_meta(ctx, ctx->data - ctx->data_meta);
	to = (void *)(long)ctx->data;
	if (!all || (void *)(to + 1) > (void *)(long)ctx->data_end)
		return;
	next = all->next++ & (FRAMES - 1);
	for (word = 0; word < WORDS; word++)
		to->words[word] = all->frames[next].words[word];
}

SEC("xdp")
int plain_trace(struct xdp_md *ctx)
{
	next_frame(ctx);
	bpf_tail_call(ctx, &plain_target, 0);
	return XDP_ABORTED;
}

SEC("xdp.frags")
int frags_trace(struct xdp_md *ctx)
{
	next_frame(ctx);
	bpf_tail_call(ctx, &frags_target, 0);
	return XDP_ABORTED;
}

/* What all of this costs without anything under test. */
SEC("xdp")
int plain_pass(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

SEC("xdp.frags")
int frags_pass(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
