/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Records: how a program tells user space something, and how nothing is lost silently.
 *
 * RING(name, struct thing, bytes) declares one ring buffer for one record type, its loss ledger
 * (map "<name>_led"), and a mark from which user space learns the record type (the section
 * "records" never reaches the kernel). Names have at most 11 characters.
 *
 *	struct thing *record = record_reserve(things, sizeof(*record));
 *	if (!record)
 *		return 0;              // counted
 *	...fill every field, padding included...
 *	record_submit(record);
 *
 * Every ring has a program "<name>_canary" beside it, never attached: BPF_PROG_RUN of it puts a record of
 * nothing but CANARY_WORD into the ring, from which user space learns that the ring still leads to it.
 */
#ifndef EBPFSENTINEL_RECORD_H
#define EBPFSENTINEL_RECORD_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

/*
 * What became of the records of one ring, per CPU. seen counts attempts; what is in the ring is
 * seen - ring_full - backpressure, and user space holds that against what it was delivered
 * (plus what the program reserved and then discarded).
 */
struct ledger {
	__u64 seen;
	__u64 ring_full;
	__u64 backpressure;
	__u64 discarded;
};

/* The record type of a ring or of an iterator program, for user space. */
#define RECORD(name, record_type) const record_type *name##_record SEC("records") = 0

/* Emit a type that only an inner map uses; clang would leave a forward declaration. */
#define EMIT_TYPE(name, emitted_type) const emitted_type *name##_emitted SEC("records") = 0

#define CANARY_WORD 0xca9a27600d50f7edULL

#define RING(name, record_type, bytes)                                                             \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_RINGBUF);                                                \
		__uint(max_entries, bytes);                                                        \
	} name SEC(".maps");                                                                       \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);                                           \
		__uint(max_entries, 1);                                                            \
		__type(key, __u32);                                                                \
		__type(value, struct ledger);                                                      \
	} name##_led SEC(".maps");                                                                 \
	static __always_inline void *ledger_reserve(void *ring, void *ledger_map,                  \
						    __u64 ring_bytes, __u64 record_bytes);         \
	static __always_inline void record_submit(void *record);                                   \
	SEC("raw_tp/canary")                                                                       \
	int name##_canary(__attribute__((unused)) void *ctx)                                       \
	{                                                                                          \
		__u64 *word = record_reserve(name, sizeof(record_type));                           \
		__u32 at;                                                                          \
                                                                                                   \
		if (!word)                                                                         \
			return 0;                                                                  \
		for (at = 0; at < sizeof(record_type) / sizeof(*word); at++)                       \
			word[at] = CANARY_WORD;                                                    \
		record_submit(word);                                                               \
		return 1;                                                                          \
	}                                                                                          \
	RECORD(name, record_type)

/*
 * Reserve from a ring and keep its ledger. Above three quarters full nothing more is taken: the
 * reader is behind, and the last quarter stays for what is being written. The verdict of the
 * program never waits for its record.
 */
static __always_inline void *ledger_reserve(void *ring, void *ledger_map, __u64 ring_bytes,
					    __u64 record_bytes)
{
	__u32 zero = 0;
	struct ledger *ledger = bpf_map_lookup_elem(ledger_map, &zero);
	void *record;

	if (!ledger)
		return 0;
	ledger->seen++;
	if (bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) > ring_bytes / 4 * 3) {
		ledger->backpressure++;
		return 0;
	}
	record = bpf_ringbuf_reserve(ring, record_bytes, 0);
	if (!record)
		ledger->ring_full++;
	return record;
}

/* One more that is not taken because the reader is behind. */
static __always_inline void ledger_pass_over(void *ledger_map)
{
	__u32 zero = 0;
	struct ledger *ledger = bpf_map_lookup_elem(ledger_map, &zero);

	if (!ledger)
		return;
	ledger->seen++;
	ledger->backpressure++;
}

#define record_pass_over(ring) ledger_pass_over(&ring##_led)

#define record_reserve(ring, record_bytes)                                                         \
	ledger_reserve(&ring, &ring##_led, sizeof(*ring.max_entries) / sizeof(int), record_bytes)

static __always_inline void record_submit(void *record)
{
	bpf_ringbuf_submit(record, 0);
}

/* Give a reserved record back unsent; it is counted as discarded. */
static __always_inline void ledger_discard(void *record, void *ledger_map)
{
	__u32 zero = 0;
	struct ledger *ledger = bpf_map_lookup_elem(ledger_map, &zero);

	if (ledger)
		ledger->discarded++;
	bpf_ringbuf_discard(record, 0);
}

#define record_discard(ring, record) ledger_discard(record, &ring##_led)

#endif
