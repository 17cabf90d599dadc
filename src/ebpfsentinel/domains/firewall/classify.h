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
 * path copying (Driscoll et al., STOC 1986), a tenth of the size. An interval's border, its
 * summary and its leaves' numbers lie in half a cache line.
 *
 * Most packets leave few candidates once both addresses are known; the other fields are located
 * only when there is one, or when the addresses say little. All conditions are such fields, also
 * time: a rule that lapses, or has a schedule, holds in some intervals of the clock, so it lapses
 * when no agent is there any more.
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
	if ((packet->flags & (PACKET_TCP | PACKET_MALFORMED)) == PACKET_TCP)
		return FW_TCP_FLAGS | packet->tcp_flags;
	return packet->icmp == ICMP_NONE ? FW_NOTHING : packet->icmp;
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

/* What the packet has of the fields but the addresses; MACs and time are put where asked for. */
static __always_inline void put_keys(struct fw_scratch *scratch, const struct packet *packet)
{
	bool ports = packet->flags & PACKET_PORTS;

	scratch->keys[FW_DST_PORT] = ports ? packet->dst_port : FW_NOTHING;
	scratch->keys[FW_SRC_PORT] = ports ? packet->src_port : FW_NOTHING;
	scratch->keys[FW_PROTOCOL] = packet->protocol;
	scratch->keys[FW_DETAIL] = detail_of(packet);
	scratch->keys[FW_SERVICE] = service_of(packet);
	scratch->keys[FW_VLAN] = packet->vlan_id;
	scratch->keys[FW_INNER_VLAN] = packet->inner_vlan_id;
	scratch->keys[FW_INTERFACE] = packet->interface;
}

/*
 * Find the intervals that the keys lie in; returns the words in which all of them have a rule.
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
	for (asked = 0; asked < FW_FIELDS - FW_DST_PORT; asked++) {
		if (asked >= (int)bank->asked_count)
			break;
		field = bank->asked[asked] & (FW_FIELD_SLOTS - 1);
		scratch->at[asked] =
			find(bank, &bank->index[field], scratch->keys[field], 0, false);
		some &= bank->intervals[scratch->at[asked]].some;
	}
	return some;
}

/* Of the candidates that word `word` of both addresses leaves, those that all fields leave. */
static __always_inline __u64 thin(const struct fw_bank *bank, const struct fw_scratch *scratch,
				  __u32 word, __u64 bits)
{
	int asked;

	for (asked = 0; asked < FW_FIELDS - FW_DST_PORT && bits; asked++) {
		if (asked >= (int)bank->asked_count)
			break;
		bits &= word_of(bank, &bank->intervals[scratch->at[asked]], word);
	}
	return bits;
}

/* More than four words with candidates: rules that the addresses tell little of. */
static __always_inline bool are_many(__u64 words)
{
	words &= words - 1;
	words &= words - 1;
	words &= words - 1;
	return words & (words - 1);
}

static __always_inline bool ports_hold(const struct fw_rule *rule, const struct packet *packet)
{
	return packet->flags & PACKET_PORTS &&
	       (__u16)(packet->src_port - rule->src_port) <= rule->src_ports &&
	       (__u16)(packet->dst_port - rule->dst_port) <= rule->dst_ports;
}

/* Of the address that is not known to hold. */
static __always_inline bool address_holds(const struct fw_address *asked, const __u32 *address,
					  bool wide)
{
	if (!wide)
		return !((address[0] ^ asked->low) & asked->low_mask);
	return !((pair(address) ^ asked->high) & asked->high_mask) &&
	       !((pair(address + 2) ^ asked->low) & asked->low_mask);
}

static __always_inline bool rare_holds(const struct fw_rule *rule, const struct packet *packet)
{
	__u32 zero = 0;
	struct fw_scratch *scratch = bpf_map_lookup_elem(&fw_scratch, &zero);

	if (!scratch || (traits_of(packet) ^ rule->traits) & rule->traits_mask)
		return false;
	if (rule->asks & FW_ASKS_SRC_MAC && scratch->keys[FW_SRC_MAC] != rule->mac[0])
		return false;
	if (rule->asks & FW_ASKS_DST_MAC && scratch->keys[FW_DST_MAC] != rule->mac[1])
		return false;
	return !(rule->asks & FW_ASKS_TIME) || scratch->keys[FW_TIME] < rule->expires_s;
}

static __always_inline __u16 address_interval(const struct fw_bank *bank,
					      const struct packet *packet, __u32 field)
{
	const __u32 *addr = field == FW_SRC_ADDR ? packet->src_addr : packet->dst_addr;
	const struct fw_index *index = &bank->index[field];

	if (packet->family == 6)
		return find(bank, index, pair(addr), pair(addr + 2), true);
	return find(bank, index, addr[0], 0, false);
}

