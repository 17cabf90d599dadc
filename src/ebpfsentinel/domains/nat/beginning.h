/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A flow's first packet: the rule is found, what it makes of the tuple is worked out, and a port is
 * looked for that makes the answers' tuple one that nobody else has: no other translation, and no
 * socket of this host. The port stays what it was where it can.
 */
#ifndef EBPFSENTINEL_BEGINNING_H
#define EBPFSENTINEL_BEGINNING_H

#include "flows.h"
#include "matching.h"
#include "report.h"

RING(nat_events, struct nat_event, 1 << 18);

#define PROBES 512
#define FREE_PORTS 1024 /* ports below are not given to others than those that asked for them */
#define TELL_NS 1000000000ull

enum begun {
	BEGUN,           /* there is a translation now, in work->to */
	BEGUN_UNTOUCHED, /* the flow stays as it is */
	BEGUN_NO_PORT,
	BEGUN_NO_ADDRESS,
	BEGUN_FULL,
	BEGUN_CONTENDED,
};

/* The ports to choose from, and what a search for one knows. */
struct search {
	struct __sk_buff *ctx;
	struct nat_work *work;
	__u64 now_ns;
	__u32 low;
	__u32 size;
	__u32 start;
	__u32 stride;
	__u32 source_moves; /* the port that is looked for replaces that of the source */
	__u32 asks_socket;
	__u32 result; /* enum bound */
};

static __always_inline void report(struct packet *packet, const struct nat_work *work, __u32 number,
				   __u32 action)
{
	struct nat_rule_count *count = bpf_map_lookup_elem(&nat_rule_count, &number);
	struct nat_event *event;
	__u64 now_ns = packet_now(packet);

	if (!count || (count->told_ns && now_ns - count->told_ns < TELL_NS))
		return;
	event = record_reserve(nat_events, sizeof(*event));
	if (!event)
		return;
	count->told_ns = now_ns;
	put_packet_event(&event->packet, packet, NAT_EVENT_TYPE);
	event->packet.rule_id = number;
	event->packet.action = action;
	__builtin_memcpy(event->to_addr,
			 work->key.hook == TR_EGRESS ? work->to.src_addr : work->to.dst_addr, 16);
	event->to_port = work->key.hook == TR_EGRESS ? work->to.src_port : work->to.dst_port;
	event->pad = 0;
	event->count = action == NAT_ACTION_WOULD ? count->would : count->failed;
	record_submit(event);
}

/* An address of the interface; false: it has none of the family. */
static __always_inline bool put_link(__u32 *addr, const struct nat_rules *rules,
				     const struct packet *packet)
{
	const struct nat_link *link = &rules->links[packet->interface & (NAT_LINKS - 1)];

	if (packet->family == 4 ? !link->has_v4 : !link->has_v6)
		return false;
	if (packet->family == 4)
		addr[0] = link->v4;
	else
		__builtin_memcpy(addr, link->v6, 16);
	return true;
}

static __always_inline void put_address(__u32 *addr, const struct nat_rule *rule)
{
	int word;

	for (word = 0; word < 4; word++)
		addr[word] = (addr[word] & rule->keep_mask[word]) | rule->to_addr[word];
}

static __always_inline __u16 destination_port(const struct nat_rule *rule, __u16 port)
{
	if (!rule->to_port)
		return port;
	if (rule->shift_port)
		return rule->to_port + (port - rule->dst_port);
	return rule->to_port + bpf_get_prandom_u32() % (rule->to_ports + 1u);
}

/* The rule's addresses, and the port of a destination; false: there is no address to be had. */
static __always_inline bool apply(const struct nat_rules *rules, const struct nat_rule *rule,
				  const struct packet *packet, struct tr_tuple *to)
{
	if (rule->what == NAT_MASQ)
		return put_link(to->src_addr, rules, packet);
	if (rule->what == NAT_SNAT) {
		put_address(to->src_addr, rule);
		return true;
	}
	if (rule->what == NAT_REDIRECT)
		put_link(to->dst_addr, rules, packet);
	else
		put_address(to->dst_addr, rule);
	if (packet->flags & PACKET_PORTS && rewrites_ports(packet))
		to->dst_port = destination_port(rule, to->dst_port);
	return true;
}

/* Which ports may the source get? */
static __always_inline void put_range(struct search *search, const struct nat_rule *rule,
				      const struct packet *packet)
{
	bool own = rule && search->source_moves && rule->to_port && packet->flags & PACKET_PORTS;

	search->low = own ? rule->to_port : is_icmp(packet) ? 0 : FREE_PORTS;
	search->size = own ? rule->to_ports + 1u : 0x10000 - search->low;
	search->stride = search->size <= PROBES ? 1 : bpf_get_prandom_u32() | 1;
	search->start = bpf_get_prandom_u32();
}

