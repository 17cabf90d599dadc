/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Failed helper calls, by name: nothing fails unseen. All objects share the one map (the loader
 * gives every map that dispatch.bpf.c also has to all objects).
 */
#ifndef EBPFSENTINEL_COUNT_H
#define EBPFSENTINEL_COUNT_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

enum failure {
	FAILURE_SCRATCH, /* a per-CPU scratch value was not there */
	FAILURE_TABLES,  /* a program ran before its first rule set was in place */
	FAILURE_META,    /* no room for XDP metadata before the packet */
	FAILURE_PULL,    /* packet headers could not be made linear */
	FAILURE_CPU,     /* a packet stayed on its CPU: no native XDP, or that CPU has no queue */
	FAILURE_LINK,    /* a packet stayed without its Ethernet header behind generic XDP */
	FAILURE_MAX = 16,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FAILURE_MAX);
	__type(key, __u32);
	__type(value, __u64);
} failures SEC(".maps");

static __always_inline void count_failure(enum failure failure)
{
	__u32 key = failure;
	__u64 *count = bpf_map_lookup_elem(&failures, &key);

	if (count)
		(*count)++;
}

#endif
