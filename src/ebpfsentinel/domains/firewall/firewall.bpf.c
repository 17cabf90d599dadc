// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The firewall: the first rule that matches a packet decides, at a cost that does not depend on
 * where in the list it stands.
 *
 * The problem. Rules are ranked and the first match wins. A scan costs time per rule, which is
 * 40 us for 4,096; hash and trie lookups per kind of rule lose the ranking.
 *
 * The way chosen: bit vectors (Lakshman and Stiliadis, SIGCOMM 1998; summary words after Baboescu
 * and Varghese, SIGCOMM 2001). Each field of the packet selects a row: a bitmap of the rules which
 * that value satisfies. The AND of all rows has a bit for each rule that matches, and the lowest
 * one is the answer. A summary word per row says which of the 64 words are not zero, so that
 * mostly one or two are looked at.
 *
 * All tables of a family are one map value behind a map-in-map of one slot. A packet looks the
 * value up once, so it sees one generation, whole; user space puts the next one in by one pointer.
 * Inside, everything is plain memory: no helper call, no trie walk. Ports, protocol, VLAN and
 * interface are direct arrays. An address is found among sorted interval bounds, from the bucket
 * of its high bits on, which for most addresses leaves no step at all.
 *
 * What costs time at 4,096 rules is memory, not instructions. So the summaries lie side by side,
 * away from the rows; the words of ports and protocol are read only where those of the addresses
 * leave a rule; VLAN and interface only where some rule asks for them. Measured and rejected: a
 * search without branches (each step costs more than the mispredictions it saves).
 *
 * Rejected: kernel LPM tries (25-90 ns each, four per packet, and not swapped with the rest);
 * decision trees (fast, but minutes to compile and fragile under updates).
 */
#include "firewall.h"
#include "record.h"

#include <bpf/bpf_helpers.h>

struct tables_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fw_tables);
};

EMIT_TYPE(fw_tables, struct fw_tables);
EMIT_TYPE(fw_mode, enum fw_mode);
EMIT_TYPE(packet_action, enum packet_action);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct tables_map);
} fw_ipv4 SEC(".maps"), fw_ipv6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FW_COUNTERS);
	__type(key, __u32);
	__type(value, struct fw_count);
} fw_count SEC(".maps");

RING(fw_events, struct packet_event, 1 << 20);

#define NO_RULE FW_RULES

/* Index of the lowest set bit; BPF has no such instruction (de Bruijn, Leiserson et al. 1998). */
static const __u8 debruijn_index[64] = {
	0,  1,  48, 2,  57, 49, 28, 3,  61, 58, 50, 42, 38, 29, 17, 4,  62, 55, 59, 36, 53, 51,
	43, 22, 45, 39, 33, 30, 24, 18, 12, 5,  63, 47, 56, 27, 60, 41, 37, 16, 54, 35, 52, 21,
	44, 32, 23, 11, 46, 26, 40, 15, 34, 20, 31, 10, 25, 14, 19, 9,  13, 8,  7,  6};

static __always_inline __u32 lowest_bit(__u64 bits)
{
	return debruijn_index[(bits & -bits) * 0x03f79d71b4cb0a89ULL >> 58];
}

static __always_inline const struct fw_tables *tables_of(__u8 family)
{
	__u32 zero = 0;
	void *inner = family == 6 ? bpf_map_lookup_elem(&fw_ipv6, &zero)
				  : bpf_map_lookup_elem(&fw_ipv4, &zero);

	return inner ? bpf_map_lookup_elem(inner, &zero) : 0;
}

static __always_inline __u32 bucket_of(const struct fw_addresses *field, __u64 high)
{
	__u64 bucket = (high - field->origin) >> (field->shift & 63);

	return bucket < FW_BUCKETS ? bucket : FW_BUCKETS - 1;
}

/*
 * The row of the last interval that begins at or below (high, low). Below the origin there is only
 * the first one. Else it lies between the bases of the key's bucket and of the next: halve what is
 * between until one is left.
 */
static __always_inline __u32 address_row(const struct fw_addresses *field, __u64 high, __u64 low,
					 bool wide)
{
	__u32 bucket = bucket_of(field, high);
	__u32 first = field->base[bucket];
	__u32 count = field->base[bucket + 1] - first;
	int step;

	if (high < field->origin)
		return field->row[0];
	for (step = 0; step < 14 && count; step++) {
		__u32 half = (count + 1) >> 1;
		__u32 middle = first + half;
		__u64 reached;

		if (middle >= FW_BOUNDS)
			break;
		reached = field->high[middle] <= high;
		if (wide && field->high[middle] == high)
			reached = field->low[middle] <= low;
		if (reached) {
			first = middle;
			count -= half;
		} else {
			count = half - 1;
		}
	}
	return first < FW_BOUNDS ? field->row[first] : 0;
}

static __always_inline __u64 pair(const __u32 *words)
{
	return (__u64)words[0] << 32 | words[1];
}

/* The barrier keeps check and use of `row` in one register, where the verifier sees both. */
static __always_inline const __u64 *words_at(const struct fw_tables *tables, __u64 row)
{
	asm volatile("" : "+r"(row));
	if (row >= FW_ROWS)
		row = 0;
	asm volatile("" : "+r"(row));
	return tables->rows[row].words;
}

