/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Limits by counting in windows of one second, each in one word, so that a compare-and-swap decides.
 * A bucket's windows begin with its first packet, not with the second hand of a clock.
 *
 * Fixed: start (40 bits, in 512 ns: a second is exactly 1,953,125) and count (24 bits).
 * Sliding: start (24 bits, in 8 ms), count of the window before and of this one (20 bits each). The
 * second that ends now is taken to hold this window's packets and, evenly spread, the part of the
 * last window's that is not older than a second.
 *
 * Only packets that conform are counted. A start that lies ahead is another CPU's, whose clock was
 * read a moment later. Starts wrap after 6.5 days and 37 hours: a bucket that was at its limit and
 * is asked again to the second after so long may take a second to notice.
 */
#ifndef EBPFSENTINEL_WINDOWS_H
#define EBPFSENTINEL_WINDOWS_H

#include "ratelimit.h"

#define WINDOW 1953125ULL /* units of 512 ns */
#define FIXED_START ((1ULL << 40) - 1)
#define FIXED_COUNT 0xffffffULL
#define SLIDING_UNIT 15625ULL /* units of 512 ns */
#define SLIDING_WINDOW 125    /* units of 8 ms */
#define SLIDING_START 0xffffffULL
#define SLIDING_COUNT 0xfffffULL

/* From start to now, both of so many bits; what is a second ahead at most is now. */
static __always_inline __u64 age_of(__u64 now, __u64 start, __u64 bits, __u64 second)
{
	__u64 age = (now - start) & bits;

	return age > bits - second ? 0 : age;
}

/* The state after one more packet; 0: there may be none. */
static __always_inline __u64 fixed_window_next(__u64 seen, __u64 now_ns, __u32 rate)
{
	__u64 now = now_ns >> 9, start = seen >> 24, count = seen & FIXED_COUNT;
	__u64 age = age_of(now, start, FIXED_START, WINDOW);

	if (!count || age >= 2 * WINDOW) {
		start = now;
		count = 0;
	} else if (age >= WINDOW) {
		start += WINDOW;
		count = 0;
	}
	return count < rate ? (start & FIXED_START) << 24 | (count + 1) : 0;
}

static __always_inline __u64 sliding_window_next(__u64 seen, __u64 now_ns, __u32 rate)
{
	__u64 now = now_ns >> 9, unit = now / SLIDING_UNIT, start = seen >> 40, past;
	__u64 before = seen >> 20 & SLIDING_COUNT, count = seen & SLIDING_COUNT;
	__u64 age = age_of(unit, start, SLIDING_START, SLIDING_WINDOW);

	if (!seen || age >= 2 * SLIDING_WINDOW) {
		start = unit;
		before = count = age = 0;
	} else if (age >= SLIDING_WINDOW) {
		start += SLIDING_WINDOW;
		age -= SLIDING_WINDOW;
		before = count;
		count = 0;
	}
	past = age * SLIDING_UNIT + now % SLIDING_UNIT;
	if (count * WINDOW + before * (WINDOW - past) >= rate * WINDOW)
		return 0;
	return (start & SLIDING_START) << 40 | before << 20 | (count + 1);
}

/* Nanoseconds until the windows hold nothing any more. */
static __always_inline __u64 fixed_window_left(__u64 seen, __u64 now_ns)
{
	__u64 age = age_of(now_ns >> 9, seen >> 24, FIXED_START, WINDOW);

	return seen && age < WINDOW ? (WINDOW - age) << 9 : 0;
}

static __always_inline __u64 sliding_window_left(__u64 seen, __u64 now_ns)
{
	__u64 unit = (now_ns >> 9) / SLIDING_UNIT;
	__u64 age = age_of(unit, seen >> 40, SLIDING_START, SLIDING_WINDOW);

	return seen && age < 2 * SLIDING_WINDOW ? (2 * SLIDING_WINDOW - age) * 8000000 : 0;
}

#endif