static __always_inline void set_entries(struct nat_work *work, const struct tr_head *head,
					const struct packet *packet, __u64 now_ns, __u8 flags,
					__u16 rule)
{
	__u8 class = class_of(packet->protocol);
	struct tr_entry *entry = &work->entry, *answer = &work->answer;

	__builtin_memset(entry, 0, sizeof(*entry));
	__builtin_memset(answer, 0, sizeof(*answer));
	entry->from = work->key;
	entry->serial = answer->serial = bpf_get_prandom_u32() | 1;
	entry->state = answer->state =
		packet->tcp_flags & (TCP_FIN | TCP_RST) ? TR_CLOSING : TR_NEW;
	entry->until_ns = answer->until_ns = now_ns + head->timeout_ns[class & 3][TR_NEW];
	entry->since_ns = answer->since_ns = now_ns;
	entry->flags = flags;
	answer->flags = flags | TR_REPLY;
	entry->rule = answer->rule = rule;
	entry->masquerade = answer->masquerade = head->masquerade;
	entry->ifindex_slot = answer->ifindex_slot = packet->interface;
	entry->packets = 1;
	entry->bytes = packet->bytes;
	tr_reverse(&answer->to, &work->key);
	answer->to.hook ^= 1;
}

/* work->to is the candidate: complete both entries with it and put them in. */
static __always_inline int try_candidate(struct nat_work *work, __u64 now_ns)
{
	__u8 same = tr_same(&work->to, &work->key) ? TR_IDENTITY : 0;

	work->entry.flags = (work->entry.flags & ~TR_IDENTITY) | same;
	work->answer.flags = (work->answer.flags & ~TR_IDENTITY) | same;
	work->entry.to = work->to;
	tr_reverse(&work->answer.from, &work->to);
	work->answer.from.hook = work->key.hook ^ 1;
	return nat_bind(work, now_ns);
}

static long probe(__u32 at, void *context)
{
	struct search *search = context;
	struct nat_work *work = search->work;
	__u16 port = search->low +
		     (search->start + at * search->stride) % (search->size ? search->size : 1);

	work->to.src_port = port;
	tr_reverse(&work->back, &work->to);
	if (search->asks_socket && nat_owner(search->ctx, &work->back) != OWNER_NONE)
		return 0;
	search->result = try_candidate(work, search->now_ns);
	return search->result != BOUND_TAKEN;
}

/* Is the port one that the flow may keep? */
static __always_inline bool keeps_port(const struct search *search, const struct nat_rule *rule,
				       const struct packet *packet)
{
	__u16 port = search->work->to.src_port;

	if (!rule || !rule->to_port || !search->source_moves || !(packet->flags & PACKET_PORTS))
		return true;
	return (__u16)(port - rule->to_port) <= rule->to_ports;
}

/* Bind work->key to work->to, with another source port where that is taken. */
static __always_inline enum bound search_port(struct search *search, const struct nat_rule *rule,
					      const struct packet *packet)
{
	struct nat_work *work = search->work;
	bool same = tr_same(&work->to, &work->key);

	if (keeps_port(search, rule, packet)) {
		tr_reverse(&work->back, &work->to);
		if (same || !search->asks_socket ||
		    nat_owner(search->ctx, &work->back) == OWNER_NONE) {
			search->result = try_candidate(work, search->now_ns);
			if (search->result != BOUND_TAKEN)
				return search->result;
		}
	}
	if (!rewrites_ports(packet) || packet->flags & PACKET_LATER_FRAGMENT)
		return BOUND_TAKEN;
	put_range(search, rule, packet);
	search->result = BOUND_TAKEN;
	bpf_loop(search->size < PROBES ? search->size : PROBES, probe, search, 0);
	return search->result;
}

/* The rule that a flow's first packet goes by: 1 + its place, 0: none. */
static __always_inline __u32 find_rule(struct __sk_buff *ctx, const struct nat_rules *rules,
				       const struct packet *packet, const struct tr_head *head,
				       struct nat_work *work, enum tr_hook hook, bool portless)
{
	struct walk walk = {.rules = rules, .packet = packet, .portless = portless};
	__u32 count = hook == TR_EGRESS ? rules->source_count : rules->destination_count;
	struct tr_entry *known;

	if (!count)
		return 0;
	walk.list = hook == TR_EGRESS ? rules->source : rules->destination;
	if (hook == TR_EGRESS && rules->asks & NAT_ASKS_TRANSLATED) {
		tr_reverse(&work->back, &work->key);
		known = look_up(head, &work->back, &work->to, work->entry.since_ns);
		walk.translated = known && !(known->flags & TR_IDENTITY);
	}
	if (hook == TR_INGRESS && rules->asks & NAT_ASKS_LOCAL)
		walk.local = nat_is_local(ctx, packet);
	bpf_loop(count, ask_rule, &walk, 0);
	return walk.found;
}

