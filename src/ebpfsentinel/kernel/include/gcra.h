/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * GCRA, the generic cell rate algorithm (ITU-T I.371): a token bucket whose whole state is one word,
 * the theoretical arrival time (tat): when the bucket will be full again. A packet that conforms
 * moves it on by the interval; one that comes earlier than tat less the tolerance does not conform,
 * and moves nothing, so that a limited source starves no longer than it must.
 *
 * One word means that a compare-and-swap makes the limit true on any number of CPUs. A bucket whose
 * tat is past is as good as a new one: forgetting it loses nothing.
 *
 * Times are boot-clock nanoseconds times 256, so that an interval is exact to 1/256 ns (a million
 * packets a second: to 4 in a million) and nothing of it is ever rounded away. They wrap every two
 * years and are compared as serial numbers (RFC 1982).
 */
#ifndef EBPFSENTINEL_GCRA_H
#define EBPFSENTINEL_GCRA_H

#include "vmlinux.h"

#define GCRA_SHIFT 8
#define GCRA_TRIES 4

/* How far tat lies ahead of now_ns, in 1/256 ns; 0: it is past, or was never set. */
static __always_inline __u64 gcra_ahead(__u64 tat, __u64 now_ns)
{
	__s64 ahead = tat - (now_ns << GCRA_SHIFT);

	return tat && ahead > 0 ? ahead : 0;
}

/* Would a packet conform that came at now_ns? Nothing is taken. */
static __always_inline bool gcra_conforms(__u64 tat, __u64 now_ns, __u64 tolerance)
{
	return gcra_ahead(tat, now_ns) <= tolerance;
}

/*
 * Does a packet conform that comes at now_ns? interval: time per packet; tolerance: the interval
 * times (burst - 1). Both, like tat, in 1/256 ns. CPUs that lose every exchange are let in and charged.
 */
static __always_inline bool gcra_admit(__u64 *tat, __u64 now_ns, __u64 interval, __u64 tolerance)
{
	__u64 now = now_ns << GCRA_SHIFT, seen, ahead;
	int attempt;

	for (attempt = 0; attempt < GCRA_TRIES; attempt++) {
		seen = *(volatile __u64 *)tat;
		ahead = gcra_ahead(seen, now_ns);
		if (ahead > tolerance)
			return false;
		if (__sync_val_compare_and_swap(tat, seen, now + ahead + interval) == seen)
			return true;
	}
	__sync_fetch_and_add(tat, interval);
	return true;
}

#endif
