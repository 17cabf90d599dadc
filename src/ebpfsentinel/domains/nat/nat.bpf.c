// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Address translation. What comes in is translated before it is routed and before anything else of
 * TC sees it; what leaves, after all else has: so all of the host but the wire knows a flow by one
 * tuple.
 *
 * A packet of a known flow is looked up, rewritten and handed on. All else is rare, and the work of
 * programs that are called for it: the first packet of a flow, ICMP errors, and fragments. A packet
 * that should be translated and cannot be never goes on as it is: it is dropped, and counted by why.
 */
#include "beginning.h"
#include "prefixes.h"
#include "quoting.h"

EMIT_TYPE(nat_what, enum nat_what);
EMIT_TYPE(tr_state, enum tr_state);
EMIT_TYPE(tr_entry, struct tr_entry);

enum call { CALL_NEW, CALL_ERROR, CALL_FRAGMENT, CALLS };

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2 * CALLS);
	__type(key, __u32);
	__type(value, __u32);
} nat_calls SEC(".maps");

static __always_inline int go_on(struct __sk_buff *ctx, struct packet *packet, enum tr_hook hook)
{
	return hook == TR_INGRESS ? tc_next(ctx, packet) : egress_next(ctx, packet);
}

static __always_inline int refuse(struct __sk_buff *ctx, struct packet *packet, enum tr_hook hook)
{
	return hook == TR_INGRESS ? tc_drop(ctx, packet) : egress_drop(ctx, packet);
}

/* What may be half written goes nowhere, floor or not. */
static __always_inline int discard(struct nat_count *count)
{
	count->errors++;
	return TC_SHOT;
}

/* Multicast, broadcast, loopback and what is of one link only have no business with translation. */
static __always_inline bool is_translatable(const struct packet *packet)
{
	__u32 to = packet->dst_addr[0], from = packet->src_addr[0];

	if (packet->family == 4)
		return from && to >> 28 != 14 && to != 0xffffffff && to >> 24 != 127 &&
		       from >> 24 != 127;
	return packet->family == 6 && to >> 24 != 0xff && to >> 22 != 0x3fa &&
	       from >> 22 != 0x3fa && (from | packet->src_addr[1] | packet->src_addr[2]) &&
	       !is_neighbour_discovery(packet);
}

static __always_inline void read_identifier(struct __sk_buff *ctx, const struct packet *packet,
					    struct tr_tuple *key)
{
	__be16 identifier = 0;

	bpf_skb_load_bytes(ctx, packet->l4_offset + ICMP_ID, &identifier, sizeof(identifier));
	if (is_request(packet))
		key->src_port = bpf_ntohs(identifier);
	else
		key->dst_port = bpf_ntohs(identifier);
}

static __always_inline void count_applied(struct nat_count *count, const struct tr_entry *entry)
{
	__u8 flags = entry->flags;

	if (flags & TR_IDENTITY)
		count->untouched++;
	else if (flags & TR_MASQUERADE)
		count->masq_applied++;
	else if (flags & TR_SOURCE)
		count->snat_applied++;
	else
		count->dnat_applied++;
}

/* The key of a fragment: its identification in place of ports. */
static __always_inline void fragment_key(const struct packet *packet, struct tr_tuple *key,
					 enum tr_hook hook)
{
	__builtin_memset(key, 0, sizeof(*key));
	__builtin_memcpy(key->src_addr, packet->src_addr, 32);
	key->src_port = packet->fragment_id >> 16;
	key->dst_port = packet->fragment_id;
	key->protocol = packet->protocol;
	key->family = packet->family;
	key->hook = hook;
	key->kind = TR_FRAGMENT;
}

/* The first fragment of a flow whose translation is work->to: those behind it go the same way. */
static __always_inline void remember_fragments(const struct packet *packet, struct nat_work *work,
					       const struct tr_head *head, __u64 now_ns,
					       enum tr_hook hook)
{
	struct tr_entry *entry = &work->entry;

	__builtin_memset(entry, 0, sizeof(*entry));
	fragment_key(packet, &entry->from, hook);
	entry->to = entry->from;
	__builtin_memcpy(entry->to.src_addr, work->to.src_addr, 32);
	entry->serial = bpf_get_prandom_u32() | 1;
	entry->until_ns = now_ns + head->timeout_ns[TR_CLASS_ICMP][TR_NEW];
	entry->since_ns = now_ns;
	entry->flags = tr_same(&entry->to, &entry->from) ? TR_IDENTITY : 0;
	nat_put(entry, now_ns);
}

