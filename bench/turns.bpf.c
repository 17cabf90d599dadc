// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * As trace.bpf.c, for TC: on every repeat of BPF_PROG_RUN the next frame of a trace is written over the
 * packet, and the program under test called. What rewrites packets sees each frame as it was.
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

SEC("tc")
int tc_turns(struct __sk_buff *ctx)
{
	__u32 zero = 0;
	struct trace *all = bpf_map_lookup_elem(&trace, &zero);
	struct frame *to = (void *)(long)ctx->data;
	__u32 next;
	int word;

	if (!all || (void *)(to + 1) > (void *)(long)ctx->data_end)
		return 2;
	next = all->next++ & (FRAMES - 1);
	for (word = 0; word < WORDS; word++)
		to->words[word] = all->frames[next].words[word];
	bpf_tail_call(ctx, &target, 0);
	return 2;
}

char _license[] SEC("license") = "Dual BSD/GPL";
