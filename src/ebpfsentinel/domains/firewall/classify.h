/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The classifier: the first rule that matches a packet decides, at a cost that does not depend on
 * where in the list it stands.
 *
 * The problem. Rules are ranked and the first match wins. A scan costs time per rule, which is
 * 40 us for 4,096; hash and trie lookups per kind of rule lose the ranking.
 *
 * The way chosen: bit vectors (Lakshman and Stiliadis, SIGCOMM 1998; summary words after Baboescu
 * and Varghese, SIGCOMM 2001). The values of a field are cut into intervals within which the set
 * of satisfied rules is constant, and each has a bitmap of them. The AND of the bitmaps of all
 * fields has a bit for each rule that matches, and the lowest one is the answer.
 *
 * What costs time at 4,096 rules is memory, not instructions: whole bitmaps for every interval
 * were 20 MB a family, and most of the time went into cache and TLB misses. But neighbouring
 * intervals differ by the rule that begins or ends between them. So a bitmap is eight leaves of
 * one cache line, and neighbours share all but the one that changed: a persistent structure by
 * path copying (Driscoll et al., STOC 1986), a tenth of the size. Borders lie apart from what
 * they lead to, eight in a cache line.
 *
 * All conditions are such fields, also time: a rule that lapses, or has a schedule, holds in some
 * intervals of the clock, so it lapses when no agent is there any more. Fields that no rule of a
 * bank asks for are not looked at.
 *
 * Mostly one address leaves but a few rules. They are listed with the interval, and checked one by
 * one against a record of what each asks for: three lines of memory instead of a dozen.
 *
 * The rules that keep the owner in hold for every address, so they would stand in all of these lists:
 * they are in fw_head, and tried first, by those packets alone whose port may be theirs.
 *
 * A rule that is added to a set in force is not worth a new bank at once: it stands in a list of
 * the bank that it ranks in, whose rules are checked one by one and compared by priority with what
 * the bank has. One that is removed has its number taken away, so that it is passed over. When no more
 * changes come, or the list is full, a new bank is compiled.
 *
 * More than 4,096 rules fill further banks, which are asked in turn. What is in force is said by
 * one value, fw_head, replaced by one pointer: a packet sees one generation of all banks.
 *
 * Measured and rejected: a search without branches (each step costs more than the mispredictions
 * it saves). Rejected: kernel LPM tries (25-90 ns each, four per packet, and not swapped with the
 * rest); decision trees (fast, but minutes to compile and fragile under updates).
 */
#ifndef EBPFSENTINEL_CLASSIFY_H
#define EBPFSENTINEL_CLASSIFY_H

#include "few.h"

/* What the packet has of the rarer fields; MACs are there where asked for, the time comes last. */
static __always_inline void put_keys(struct fw_scratch *scratch, const struct packet *packet)
{
	scratch->keys[FW_DETAIL] = detail_of(packet);
	scratch->keys[FW_SERVICE] = service_of(packet);
	scratch->keys[FW_VLAN] = packet->vlan_id;
	scratch->keys[FW_INNER_VLAN] = packet->inner_vlan_id;
	scratch->keys[FW_INTERFACE] = packet->interface;
	scratch->keys[FW_STATE] = packet->flow_state;
	scratch->keys[FW_OWNER] = scratch->owner;
}

/*
 * Find the intervals that the rarer keys lie in; returns the words in which all have a rule.
 * It is a global function so that the verifier judges it once, by itself.
 */