/* The address that a translation masquerades with is no more the interface's. */
static __always_inline bool is_outdated(const struct tr_head *head, struct tr_entry *entry,
					const struct packet *packet, const struct tr_tuple *to)
{
	const struct nat_rules *rules;
	__u32 addr[4] = {};

	if ((entry->flags & (TR_MASQUERADE | TR_REPLY)) != TR_MASQUERADE ||
	    entry->masquerade == head->masquerade)
		return false;
	rules = rules_in_force();
	if (!rules)
		return false;
	if (!put_link(addr, rules, packet) ||
	    (addr[0] ^ to->src_addr[0]) | (addr[1] ^ to->src_addr[1]) |
		    (addr[2] ^ to->src_addr[2]) | (addr[3] ^ to->src_addr[3]))
		return true;
	entry->masquerade = head->masquerade;
	return false;
}

/*
 * Are rules asked here? Where there are none, nothing need be put down, as long as flows say what answers
 * what; without connection tracking, the table of translations has to.
 */
static __always_inline bool is_judged(const struct tr_head *head, const struct packet *packet)
{
	return judged_since(head, packet) || !flow_table_in_force();
}

/* An ICMP error is looked up by what it quotes. */
static __always_inline bool may_be_known(const struct tr_head *head, const struct packet *packet,
					 enum tr_hook hook)
{
	const __u8 *mark = mark_of(head, packet->src_addr, packet->dst_addr, hook);

	return !mark || OPAQUE(*mark) || is_error(packet);
}

static __always_inline int translate(struct __sk_buff *ctx, struct packet *packet,
				     const enum tr_hook hook)
{
	const struct tr_head *head = tr_head_now();
	struct nat_count *count = counters();
	struct nat_work *work;
	struct tr_entry *entry;
	__u64 now_ns;
	bool judged;
	int mapped;

	if (!head || !count || !head->active || !is_translatable(packet))
		return go_on(ctx, packet, hook);
	count->total_seen++;
	if (head->prefixes && packet->family == 6) {
		mapped = hook == TR_INGRESS ? nat_map_in(ctx) : nat_map_out(ctx);
		if (mapped == MAPPED) {
			count->nptv6_translated++;
			return go_on(ctx, packet, hook);
		}
		if (mapped == MAPPED_NOT) {
			count->nptv6_untranslatable++;
			return refuse(ctx, packet, hook);
		}
		if (mapped == MAPPED_ERROR)
			return discard(count);
	}
	judged = is_judged(head, packet);
	if (!judged && !may_be_known(head, packet, hook)) {
		count->untouched++;
		return go_on(ctx, packet, hook);
	}
	work = work_of(hook);
	if (!work)
		return go_on(ctx, packet, hook);
	if (packet->flags & (PACKET_LATER_FRAGMENT | PACKET_MALFORMED)) {
		bpf_tail_call(ctx, &nat_calls, hook * CALLS + CALL_FRAGMENT);
		return discard(count);
	}
	if (is_error(packet)) {
		bpf_tail_call(ctx, &nat_calls, hook * CALLS + CALL_ERROR);
		return discard(count);
	}
	tr_tuple_of(&work->key, packet, hook);
	if (is_echo(packet))
		read_identifier(ctx, packet, &work->key);
	now_ns = packet_now(packet);
	entry = look_up(head, &work->key, &work->to, now_ns);
	if (!entry || is_outdated(head, entry, packet, &work->to)) {
		if (entry) {
			nat_clear(entry->peer, entry->serial);
			entry->until_ns = 0;
		} else if (!judged) {
			count->untouched++;
			return go_on(ctx, packet, hook);
		}
		bpf_tail_call(ctx, &nat_calls, hook * CALLS + CALL_NEW);
		return discard(count);
	}
	refresh(head, entry, packet, now_ns);
	count_applied(count, entry);
	if (packet->flags & PACKET_FRAGMENT)
		remember_fragments(packet, work, head, now_ns, hook);
	if (!(entry->flags & TR_IDENTITY) && !rewrite(ctx, packet, &work->key, &work->to, true))
		return discard(count);
	return go_on(ctx, packet, hook);
}

