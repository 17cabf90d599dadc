// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Connection tracking: every packet that comes in or leaves is put down with its flow. It drops nothing,
 * in no mode: what a packet is to the flows there are stands in packet->flow_state, for others.
 *
 * A packet is counted once: what is forwarded, at the interface where it came in, if we are there; what
 * goes over lo, when it leaves.
 */
#include "chain.h"
#include "fast_path.h"
#include "track.h"

EMIT_TYPE(ct_onlooker, enum ct_onlooker);

#define LOOPBACK_IFINDEX 1
#define ETHERNET_BYTES 14

SEC("tc")
int tc_conntrack(struct __sk_buff *ctx)
{
	struct packet *packet = packet_of(&tc_packet);
	struct track track;

	if (!packet)
		return TC_NEXT;
	if (packet->ifindex != LOOPBACK_IFINDEX && ct_prepare(&track, ctx, packet, false))
		ct_track(&track);
	return tc_next(ctx, packet);
}

/* Was it put down where it came in? */
static __always_inline bool ct_came_in(__u32 ifindex)
{
	__u32 zero = 0;
	const struct interfaces *known = bpf_map_lookup_elem(&interfaces, &zero);

	return known && ifindex < INTERFACES && known->by_ifindex[ifindex].slot; /* 0 has none */
}

SEC("tc/egress")
int egress_conntrack(struct __sk_buff *ctx)
{
	struct packet *packet = packet_of(&egress_packet);
	struct track track;

	if (!packet)
		return TC_NEXT;
	if (!ct_came_in(ctx->ingress_ifindex) &&
	    ct_prepare(&track, ctx, packet, !ctx->ingress_ifindex))
		ct_track(&track);
	return egress_next(ctx, packet);
}

SEC("tc")
int tc_fast_path(struct __sk_buff *ctx)
{
	struct packet *packet = packet_of(&tc_packet);

	return packet ? ct_take_path(ctx, packet) : TC_NEXT;
}

/* Right in front of egress_conntrack, which has no business with what came in. */
SEC("tc/egress")
int egress_fast_path(struct __sk_buff *ctx)
{
	struct packet *packet = packet_of(&egress_packet);

	if (!packet)
		return TC_NEXT;
	if (ct_came_in(ctx->ingress_ifindex)) {
		ct_learn_path(ctx, packet);
		packet->slot++;
	}
	return egress_next(ctx, packet);
}

/* The programs below are never attached: user space runs them (BPF_PROG_RUN). */

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u32);
} ct_calls SEC(".maps");

/* Which set of the table from before is next. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} ct_cursor SEC(".maps");

/* Look for lapsed flows in some sets. */
SEC("tc")
int flow_sweep(struct __sk_buff *ctx __attribute__((unused)))
{
	void *table = flow_table_in_force();

	return table ? ct_sweep(table, bpf_ktime_get_boot_ns()) : 0;
}

/* Move the flows of one set of the table from before. */
SEC("tc")
int flow_move(struct __sk_buff *ctx __attribute__((unused)))
{
	__u32 zero = 0, slot = 1, way;
	void *table = flow_table_in_force(), *before = bpf_map_lookup_elem(&flow_tables, &slot);
	const struct flow_head *head = before ? flow_head_of(before) : 0;
	__u64 *cursor = bpf_map_lookup_elem(&ct_cursor, &zero), now_ns = bpf_ktime_get_boot_ns();
	struct flow_search search = {};
	struct flow_set *set;

	if (!table || !head || !head->sets || !cursor)
		return 0;
	set = flow_set_at(before, __sync_fetch_and_add(cursor, 1) % head->sets);
	if (!set)
		return 0;
	for (way = 0; way < FLOW_WAYS; way++)
		ct_move(table, set, way, now_ns, &search);
	return 0;
}

static __noinline int ct_end_one(void *table, struct flow_search *search, bool barred)
{
	__u64 now_ns = bpf_ktime_get_boot_ns();
	const struct flow_head *head = flow_head_of(table);
	__u32 way;
	struct flow_set *set = flow_seek(table, search, &way);

	if (!head || !set)
		return 0;
	return barred ? ct_bar(head, set, way, now_ns) : ct_release(set, way, now_ns, CT_ENDED);
}

/* End the flows whose keys stand behind the link header, whose first byte says whether to bar them. */
SEC("tc")
int flow_end(struct __sk_buff *ctx)
{
	void *table = flow_table_in_force();
	struct flow_search search = {};
	__u8 barred = 0;
	__u32 at;

	if (!table || bpf_skb_load_bytes(ctx, 0, &barred, sizeof(barred)))
		return 0;
	for (at = 0; at < CT_END_KEYS; at++) {
		if (bpf_skb_load_bytes(ctx, ETHERNET_BYTES + at * sizeof(search.key), &search.key,
				       sizeof(search.key)) ||
		    !search.key.family)
			break;
		ct_end_one(table, &search, barred);
	}
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
