/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Records: how a program tells user space something, and how nothing is lost silently.
 *
 * RING(name, type, bytes) declares one ring buffer for one record type, its loss ledger
 * (map "<name>_led"), and a mark from which user space learns the record type (symbol
 * "<name>_record"; the section never reaches the kernel). Names: at most 11 characters.
 *
 *	struct thing *record = record_reserve(&things, &things_led, sizeof(*record));
 *	if (!record)
 *		return 0;            // counted in the ledger
 *	...fill every field, padding included...
 *	record_submit(record, &things_led);
 */
#ifndef EBPFSENTINEL_RECORD_H
#define EBPFSENTINEL_RECORD_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

/* Always: seen == sent + ring_full + backpressure + discarded. */
struct ledger {
	__u64 seen;
	__u64 sent;
	__u64 ring_full;
	__u64 backpressure;
	__u64 discarded;
};

#define RING(name, type, bytes)                                                                    \
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
	RECORD(name, type)

/* The record type of an iterator program or a ring, for user space. */
#define RECORD(name, type) const type *name##_record SEC("records") = 0

#endif