static __always_inline __u64 first_of_few(const struct fw_bank *bank, const struct packet *packet,
					  bool dst, bool wide)
{
	const __u32 *narrow = dst ? packet->dst_addr : packet->src_addr;
	const __u32 *other = dst ? packet->src_addr : packet->dst_addr;
	const struct fw_index *index = &bank->index[dst ? FW_DST_ADDR : FW_SRC_ADDR];
	const struct fw_few *few =
		&bank->few[wide ? find(bank, index, pair(narrow), pair(narrow + 2), true)
				: find(bank, index, narrow[0], 0, false)];
	__u32 count = few->count;
	int pick;

	if (count == FW_MANY)
		return UNDECIDED;
	for (pick = 0; pick < FW_FEW; pick++) {
		const struct fw_rule *rule = &bank->rules[few->rule[pick] & (FW_RULES - 1)];

		if (pick >= (int)count)
			break;
		if (!address_holds(&rule->address[!dst], other, wide))
			continue;
		if (rule->asks & FW_ASKS_PROTOCOL && rule->protocol != packet->protocol)
			continue;
		if (rule->asks & FW_ASKS_PORTS && !ports_hold(rule, packet))
			continue;
		if (rule->asks & FW_ASKS_RARE) {
			if (rule->asks & FW_ASKS_MORE)
				return UNDECIDED;
			if (!rare_holds(rule, packet))
				continue;
		}
		return FOUND(rule);
	}
	return 0;
}

/*
 * The first rule of the bank in `slot` that matches, as FOUND; 0: none. Where one address leaves
 * only a few rules, these are checked one by one. A global function, see fw_locate.
 */
__noinline __u64 fw_candidates(__u32 slot, bool tc)
{
	struct packet *packet = tc ? packet_of(&tc_packet) : packet_of(&xdp_packet);
	const struct fw_bank *bank = bank_at(slot);

	if (!packet || !bank)
		return 0;
	if (!bank->sparse)
		return UNDECIDED;
	if (packet->family == 6)
		return bank->narrow_field == FW_DST_ADDR ? first_of_few(bank, packet, true, true)
							 : first_of_few(bank, packet, false, true);
	return bank->narrow_field == FW_DST_ADDR ? first_of_few(bank, packet, true, false)
						 : first_of_few(bank, packet, false, false);
}

/*
 * The same where both addresses leave many: the AND of all bitmaps. The other fields are located
 * only when a word of both addresses has a candidate, or when they say little.
 */
__noinline __u64 fw_classify(__u32 slot, bool tc)
{
	__u32 zero = 0, word, number;
	struct packet *packet = tc ? packet_of(&tc_packet) : packet_of(&xdp_packet);
	struct fw_scratch *scratch = bpf_map_lookup_elem(&fw_scratch, &zero);
	const struct fw_bank *bank = bank_at(slot);
	const struct fw_interval *src, *dst;
	bool located = false;
	__u64 words, bits;
	int step;

	if (!packet || !scratch || !bank)
		return 0;
	src = &bank->intervals[address_interval(bank, packet, FW_SRC_ADDR)];
	dst = &bank->intervals[address_interval(bank, packet, FW_DST_ADDR)];
	words = src->some & dst->some;
	if (are_many(words)) {
		put_keys(scratch, packet);
		words &= fw_locate(slot);
		located = true;
	}
	for (step = 0; step < FW_WORDS && words; step++) {
		word = lowest_bit(words) & (FW_WORDS - 1);
		words &= words - 1;
		bits = word_of(bank, src, word) & word_of(bank, dst, word);
		if (!bits)
			continue;
		if (!located) {
			put_keys(scratch, packet);
			fw_locate(slot);
			located = true;
		}
		bits = thin(bank, scratch, word, bits);
		if (!bits)
			continue;
		number = (word * 64 + lowest_bit(bits)) & (FW_RULES - 1);
		return FOUND(&bank->rules[number]);
	}
	return 0;
}

/* MAC addresses and the time, for rule sets that ask for them. */
static __always_inline void put_rare_keys(const struct fw_head *head, void *data, void *end)
{
	__u32 zero = 0;
	struct fw_scratch *scratch = bpf_map_lookup_elem(&fw_scratch, &zero);
	const __be16 *macs = data;

	if (!scratch)
		return;
	if (head->asks_time)
		scratch->keys[FW_TIME] = bpf_ktime_get_boot_ns() / NSEC_PER_SEC;
	if (!head->asks_macs || (void *)(macs + 6) > end)
		return;
	scratch->keys[FW_DST_MAC] = mac(macs);
	scratch->keys[FW_SRC_MAC] = mac(macs + 3);
}

/* Ask the banks of the packet's family in turn; 0: no rule matches. */
static __always_inline struct fw_rule first_match(const struct fw_head *head,
						  const struct packet *packet, bool tc)
{
	union {
		__u64 whole;
		struct fw_rule rule;
	} found = {};
	bool wide = packet->family == 6;
	__u32 banks = head->banks[wide], bank, place, slot;

	if (!packet->family)
		return found.rule;
	for (bank = 0; bank < FW_BANKS && bank < banks && !found.whole; bank++) {
		place = wide * FW_BANKS + bank;
		slot = 2 * place + (head->current >> place & 1);
		found.whole = fw_candidates(slot, tc);
		if (found.whole == UNDECIDED)
			found.whole = fw_classify(slot, tc);
	}
	return found.rule;
}

#endif
