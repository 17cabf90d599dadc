/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What all parts of scrubbing share: the maps, the packet at hand, and what was done to it.
 */
#ifndef EBPFSENTINEL_SCRUB_WORK_H
#define EBPFSENTINEL_SCRUB_WORK_H

#include "parse.h"
#include "scrub.h"

struct sc_generation {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sc_head);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct sc_generation);
} sc_head SEC(".maps");

EMIT_TYPE(sc_head, struct sc_head);
EMIT_TYPE(sc_mode, enum sc_mode);
EMIT_TYPE(sc_way, enum sc_way);
EMIT_TYPE(sc_change, enum sc_change);
EMIT_TYPE(sc_reason, enum sc_reason);
EMIT_TYPE(packet_action, enum packet_action);

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SC_COUNTS);
	__type(key, __u32);
	__type(value, struct sc_count);
} sc_count SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sc_told);
} sc_told SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sc_options);
} sc_options SEC(".maps");

RING(sc_events, struct sc_event, 1 << 18);

/* A packet, and what is to be done to it. */
struct work {
	struct __sk_buff *ctx;
	struct packet *packet;
	const struct sc_head *head;
	struct sc_count *count;
	__u32 changes; /* enum sc_change */
	__u32 way;
};

static __always_inline bool look_up_work(struct work *work)
{
	__u32 zero = 0, key;
	void *inner = bpf_map_lookup_elem(&sc_head, &zero);

	work->head = inner ? bpf_map_lookup_elem(inner, &zero) : 0;
	if (!work->head) {
		count_failure(FAILURE_TABLES);
		return false;
	}
	work->changes = work->head->changes[work->way];
	if (!work->changes ||
	    !(work->head->interfaces >> (work->packet->interface & (INTERFACE_SLOTS - 1)) & 1))
		return false;
	key = work->way * 2 + (work->head->mode == SC_MODE_BLOCK);
	work->count = bpf_map_lookup_elem(&sc_count, &key);
	return work->count;
}

static __always_inline bool enforces(const struct work *work)
{
	return work->head->mode == SC_MODE_BLOCK;
}

/* Put down what was done, or would have been. */
static __always_inline void count_done(const struct work *work, __u32 done)
{
	struct sc_count *count = work->count;

	count->ttl_fixed += !!(done & SC_TTL);
	count->hop_fixed += !!(done & SC_HOP_LIMIT);
	count->tos_normalized += !!(done & SC_TOS);
	count->ecn_stripped += !!(done & SC_ECN);
	count->df_cleared += !!(done & SC_DF);
	count->ipid_randomized += !!(done & SC_ID);
	count->tcp_flags_scrubbed += !!(done & (SC_RESERVED | SC_ILLEGAL));
	count->mss_clamped += !!(done & SC_MSS);
	count->tcp_ts_stripped += !!(done & SC_TIMESTAMPS);
}

/* The first bytes from an offset on, if they are there. */
static __always_inline void *header_at(const struct work *work, __u32 offset, __u32 bytes)
{
	struct cursor cursor = {
		.at = (void *)(long)work->ctx->data + (offset & OFFSET_MAX),
		.end = (void *)(long)work->ctx->data_end,
	};

	return cursor_take(&cursor, bytes);
}

static __always_inline bool is_syn(const struct packet *packet)
{
	return (packet->tcp_flags & 0x12) == 0x02;
}

#endif
