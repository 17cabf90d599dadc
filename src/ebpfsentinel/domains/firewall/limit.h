/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How much of what begins a rule lets in, of one source: so many flows at a time, so many in so long.
 * What is over that is denied. Packets of flows that are there are not asked about.
 *
 * Flows are counted where they come about, behind XDP: of a burst that a driver hands over at once, as
 * many more get in. The rates of the sources that were seen longest ago are forgotten first. Where two
 * CPUs have a packet of one source at the same moment, one of them may not be counted: an exchange in one
 * step would keep the firewall from loading before Linux 5.12.
 */
#ifndef EBPFSENTINEL_FIREWALL_LIMIT_H
#define EBPFSENTINEL_FIREWALL_LIMIT_H

#include "firewall.h"
#include "flows.h"
#include "gcra.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, FW_LIMITS);
	__type(key, __u32);
	__type(value, struct fw_limit);
} fw_limits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FW_RATES);
	__type(key, struct fw_rate);
	__type(value, __u64);
} fw_rates SEC(".maps");

static __always_inline bool is_too_fast(const struct fw_limit *limit, struct packet *packet)
{
	struct fw_rate key = {.name = limit->name, .family = packet->family};
	__u64 *tat, none = 0, now_ns;

	__builtin_memcpy(key.addr, packet->src_addr, sizeof(key.addr));
	tat = bpf_map_lookup_elem(&fw_rates, &key);
	if (!tat && !packet->dry) {
		bpf_map_update_elem(&fw_rates, &key, &none, BPF_NOEXIST);
		tat = bpf_map_lookup_elem(&fw_rates, &key);
	}
	if (!tat)
		return false;
	now_ns = packet_now(packet);
	if (!gcra_conforms(*tat, now_ns, limit->tolerance))
		return true;
	if (!packet->dry)
		*tat = (now_ns << GCRA_SHIFT) + gcra_ahead(*tat, now_ns) + limit->interval;
	return false;
}

/* Does the packet begin a flow that is more than its rule lets in? Its state has been asked for. */
static __noinline bool is_over(struct packet *packet)
{
	const struct fw_limit *limit = bpf_map_lookup_elem(&fw_limits, &packet->rule_id);
	const struct flow_source *source;

	if (!limit || packet->flow_state != FLOW_NEW || packet->flow_there)
		return false;
	source = limit->flows ? flow_source_of(packet) : 0;
	if (source && source->flows >= limit->flows)
		return true;
	return limit->interval && is_too_fast(limit, packet);
}

#endif
