// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A producer for the ring benchmark: 32 records of 56 bytes a run. */
#include "record.h"

char _license[] SEC("license") = "Dual BSD/GPL";

struct bench_record {
	__u64 time_ns;
	__u64 serial;
	__u32 cpu;
	__u32 words[9];
};

RING(bench_ring, struct bench_record, 8 << 20);

SEC("xdp")
int bench_produce(struct xdp_md *ctx)
{
	struct bench_record *record;
	int step;

	for (step = 0; step < 32; step++) {
		record = record_reserve(bench_ring, sizeof(*record));
		if (!record)
			continue;
		__builtin_memset(record, 0, sizeof(*record));
		record->serial = step;
		record->cpu = bpf_get_smp_processor_id();
		record->words[0] = ctx->ingress_ifindex;
		record_submit(record);
	}
	return XDP_PASS;
}