__noinline __u64 fw_locate(__u32 slot)
{
	__u32 zero = 0, field;
	struct fw_scratch *scratch = bpf_map_lookup_elem(&fw_scratch, &zero);
	void *parts = parts_at(slot);
	const struct fw_tables *bank = tables_of(parts);
	const struct fw_lists *lists = lists_of(parts);
	__u64 some = ~0ULL;
	int asked;

	if (!scratch || !bank || !lists)
		return 0;
	for (asked = 0; asked < FW_FIELDS - FW_DETAIL; asked++) {
		if (asked >= (int)bank->asked_count)
			break;
		field = bank->asked[asked] & (FW_FIELD_SLOTS - 1);
		if (field == FW_TIME)
			scratch->keys[FW_TIME] = now_s();
		scratch->at[asked] =
			find(bank, &bank->index[field], scratch->keys[field], 0, false);
		some &= lists->intervals[scratch->at[asked]].some;
	}
	return some;
}

/* Of the candidates that the common fields leave in word `word`, those that all leave. */
static __always_inline __u64 thin(const struct fw_leaves *leaves,
				  const struct fw_interval *intervals, int asked_count,
				  const struct fw_scratch *scratch, __u32 word, __u64 bits)
{
	int asked;

	for (asked = 0; asked < FW_FIELDS - FW_DETAIL && bits; asked++) {
		if (asked >= asked_count)
			break;
		bits &= word_of(leaves, &intervals[scratch->at[asked]], word);
	}
	return bits;
}

static __always_inline void put(const struct fw_tables *bank, struct fw_scratch *scratch,
				__u32 field, __u64 key)
{
	OPAQUE(scratch->common[field]) = find(bank, &bank->index[field], key, 0, false);
}

/* `located`: that of the narrow field is there. */
static __always_inline void put_address(const struct fw_tables *bank, const struct packet *packet,
					struct fw_scratch *scratch, __u32 field, bool located)
{
	const __u32 *addr = field == FW_SRC_ADDR ? packet->src_addr : packet->dst_addr;
	const struct fw_index *index = &bank->index[field];

	if (located && bank->narrow_field == field)
		return;
	if (packet->family == 6)
		OPAQUE(scratch->common[field]) =
			find(bank, index, pair(addr), pair(addr + 2), true);
	else
		put(bank, scratch, field, addr[0]);
}

/*
 * Find the intervals of the fields that are always looked at; returns the words in which all have
 * a rule. Their numbers go through memory, so that the verifier sees equal states after each
 * search, however it went.
 */
static __always_inline __u64 locate(const struct fw_tables *bank,
				    const struct fw_interval *intervals,
				    const struct packet *packet, struct fw_scratch *scratch,
				    bool located)
{
	bool ports = packet->flags & PACKET_PORTS;
	__u64 some;

	put_address(bank, packet, scratch, FW_SRC_ADDR, located);
	put_address(bank, packet, scratch, FW_DST_ADDR, located);
	some = intervals[OPAQUE(scratch->common[FW_SRC_ADDR])].some &
	       intervals[OPAQUE(scratch->common[FW_DST_ADDR])].some;
	if (!some)
		return 0;
	put(bank, scratch, FW_DST_PORT, ports ? packet->dst_port : FW_NOTHING);
	put(bank, scratch, FW_SRC_PORT, ports ? packet->src_port : FW_NOTHING);
	put(bank, scratch, FW_PROTOCOL, packet->protocol);
	return some & intervals[OPAQUE(scratch->common[FW_DST_PORT])].some &
	       intervals[OPAQUE(scratch->common[FW_SRC_PORT])].some &
	       intervals[OPAQUE(scratch->common[FW_PROTOCOL])].some;
}

static __always_inline __u64 common_word(const struct fw_leaves *leaves,
					 const struct fw_interval *intervals,
					 const struct fw_scratch *scratch, __u32 word)
{
	__u64 bits = word_of(leaves, &intervals[scratch->common[FW_DST_PORT]], word) &
		     word_of(leaves, &intervals[scratch->common[FW_DST_ADDR]], word);

	if (!bits)
		return 0;
	bits &= word_of(leaves, &intervals[scratch->common[FW_SRC_PORT]], word) &
		word_of(leaves, &intervals[scratch->common[FW_SRC_ADDR]], word);
	if (!bits)
		return 0;
	return bits & word_of(leaves, &intervals[scratch->common[FW_PROTOCOL]], word);
}