/*
 * Is the packet of a flow that rules are not to be asked about: does it answer, or is the flow older than the
 * rules? One that nobody has answered yet is not spared: it may be that it waits for just these rules.
 * Not by flow_of(): that asks for translations as well, and this packet has none.
 */
static __noinline bool is_settled(struct __sk_buff *ctx, struct packet *packet,
				  const struct tr_head *head)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	void *table = flow_table_in_force();
	const struct flow_entry *entry;
	struct flow_search search;
	__u16 ports[2];

	if (!table || (packet->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN ||
	    !flow_ports(packet, data, end, ports))
		return false;
	flow_put_key(&search, packet, ports);
	entry = flow_find(table, &search, packet_now(packet));
	if (!entry || entry->status & FLOW_ENDED)
		return false;
	if ((entry->status >> FLOW_OPENED_BY & 1) != search.from)
		return true;
	return entry->start_ns < judged_since(head, packet) &&
	       entry->status >> (FLOW_SEEN + (search.from ^ 1)) & 1;
}

static __always_inline __u8 flags_of(const struct nat_rule *rule)
{
	if (rule && rule->what == NAT_MASQ)
		return TR_MASQUERADE | TR_SOURCE;
	return rule && rule->what == NAT_SNAT ? TR_SOURCE : 0;
}

/* No rule, or none that may: the flow stays as it is, unless another has its answers' tuple. */
static __always_inline const struct nat_rule *
rule_for(struct __sk_buff *ctx, const struct nat_rules *rules, struct packet *packet,
	 const struct tr_head *head, struct nat_work *work, enum tr_hook hook)
{
	const struct nat_rule *rule;
	struct nat_rule_count *count;
	__u32 found, place, number;

	if (hook == TR_EGRESS && (packet->tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK))
		return 0; /* nobody begins a flow like that: it answers one from before the table */
	if (is_settled(ctx, packet, head))
		return 0;
	found = find_rule(ctx, rules, packet, head, work, hook, false);
	place = found - 1;
	barrier_var(place); /* what is compared is what is used, for the verifier of Linux 6.1 */
	if (place >= NAT_RULES)
		return 0;
	rule = hook == TR_EGRESS ? &rules->source[place] : &rules->destination[place];
	if (must_stay(ctx, packet, &work->key, hook)) {
		struct nat_count *all = counters();

		if (all)
			all->spared++;
		return 0;
	}
	if (!rules->alert)
		return rule;
	number = rule->number;
	count = bpf_map_lookup_elem(&nat_rule_count, &number);
	if (count)
		count->would++;
	packet->flags |= PACKET_WOULD;
	work->to = work->key;
	apply(rules, rule, packet, &work->to);
	report(packet, work, number, NAT_ACTION_WOULD);
	return 0;
}

static __always_inline void count_begun(const struct nat_rule *rule, enum bound bound)
{
	struct nat_rule_count *of_rule;
	struct nat_count *count = counters();
	__u32 number;

	if (!rule || !count)
		return;
	number = rule->number;
	of_rule = bpf_map_lookup_elem(&nat_rule_count, &number);
	if (!of_rule)
		return;
	if (bound == BOUND) {
		of_rule->translations++;
		count->created++;
	} else {
		of_rule->failed++;
	}
}

static __always_inline enum begun begin(struct __sk_buff *ctx, struct packet *packet,
					struct nat_work *work, const struct tr_head *head,
					enum tr_hook hook)
{
	struct search search = {.ctx = ctx, .work = work, .now_ns = packet_now(packet)};
	const struct nat_rules *rules = rules_in_force();
	const struct nat_rule *rule;
	enum bound bound;

	if (!rules || !(rules->source_count | rules->destination_count))
		return BEGUN_UNTOUCHED;
	work->entry.since_ns = search.now_ns;
	rule = rule_for(ctx, rules, packet, head, work, hook);
	work->to = work->key;
	if (rule && !apply(rules, rule, packet, &work->to))
		return BEGUN_NO_ADDRESS;
	set_entries(work, head, packet, search.now_ns, flags_of(rule), rule ? rule->number : 0);
	search.source_moves = hook == TR_EGRESS;
	search.asks_socket = hook == TR_EGRESS;
	bound = search_port(&search, rule, packet);
	if (bound == BOUND_RACED) {
		if (!look_up(head, &work->key, &work->to, search.now_ns))
			return BEGUN_CONTENDED;
		return BEGUN;
	}
	count_begun(rule, bound);
	if (bound == BOUND)
		return BEGUN;
	if (bound == BOUND_TAKEN) {
		if (rule)
			report(packet, work, rule->number, NAT_ACTION_EXHAUSTED);
		return BEGUN_NO_PORT;
	}
	if (!rule)
		return BEGUN_UNTOUCHED;
	return bound == BOUND_FULL ? BEGUN_FULL : BEGUN_CONTENDED;
}

#endif
