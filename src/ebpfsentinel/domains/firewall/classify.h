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
 * More than 4,096 rules fill further banks, which are asked in turn. What is in force is said by
 * one value, fw_head, replaced by one pointer: a packet sees one generation of all banks.
 *
 * Measured and rejected: a search without branches (each step costs more than the mispredictions
 * it saves). Rejected: kernel LPM tries (25-90 ns each, four per packet, and not swapped with the
 * rest); decision trees (fast, but minutes to compile and fragile under updates).
 */
#ifndef EBPFSENTINEL_CLASSIFY_H
#define EBPFSENTINEL_CLASSIFY_H

#include "tables.h"

#define NSEC_PER_SEC 1000000000ULL
#define UNDECIDED (~0ULL)

/* The first eight bytes of a rule; its number is never 0. */
#define FOUND(rule) (*(const __u64 *)(rule))

static __always_inline __u64 detail_of(const struct packet *packet)
{
	if (packet->flags & (PACKET_MALFORMED | PACKET_LATER_FRAGMENT))
		return FW_NOTHING;
	if (packet->protocol == PROTOCOL_TCP)
		return FW_TCP_FLAGS | packet->tcp_flags;
	if (packet->protocol == PROTOCOL_ICMP || packet->protocol == PROTOCOL_ICMPV6)
		return packet->icmp;
	return FW_NOTHING;
}

static __always_inline __u64 service_of(const struct packet *packet)
{
	__u64 fragment = packet->flags & PACKET_LATER_FRAGMENT ? FW_LATER
			 : packet->flags & PACKET_FRAGMENT     ? FW_FIRST
							       : FW_WHOLE;

	return fragment << 6 | packet->tos >> 2;
}

static __always_inline __u64 traits_of(const struct packet *packet)
{
	return (__u64)packet->protocol << FW_PROTOCOL_AT | detail_of(packet) << FW_DETAIL_AT |
	       service_of(packet) << FW_SERVICE_AT | (__u64)packet->vlan_id << FW_VLAN_AT |
	       (__u64)packet->inner_vlan_id << FW_INNER_VLAN_AT |
	       (__u64)packet->interface << FW_INTERFACE_AT;
}

/* Six bytes in network order as a number. */
static __always_inline __u64 mac(const __u16 *words)
{
	return (__u64)bpf_ntohs(words[0]) << 32 | (__u64)bpf_ntohs(words[1]) << 16 |
	       bpf_ntohs(words[2]);
}

static __always_inline __u64 pair(const __u32 *words)
{
	return (__u64)words[0] << 32 | words[1];
}

static __always_inline __u64 now_s(void)
{
	return bpf_ktime_get_boot_ns() / NSEC_PER_SEC;
}

/* What the packet has of the rarer fields; MACs are there where asked for, the time comes last. */
static __always_inline void put_keys(struct fw_scratch *scratch, const struct packet *packet)
{
	scratch->keys[FW_DETAIL] = detail_of(packet);
	scratch->keys[FW_SERVICE] = service_of(packet);
	scratch->keys[FW_VLAN] = packet->vlan_id;
	scratch->keys[FW_INNER_VLAN] = packet->inner_vlan_id;
	scratch->keys[FW_INTERFACE] = packet->interface;
}

/*
 * Find the intervals that the rarer keys lie in; returns the words in which all have a rule.
 * It is a global function so that the verifier judges it once, by itself.
 */
__noinline __u64 fw_locate(__u32 slot)
{
	__u32 zero = 0, field;
	struct fw_scratch *scratch = bpf_map_lookup_elem(&fw_scratch, &zero);
	const struct fw_bank *bank = bank_at(slot);
	__u64 some = ~0ULL;
	int asked;

	if (!scratch || !bank)
		return 0;
	for (asked = 0; asked < FW_FIELDS - FW_DETAIL; asked++) {
		if (asked >= (int)bank->asked_count)
			break;
		field = bank->asked[asked] & (FW_FIELD_SLOTS - 1);
		if (field == FW_TIME)
			scratch->keys[FW_TIME] = now_s();
		scratch->at[asked] =
			find(bank, &bank->index[field], scratch->keys[field], 0, false);
		some &= bank->intervals[scratch->at[asked]].some;
	}
	return some;
}

/* Of the candidates that the common fields leave in word `word`, those that all leave. */
static __always_inline __u64 thin(const struct fw_bank *bank, const struct fw_scratch *scratch,
				  __u32 word, __u64 bits)
{
	int asked;

	for (asked = 0; asked < FW_FIELDS - FW_DETAIL && bits; asked++) {
		if (asked >= (int)bank->asked_count)
			break;
		bits &= word_of(bank, &bank->intervals[scratch->at[asked]], word);
	}
	return bits;
}