/* The first of a word's rules that has not been removed; no bank has more than FW_GONE that have. */
static __always_inline __u64 first_left(const struct fw_tables *bank, __u32 word, __u64 bits)
{
	__u64 found;
	int pick;

	for (pick = 0; pick <= FW_GONE && bits; pick++) {
		found = FOUND(&bank->rules[(word * 64 + lowest_bit(bits)) & (FW_RULES - 1)]);
		if (found)
			return found;
		bits &= bits - 1;
	}
	return 0;
}

/*
 * Of the candidates in a word that the common fields leave, the first that all leave. A global function,
 * see fw_locate: one look at its loops instead of one for each word.
 */
__noinline __u64 fw_of_word(__u32 slot, __u32 word, __u64 bits)
{
	__u32 zero = 0;
	const struct fw_scratch *scratch = bpf_map_lookup_elem(&fw_scratch, &zero);
	void *parts = parts_at(slot);
	const struct fw_tables *bank = tables_of(parts);
	const struct fw_leaves *leaves = leaves_of(parts);
	const struct fw_lists *lists = lists_of(parts);

	if (!scratch || !bank || !leaves || !lists)
		return 0;
	word &= FW_WORDS - 1;
	bits = thin(leaves, lists->intervals, bank->asked_count, scratch, word, bits);
	return first_left(bank, word, bits);
}

/* The AND of all bitmaps: the first rule of the bank in `slot` that matches, as FOUND; 0: none. */
static __always_inline __u64 among_all(const struct fw_tables *bank, const struct packet *packet,
				       void *parts, __u32 slot, bool located)
{
	__u32 zero = 0, word;
	struct fw_scratch *scratch = bpf_map_lookup_elem(&fw_scratch, &zero);
	const struct fw_leaves *leaves = leaves_of(parts);
	const struct fw_lists *lists = lists_of(parts);
	__u64 words, bits, found;
	int step;

	if (!scratch || !leaves || !lists)
		return 0;
	words = locate(bank, lists->intervals, packet, scratch, located);
	if (words && bank->asked_count) {
		put_keys(scratch, packet);
		words &= fw_locate(slot);
	}
	for (step = 0; step < FW_WORDS && words; step++) {
		word = lowest_bit(words) & (FW_WORDS - 1);
		words &= words - 1;
		bits = common_word(leaves, lists->intervals, scratch, word);
		if (!bits)
			continue;
		found = bank->asked_count ? fw_of_word(slot, word, bits)
					  : first_left(bank, word, bits);
		if (found)
			return found;
	}
	return 0;
}

/* Keeps what stands before it from being joined with its like: a lookup in one of several maps is a call. */
#define APART(value) asm volatile("" : "+r"(value))

/* The packet of this CPU and hook; before Linux 5.12 a global function takes no pointer to it. */
static __always_inline const struct packet *judged(enum hook hook)
{
	const struct packet *packet;
	__u32 zero = 0;

	if (hook == HOOK_XDP) {
		packet = bpf_map_lookup_elem(&xdp_packet, &zero);
		APART(packet);
	} else if (hook == HOOK_TC) {
		packet = bpf_map_lookup_elem(&tc_packet, &zero);
		APART(packet);
	} else {
		packet = bpf_map_lookup_elem(&egress_packet, &zero);
		APART(packet);
	}
	return packet;
}

/*
 * Is there one among the fresh rules of the bank in `slot` that ranks before what was `found`?
 * Returns the first of them, else `found`. A global function, see fw_locate.
 */