/* The first rule that matches, or NO_RULE. */
static __always_inline __u32 classify(const struct fw_tables *tables, const struct packet *packet,
				      bool wide)
{
	bool vlans = !tables->any_vlan, interfaces = !tables->any_interface;
	__u16 src, dst, src_port, dst_port, protocol, vlan = 0, interface = 0;
	const __u64 *fields[7];
	__u64 summary;
	int step;

	src = wide ? address_row(&tables->src, pair(packet->src_addr), pair(packet->src_addr + 2),
				 true)
		   : address_row(&tables->src, packet->src_addr[0], 0, false);
	dst = wide ? address_row(&tables->dst, pair(packet->dst_addr), pair(packet->dst_addr + 2),
				 true)
		   : address_row(&tables->dst, packet->dst_addr[0], 0, false);
	src_port = dst_port = tables->no_port_row;
	if (packet->flags & PACKET_PORTS) {
		src_port = tables->src_port_row[packet->src_port];
		dst_port = tables->dst_port_row[packet->dst_port];
	}
	protocol = tables->protocol_row[packet->protocol];
	summary = tables->summary[src] & tables->summary[dst] & tables->summary[src_port] &
		  tables->summary[dst_port] & tables->summary[protocol];
	if (vlans) {
		vlan = tables->vlan_row[packet->vlan_id & 0xfff];
		summary &= tables->summary[vlan];
	}
	if (interfaces) {
		interface = tables->interface_row[packet->interface & (INTERFACE_SLOTS - 1)];
		summary &= tables->summary[interface];
	}
	if (!summary)
		return NO_RULE;
	fields[0] = words_at(tables, src);
	fields[1] = words_at(tables, dst);
	fields[2] = words_at(tables, src_port);
	fields[3] = words_at(tables, dst_port);
	fields[4] = words_at(tables, protocol);
	fields[5] = vlans ? words_at(tables, vlan) : fields[4];
	fields[6] = interfaces ? words_at(tables, interface) : fields[4];
	for (step = 0; step < FW_WORDS && summary; step++) {
		__u32 word = lowest_bit(summary) & (FW_WORDS - 1);
		__u64 bits = fields[0][word] & fields[1][word];

		if (bits)
			bits &= fields[2][word] & fields[3][word] & fields[4][word];
		if (bits && (vlans || interfaces))
			bits &= fields[5][word] & fields[6][word];
		if (bits)
			return (word * 64 + lowest_bit(bits)) & (FW_RULES - 1);
		summary &= summary - 1;
	}
	return NO_RULE;
}

static __always_inline void count_hit(__u32 rule_id, __u32 bytes)
{
	struct fw_count *count = bpf_map_lookup_elem(&fw_count, &rule_id);

	if (!count)
		return;
	count->packets++;
	count->bytes += bytes;
}

static __always_inline void report(const struct packet *packet)
{
	struct packet_event *event = record_reserve(fw_events, sizeof(*event));

	if (!event)
		return;
	event->timestamp_ns = bpf_ktime_get_boot_ns();
	__builtin_memcpy(event->src_addr, packet->src_addr, 32);
	event->src_port = packet->src_port;
	event->dst_port = packet->dst_port;
	event->protocol = packet->protocol;
	event->event_type = 0;
	event->action = packet->action;
	event->flags = packet->flags;
	event->rule_id = packet->rule_id;
	event->vlan_id = packet->vlan_id;
	event->cpu_id = bpf_get_smp_processor_id();
	event->version = 1;
	event->tcp_flags = packet->tcp_flags;
	event->bytes = packet->bytes < 65535 ? packet->bytes : 65535;
	event->ifindex = packet->ifindex;
	record_submit(event);
}

/*
 * ARP and IPv6 neighbour discovery (RFC 4861; the stack checks its hop limit) pass where no rule says
 * otherwise, also under a default drop: without them no packet that a rule allows could arrive.
 */
static __always_inline bool is_neighbour_discovery(const struct packet *packet)
{
	if (packet->ethertype == ETHERTYPE_ARP)
		return true;
	return packet->protocol == PROTOCOL_ICMPV6 &&
	       packet->icmp_type >= ICMPV6_ROUTER_SOLICITATION &&
	       packet->icmp_type <= ICMPV6_NEIGHBOUR_ADVERTISEMENT;
}

/*
 * Judge the packet and write the verdict into it; true: it must be dropped. What is not IP, or has
 * no whole IP header, matches no rule: the default policy has it.
 */
static __always_inline bool judge(struct packet *packet)
{
	const struct fw_tables *tables = tables_of(packet->family);
	__u32 rule = NO_RULE;

	if (!tables) {
		count_failure(FAILURE_TABLES);
		return false;
	}
	if (packet->family == 6)
		rule = classify(tables, packet, true);
	else if (packet->family == 4)
		rule = classify(tables, packet, false);
	if (rule < FW_RULES) {
		packet->rule_id = tables->rules[rule].rule_id;
		packet->action = tables->rules[rule].action;
	} else if (!is_neighbour_discovery(packet)) {
		packet->action = tables->default_action;
	}
	if (!packet->dry)
		count_hit(packet->rule_id, packet->bytes);
	if (packet->action == ACTION_PASS)
		return false;
	if (packet->action != ACTION_LOG && (packet->dry || tables->mode == FW_MODE_ALERT))
		packet->flags |= PACKET_WOULD;
	if (packet->dry)
		return false;
	report(packet);
	return packet->action != ACTION_LOG && tables->mode == FW_MODE_BLOCK;
}

SEC("xdp")
int xdp_firewall(struct xdp_md *ctx)
{
	struct packet *packet = packet_of(&xdp_packet);

	if (!packet)
		return XDP_PASS;
	if (judge(packet))
		return xdp_drop(packet);
	return xdp_next(ctx, packet);
}

/* The stand-in where an interface takes no XDP program. */
SEC("tc")
int tc_firewall(struct __sk_buff *ctx)
{
	struct packet *packet = packet_of(&tc_packet);

	if (!packet)
		return TC_NEXT;
	if (!packet->by_xdp && judge(packet))
		return tc_drop(packet);
	return tc_next(ctx, packet);
}

char _license[] SEC("license") = "Dual BSD/GPL";