static __always_inline bool ports_hold(const struct fw_rule *rule, const struct packet *packet)
{
	return packet->flags & PACKET_PORTS &&
	       (__u16)(packet->src_port - rule->src_port) <= rule->src_ports &&
	       (__u16)(packet->dst_port - rule->dst_port) <= rule->dst_ports;
}

/* Does the rule hold for the address of this end (0: source)? */
static __always_inline bool address_holds(const struct fw_rule *rule, const struct fw_rest *rest,
					  const __u32 *address, int end, bool wide)
{
	if (!wide)
		return !((address[0] ^ rule->low[end]) & rule->low_mask[end]);
	return !((pair(address) ^ rest->high[end]) & rest->high_mask[end]) &&
	       !((pair(address + 2) ^ rule->low[end]) & rule->low_mask[end]);
}

static __always_inline bool rare_holds(const struct fw_rule *rule, const struct fw_rest *rest,
				       const struct packet *packet)
{
	__u32 zero = 0;
	struct fw_scratch *scratch = bpf_map_lookup_elem(&fw_scratch, &zero);

	if (!scratch || (traits_of(packet) ^ rule->traits) & rest->traits_mask)
		return false;
	if (rule->asks & FW_ASKS_SRC_MAC && scratch->keys[FW_SRC_MAC] != rest->mac[0])
		return false;
	if (rule->asks & FW_ASKS_DST_MAC && scratch->keys[FW_DST_MAC] != rest->mac[1])
		return false;
	return !(rule->asks & FW_ASKS_TIME) || now_s() < rest->expires_s;
}

static __always_inline void put(const struct fw_bank *bank, struct fw_scratch *scratch, __u32 field,
				__u64 key)
{
	OPAQUE(scratch->common[field]) = find(bank, &bank->index[field], key, 0, false);
}

static __always_inline void put_address(const struct fw_bank *bank, const struct packet *packet,
					struct fw_scratch *scratch, __u32 field)
{
	const __u32 *addr = field == FW_SRC_ADDR ? packet->src_addr : packet->dst_addr;
	const struct fw_index *index = &bank->index[field];

	if (packet->family == 6)
		OPAQUE(scratch->common[field]) =
			find(bank, index, pair(addr), pair(addr + 2), true);
	else
		put(bank, scratch, field, addr[0]);
}

/* The first of `count` listed rules that holds, of which this end's address is known to. */
static __always_inline __u64 first_of(const struct fw_bank *bank, const struct packet *packet,
				      const __u16 *list, __u32 count, bool dst, bool wide)
{
	const __u32 *other = dst ? packet->src_addr : packet->dst_addr;
	int pick;

	for (pick = 0; pick < FW_FEW; pick++) {
		__u32 number = list[pick] & (FW_RULES - 1);
		const struct fw_rule *rule = &bank->rules[number];
		const struct fw_rest *rest = &bank->rests[number];

		if (pick >= (int)count)
			break;
		if (!address_holds(rule, rest, other, !dst, wide))
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
		return FOUND(rule);
	}
	return 0;
}

/*
 * What a bucket says at once is asked first: a read less in a chain of reads that each wait for
 * the one before.
 */
static __always_inline __u64 first_of_few(const struct fw_bank *bank, const struct packet *packet,
					  bool dst, bool wide)
{
	const __u32 *narrow = dst ? packet->dst_addr : packet->src_addr;
	const struct fw_index *index = &bank->index[dst ? FW_DST_ADDR : FW_SRC_ADDR];
	__u64 high = wide ? pair(narrow) : narrow[0];
	__u64 bucket = (high - index->origin) >> (index->shift & 63);
	const struct fw_near *near = &bank->near[bucket & (FW_NEAR - 1)];
	const __u16 *list = near->rule;
	__u32 count = near->count;

	if (high < index->origin || bucket >= index->last || count == FW_MANY) {
		const struct fw_few *few =
			&bank->few[find(bank, index, high, wide ? pair(narrow + 2) : 0, wide)];

		list = few->rule;
		count = few->count;
	}
	return count == FW_MANY ? UNDECIDED : first_of(bank, packet, list, count, dst, wide);
}

