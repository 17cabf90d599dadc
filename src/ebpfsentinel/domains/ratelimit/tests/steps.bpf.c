// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The limiter's own arithmetic with a clock that a test sets: what becomes of a row of packets.
 */
#include "gcra.h"
#include "windows.h"

#include <bpf/bpf_helpers.h>

#define STEPS 256

/* In: the limit and when packets come. Out: which are admitted. */
struct steps {
	__u64 interval;
	__u64 tolerance;
	__u32 rate;
	__u32 algorithm;
	__u64 state;
	__u32 count;
	__u32 pad;
	__u64 now_ns[STEPS];
	__u64 admitted[STEPS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct steps);
} steps SEC(".maps");

static __always_inline __u64 after(struct steps *all, __u64 now_ns)
{
	return all->algorithm == RL_FIXED_WINDOW
		       ? fixed_window_next(all->state, now_ns, all->rate)
		       : sliding_window_next(all->state, now_ns, all->rate);
}

SEC("xdp")
int run_steps(struct xdp_md *ctx __attribute__((unused)))
{
	__u32 zero = 0, step;
	struct steps *all = bpf_map_lookup_elem(&steps, &zero);

	if (!all)
		return XDP_ABORTED;
	for (step = 0; step < STEPS; step++) {
		__u64 now_ns = all->now_ns[step], next;

		if (step >= OPAQUE(all->count))
			break;
		if (OPAQUE(all->algorithm) == RL_GCRA) {
			next = gcra_admit(&all->state, now_ns, all->interval, all->tolerance);
			OPAQUE(all->admitted[step]) = next;
			continue;
		}
		next = after(all, now_ns);
		OPAQUE(all->admitted[step]) = next ? 1 : 0;
		if (next)
			OPAQUE(all->state) = next;
	}
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
