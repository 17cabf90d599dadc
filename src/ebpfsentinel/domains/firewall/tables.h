/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The classifier's tables in the kernel, and how to find something in them.
 */
#ifndef EBPFSENTINEL_FIREWALL_TABLES_H
#define EBPFSENTINEL_FIREWALL_TABLES_H

#include "firewall.h"
#include "record.h"

#include <bpf/bpf_helpers.h>

struct bank_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FW_PARTS);
	__type(key, __u32);
	__type(value, struct fw_part);
};

struct head_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fw_head);
};

EMIT_TYPE(fw_bank, struct fw_bank);
EMIT_TYPE(fw_part, struct fw_part);
EMIT_TYPE(fw_head, struct fw_head);
EMIT_TYPE(fw_mode, enum fw_mode);
EMIT_TYPE(fw_field, enum fw_field);
EMIT_TYPE(fw_fragment, enum fw_fragment);
EMIT_TYPE(packet_action, enum packet_action);
EMIT_TYPE(packet_mirror, enum packet_mirror);

/*
 * Parts have one size whatever is in them. So that kept banks of another layout are not taken for
 * ours, there are a few slots too many, as the layout has it.
 */
#define FW_SLOTS (2 * FW_PLACES + sizeof(struct fw_tables) / 8 % 509)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, FW_SLOTS);
	__type(key, __u32);
	__array(values, struct bank_map);
} fw_banks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct head_map);
} fw_head SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fw_scratch);
} fw_scratch SEC(".maps");

/* Index of the lowest set bit; BPF has no such instruction (de Bruijn, Leiserson et al. 1998). */
static const __u8 debruijn_index[64] = {
	0,  1,  48, 2,  57, 49, 28, 3,  61, 58, 50, 42, 38, 29, 17, 4,  62, 55, 59, 36, 53, 51,
	43, 22, 45, 39, 33, 30, 24, 18, 12, 5,  63, 47, 56, 27, 60, 41, 37, 16, 54, 35, 52, 21,
	44, 32, 23, 11, 46, 26, 40, 15, 34, 20, 31, 10, 25, 14, 19, 9,  13, 8,  7,  6};

static __always_inline __u32 lowest_bit(__u64 bits)
{
	return debruijn_index[(bits & -bits) * 0x03f79d71b4cb0a89ULL >> 58];
}

static __always_inline const struct fw_head *head_in_force(void)
{
	__u32 zero = 0;
	void *inner = bpf_map_lookup_elem(&fw_head, &zero);

	return inner ? bpf_map_lookup_elem(inner, &zero) : 0;
}

/* The map that holds the parts of a bank. */
static __always_inline void *parts_at(__u32 slot)
{
	return bpf_map_lookup_elem(&fw_banks, &slot);
}

static __always_inline const struct fw_leaves *leaves_of(void *parts)
{
	__u32 part = FW_LEAVES_PART;

	return parts ? bpf_map_lookup_elem(parts, &part) : 0;
}

static __always_inline const struct fw_lists *lists_of(void *parts)
{
	__u32 part = FW_LISTS_PART;

	return parts ? bpf_map_lookup_elem(parts, &part) : 0;
}

static __always_inline const struct fw_tables *tables_of(void *parts)
{
	__u32 part = FW_TABLES_PART;

	return parts ? bpf_map_lookup_elem(parts, &part) : 0;
}

/*
 * The last interval of a field that begins at or below (high, low). It lies between the bases of
 * the key's bucket and of the next: halve what is between until one is left. Mostly there is none. The
 * count goes through memory, so that the verifier sees equal states after each step.
 */
static __always_inline __u16 find(const struct fw_tables *bank, const struct fw_index *index,
				  __u64 high, __u64 low, bool wide)
{
	__u64 bucket = (high - index->origin) >> (index->shift & 63);
	__u32 at = index->base;
	__u16 first, count;
	int step;

	if (high >= index->origin) {
		at = (at + (bucket < index->last ? bucket : index->last)) & (FW_BUCKETS - 1);
		first = bank->base[at];
		if (!wide && !index->shift && bucket < index->last)
			return first; /* a bucket is a value */
		count = bank->base[at + 1] - first;
	} else {
		first = index->first;
		count = bank->base[at & (FW_BUCKETS - 1)] - first;
	}
	for (step = 0; step < 16 && count; step++) {
		__u16 half = (count + 1) >> 1;
		__u16 middle = first + half;
		bool reached = bank->begins[middle] <= high;

		if (wide && bank->begins[middle] == high)
			reached = bank->low[middle] <= low;
		first = reached ? middle : first;
		OPAQUE(count) = reached ? count - half : half - 1;
	}
	return first;
}

static __always_inline __u64 word_of(const struct fw_leaves *leaves,
				     const struct fw_interval *interval, __u32 word)
{
	__u16 leaf = interval->leaf[word / FW_LEAF_WORDS & (FW_LEAVES - 1)];

	if (leaf >= FW_LEAF_POOL)
		return 0;
	return leaves->leaves[leaf].words[word & (FW_LEAF_WORDS - 1)];
}

#endif