__noinline __u64 fw_fresh(__u32 hook, __u32 slot, __u64 found)
{
	__u32 zero = 0, count, number;
	struct fw_scratch *scratch = bpf_map_lookup_elem(&fw_scratch, &zero);
	const struct packet *packet = judged(hook);
	const struct fw_tables *bank = tables_of(parts_at(slot));
	__u64 before = found ? FOUND_PRIORITY(found) : ~0ULL;
	__u64 says;

	if (!packet || !bank || !scratch)
		return found;
	put_in_places(&scratch->packet, packet, scratch);
	count = OPAQUE(bank->fresh_count);
	for (number = 0; number < FW_FRESH; number++) {
		const struct fw_rule *rule = &bank->fresh[number];

		if (number >= count)
			break;
		says = FOUND(rule);
		if (!says || FOUND_PRIORITY(says) >= before ||
		    differ(rule, &bank->fresh_rests[number], &scratch->packet))
			continue;
		found = says;
		before = FOUND_PRIORITY(says);
	}
	return found;
}

/*
 * The first rule of the bank in `slot` that matches, as FOUND; 0: none. Where one address leaves
 * only a few rules, these are checked one by one. A global function, see fw_locate.
 */
__noinline __u64 fw_classify(__u32 hook, __u32 slot)
{
	const struct packet *packet = judged(hook);
	void *parts = parts_at(slot);
	const struct fw_tables *bank = tables_of(parts);
	__u64 found;

	if (!packet || !bank)
		return 0;
	found = bank->sparse ? among_few(bank, packet, parts) : UNDECIDED;
	if (found >= LOCATED)
		found = among_all(bank, packet, parts, slot, found == LOCATED);
	return bank->fresh_count ? fw_fresh(hook, slot, found) : found;
}

/* The first of the rules in the head that matches, as FOUND; 0: none. A global function, see fw_locate. */
__noinline __u64 fw_first(__u32 hook)
{
	const struct packet *packet = judged(hook);
	const struct fw_head *head = head_in_force();
	__u32 zero = 0, count, number;
	struct fw_scratch *scratch = bpf_map_lookup_elem(&fw_scratch, &zero);

	if (!packet || !head || !scratch)
		return 0;
	put_in_places(&scratch->packet, packet, scratch);
	count = OPAQUE(head->first_count);
	for (number = 0; number < FW_AHEAD && number < count; number++) {
		const struct fw_rule *rule = &head->first[number];

		if (!differ(rule, &head->first_rests[number], &scratch->packet))
			return FOUND(rule);
	}
	return 0;
}

static __always_inline bool may_be_first(const struct fw_head *head, const struct packet *packet)
{
	return packet->flags & PACKET_TCP && head->first_ports >> (packet->dst_port & 63) & 1;
}

/* For rule sets that ask for MAC addresses. */
static __always_inline void put_macs(void *data, void *end)
{
	__u32 zero = 0;
	struct fw_scratch *scratch = bpf_map_lookup_elem(&fw_scratch, &zero);
	const __be16 *macs = data;

	if (!scratch || (void *)(macs + 6) > end)
		return;
	scratch->keys[FW_DST_MAC] = mac(macs);
	scratch->keys[FW_SRC_MAC] = mac(macs + 3);
}

static __always_inline __u64 in_place(const struct fw_head *head, enum hook hook, __u32 place)
{
	return fw_classify(hook, 2 * place + (head->current >> place & 1));
}

/* Ask the head, then the banks of the packet's family in turn, mostly there is one; 0: no rule matches. */
static __always_inline struct fw_found first_match(const struct fw_head *head,
						   const struct packet *packet, enum hook hook)
{
	union {
		__u64 whole;
		struct fw_found rule;
	} found = {};
	bool wide = packet->family == 6;
	__u32 banks = head->banks[wide], first = wide * FW_BANKS, bank;

	if (!packet->family)
		return found.rule;
	if (may_be_first(head, packet))
		found.whole = fw_first(hook);
	if (banks && !found.whole)
		found.whole = in_place(head, hook, first);
	for (bank = 1; bank < FW_BANKS && bank < banks && !found.whole; bank++)
		found.whole = in_place(head, hook, first + bank);
	return found.rule;
}

#endif
