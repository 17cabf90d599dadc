/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The few rules that one address leaves, checked one by one by their records.
 */
#ifndef EBPFSENTINEL_FEW_H
#define EBPFSENTINEL_FEW_H

#include "holds.h"

#define UNDECIDED (~0ULL)
#define LOCATED (~1ULL) /* undecided, and scratch has the interval of the narrow field */

/* The first of `count` listed rules that holds. */
static __always_inline __u64 first_of(const struct fw_tables *bank, const struct packet *packet,
				      const __u16 *list, __u32 count, bool wide)
{
	__u64 found;
	int pick;

	for (pick = 0; pick < FW_FEW; pick++) {
		__u32 number = list[pick] & (FW_RULES - 1);
		const struct fw_rule *rule = &bank->rules[number];
		const struct fw_rest *rest = &bank->rests[number];

		if (pick >= (int)count)
			break;
		if (!addresses_hold(rule, rest, packet, wide))
			continue;
		if (rule->asks & FW_ASKS_PROTOCOL && rule->protocol != packet->protocol)
			continue;
		if (rule->asks & FW_ASKS_PORTS && !ports_hold(rule, packet))
			continue;
		if (rule->asks & FW_ASKS_RARE) {
			if (rule->asks & FW_ASKS_MORE)
				return UNDECIDED;
			if (!rare_holds(rule, rest, packet))
				continue;
		}
		found = FOUND(rule);
		if (found)
			return found;
	}
	return 0;
}

/*
 * What a bucket says at once is asked first: a read less in a chain of reads that each wait for
 * the one before.
 */
static __always_inline __u64 first_of_few(const struct fw_tables *bank, const struct packet *packet,
					  void *parts, bool dst, bool wide)
{
	const __u32 *narrow = dst ? packet->dst_addr : packet->src_addr;
	const struct fw_index *index = &bank->index[dst ? FW_DST_ADDR : FW_SRC_ADDR];
	__u64 high = wide ? pair(narrow) : narrow[0];
	__u64 bucket = (high - index->origin) >> (index->shift & 63);
	const struct fw_near *near = &bank->near[bucket & (FW_NEAR - 1)];
	const __u16 *list = near->rule;
	__u32 count = near->count, zero = 0;

	if (high < index->origin || bucket >= index->last || count == FW_MANY) {
		struct fw_scratch *scratch = bpf_map_lookup_elem(&fw_scratch, &zero);
		const struct fw_lists *lists = lists_of(parts);
		const struct fw_few *few;
		__u16 at;

		if (!lists || !scratch)
			return UNDECIDED;
		at = find(bank, index, high, wide ? pair(narrow + 2) : 0, wide);
		few = &lists->few[at];
		list = few->rule;
		count = few->count;
		if (count == FW_MANY) {
			scratch->common[dst ? FW_DST_ADDR : FW_SRC_ADDR] = at;
			return LOCATED;
		}
	}
	return first_of(bank, packet, list, count, wide);
}

static __always_inline __u64 among_few(const struct fw_tables *bank, const struct packet *packet,
				       void *parts)
{
	bool dst = bank->narrow_field == FW_DST_ADDR;

	if (packet->family == 6)
		return dst ? first_of_few(bank, packet, parts, true, true)
			   : first_of_few(bank, packet, parts, false, true);
	return dst ? first_of_few(bank, packet, parts, true, false)
		   : first_of_few(bank, packet, parts, false, false);
}

#endif