static __always_inline __u64 among_few(const struct fw_bank *bank, const struct packet *packet)
{
	if (packet->family == 6)
		return bank->narrow_field == FW_DST_ADDR ? first_of_few(bank, packet, true, true)
							 : first_of_few(bank, packet, false, true);
	return bank->narrow_field == FW_DST_ADDR ? first_of_few(bank, packet, true, false)
						 : first_of_few(bank, packet, false, false);
}

/*
 * Find the intervals of the fields that are always looked at; returns the words in which all have
 * a rule. Their numbers go through memory, so that the verifier sees equal states after each
 * search, however it went.
 */
static __always_inline __u64 locate(const struct fw_bank *bank, const struct packet *packet,
				    struct fw_scratch *scratch)
{
	bool ports = packet->flags & PACKET_PORTS;
	__u64 some;

	put_address(bank, packet, scratch, FW_SRC_ADDR);
	put_address(bank, packet, scratch, FW_DST_ADDR);
	some = bank->intervals[OPAQUE(scratch->common[FW_SRC_ADDR])].some &
	       bank->intervals[OPAQUE(scratch->common[FW_DST_ADDR])].some;
	if (!some)
		return 0;
	put(bank, scratch, FW_DST_PORT, ports ? packet->dst_port : FW_NOTHING);
	put(bank, scratch, FW_SRC_PORT, ports ? packet->src_port : FW_NOTHING);
	put(bank, scratch, FW_PROTOCOL, packet->protocol);
	return some & bank->intervals[OPAQUE(scratch->common[FW_DST_PORT])].some &
	       bank->intervals[OPAQUE(scratch->common[FW_SRC_PORT])].some &
	       bank->intervals[OPAQUE(scratch->common[FW_PROTOCOL])].some;
}

static __always_inline __u64 common_word(const struct fw_bank *bank,
					 const struct fw_scratch *scratch, __u32 word)
{
	const struct fw_interval *intervals = bank->intervals;
	__u64 bits = word_of(bank, &intervals[scratch->common[FW_DST_PORT]], word) &
		     word_of(bank, &intervals[scratch->common[FW_DST_ADDR]], word);

	if (!bits)
		return 0;
	bits &= word_of(bank, &intervals[scratch->common[FW_SRC_PORT]], word) &
		word_of(bank, &intervals[scratch->common[FW_SRC_ADDR]], word);
	if (!bits)
		return 0;
	return bits & word_of(bank, &intervals[scratch->common[FW_PROTOCOL]], word);
}

/* The AND of all bitmaps: the first rule of the bank in `slot` that matches, as FOUND; 0: none. */
static __always_inline __u64 among_all(const struct fw_bank *bank, const struct packet *packet,
				       __u32 slot)
{
	__u32 zero = 0, word, number;
	struct fw_scratch *scratch = bpf_map_lookup_elem(&fw_scratch, &zero);
	__u64 words, bits;
	int step;

	if (!scratch)
		return 0;
	words = locate(bank, packet, scratch);
	if (words && bank->asked_count) {
		put_keys(scratch, packet);
		words &= fw_locate(slot);
	}
	for (step = 0; step < FW_WORDS && words; step++) {
		word = lowest_bit(words) & (FW_WORDS - 1);
		words &= words - 1;
		bits = thin(bank, scratch, word, common_word(bank, scratch, word));
		if (!bits)
			continue;
		number = (word * 64 + lowest_bit(bits)) & (FW_RULES - 1);
		return FOUND(&bank->rules[number]);
	}
	return 0;
}

/*
 * The first rule of the bank in `slot` that matches, as FOUND; 0: none. Where one address leaves
 * only a few rules, these are checked one by one. A global function, see fw_locate.
 */
__noinline __u64 fw_classify(const struct packet *packet, __u32 slot)
{
	const struct fw_bank *bank = bank_at(slot);
	__u64 found;

	if (!packet || !bank)
		return 0;
	found = bank->sparse ? among_few(bank, packet) : UNDECIDED;
	return found == UNDECIDED ? among_all(bank, packet, slot) : found;
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

/* Ask the banks of the packet's family in turn; 0: no rule matches. */
static __always_inline struct fw_found first_match(const struct fw_head *head,
						   const struct packet *packet)
{
	union {
		__u64 whole;
		struct fw_found rule;
	} found = {};
	bool wide = packet->family == 6;
	__u32 banks = head->banks[wide], bank, place, slot;

	if (!packet->family)
		return found.rule;
	for (bank = 0; bank < FW_BANKS && bank < banks && !found.whole; bank++) {
		place = wide * FW_BANKS + bank;
		slot = 2 * place + (head->current >> place & 1);
		found.whole = fw_classify(packet, slot);
	}
	return found.rule;
}

#endif