/* A flow's first packet. */
static __always_inline int translate_first(struct __sk_buff *ctx, struct packet *packet,
					   const enum tr_hook hook)
{
	const struct tr_head *head = tr_head_now();
	struct nat_count *count = counters();
	struct nat_work *work = work_of(hook);
	enum begun begun;
	__u8 flags;

	if (!head || !count || !work)
		return TC_SHOT;
	begun = begin(ctx, packet, work, head, hook);
	if (begun == BEGUN_UNTOUCHED)
		return go_on(ctx, packet, hook);
	if (begun != BEGUN) {
		count->port_alloc_fail += begun == BEGUN_NO_PORT;
		count->no_address += begun == BEGUN_NO_ADDRESS;
		count->table_full += begun == BEGUN_FULL;
		count->contended += begun == BEGUN_CONTENDED;
		return refuse(ctx, packet, hook);
	}
	flags = work->entry.flags;
	count->clashed += !work->entry.rule && !(flags & TR_IDENTITY);
	count_applied(count, &work->entry);
	if (packet->flags & PACKET_FRAGMENT)
		remember_fragments(packet, work, head, packet_now(packet), hook);
	if (!(flags & TR_IDENTITY) && !rewrite(ctx, packet, &work->key, &work->to, true))
		return discard(count);
	return go_on(ctx, packet, hook);
}

static __always_inline int translate_quote(struct __sk_buff *ctx, struct packet *packet,
					   const enum tr_hook hook)
{
	const struct tr_head *head = tr_head_now();
	struct nat_count *count = counters();
	struct nat_work *work = work_of(hook);
	enum quoted quoted;

	if (!head || !count || !work)
		return TC_SHOT;
	quoted = translate_error(ctx, packet, work, head, hook);
	if (quoted == QUOTED_ERROR)
		return discard(count);
	count->icmp_errors += quoted == QUOTED_TRANSLATED;
	return go_on(ctx, packet, hook);
}

/*
 * A later fragment goes the way of its first. Where that was not seen, a rule that may be meant
 * decides: what it would translate does not go out as it is.
 */
static __always_inline int translate_fragment(struct __sk_buff *ctx, struct packet *packet,
					      const enum tr_hook hook)
{
	const struct tr_head *head = tr_head_now();
	const struct nat_rules *rules = rules_in_force();
	struct nat_count *count = counters();
	struct nat_work *work = work_of(hook);
	struct tr_entry *entry;

	if (!head || !count || !work || !rules)
		return TC_SHOT;
	work->entry.since_ns = packet_now(packet);
	fragment_key(packet, &work->key, hook);
	entry = look_up(head, &work->key, &work->to, packet_now(packet));
	if (entry && entry->flags & TR_IDENTITY)
		return go_on(ctx, packet, hook);
	if (entry) {
		count->fragments++;
		if (!rewrite(ctx, packet, &work->key, &work->to, false))
			return discard(count);
		return go_on(ctx, packet, hook);
	}
	if (rules->alert || !find_rule(ctx, rules, packet, head, work, hook, true))
		return go_on(ctx, packet, hook);
	count->fragment_unknown++;
	return refuse(ctx, packet, hook);
}

#define PROGRAM(name, section, scratch, does, hook)                                                \
	SEC(section)                                                                               \
	int name(struct __sk_buff *ctx)                                                            \
	{                                                                                          \
		struct packet *packet = packet_of(&scratch);                                       \
                                                                                                   \
		return packet ? does(ctx, packet, hook) : TC_SHOT;                                 \
	}

PROGRAM(tc_nat, "tc", tc_packet, translate, TR_INGRESS)
PROGRAM(tc_nat_new, "tc", tc_packet, translate_first, TR_INGRESS)
PROGRAM(tc_nat_error, "tc", tc_packet, translate_quote, TR_INGRESS)
PROGRAM(tc_nat_fragment, "tc", tc_packet, translate_fragment, TR_INGRESS)
PROGRAM(egress_nat, "tc/egress", egress_packet, translate, TR_EGRESS)
PROGRAM(egress_nat_new, "tc/egress", egress_packet, translate_first, TR_EGRESS)
PROGRAM(egress_nat_error, "tc/egress", egress_packet, translate_quote, TR_EGRESS)
PROGRAM(egress_nat_frag, "tc/egress", egress_packet, translate_fragment, TR_EGRESS)

char _license[] SEC("license") = "Dual BSD/GPL";
