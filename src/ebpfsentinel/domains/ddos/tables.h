/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What DDoS defence keeps: limits, counts, buckets, parties and blocks. */
#ifndef EBPFSENTINEL_DDOS_TABLES_H
#define EBPFSENTINEL_DDOS_TABLES_H

#include "ddos.h"
#include "gcra.h"

struct ddos_generation {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ddos_head);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct ddos_generation);
} ddos_head SEC(".maps");

EMIT_TYPE(ddos_head, struct ddos_head);
EMIT_TYPE(ddos_mode, enum ddos_mode);
EMIT_TYPE(ddos_type, enum ddos_type);
EMIT_TYPE(ddos_reason, enum ddos_reason);
EMIT_TYPE(packet_action, enum packet_action);

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ddos_count);
} ddos_count SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ddos_cpu);
} ddos_cpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ddos_shared);
} ddos_shared SEC(".maps");

/* Source ports of amplifiers, each with the limit of one source. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DDOS_PORTS);
	__type(key, __u16);
	__type(value, struct ddos_limit);
} ddos_ports SEC(".maps");

/* When a source's bucket is full again (gcra.h). */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, DDOS_METERS);
	__type(key, struct ddos_party);
	__type(value, __u64);
} ddos_meters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, DDOS_SOURCES);
	__type(key, struct ddos_party);
	__type(value, struct ddos_traffic);
} ddos_sources SEC(".maps"), ddos_targets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DDOS_BLOCKED);
	__type(key, struct ddos_prefix);
	__type(value, struct ddos_block);
} ddos_blocked SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} ddos_calls SEC(".maps");

RING(ddos_events, struct ddos_event, 1 << 18);

/* One packet's way through: what of the maps it needs more than once. */
struct scene {
	void *ctx;
	void *data;
	void *end;
	const struct ddos_head *head;
	struct ddos_count *count;
	struct ddos_cpu *cpu;
	struct ddos_shared *shared;
	struct packet *packet;
	__u32 type;
	__u32 attack; /* for which its source is blocked */
};

static __always_inline bool look_up_scene(struct scene *scene)
{
	__u32 zero = 0;
	void *inner = bpf_map_lookup_elem(&ddos_head, &zero);

	scene->head = inner ? bpf_map_lookup_elem(inner, &zero) : 0;
	scene->count = bpf_map_lookup_elem(&ddos_count, &zero);
	scene->cpu = bpf_map_lookup_elem(&ddos_cpu, &zero);
	scene->shared = bpf_map_lookup_elem(&ddos_shared, &zero);
	if (scene->head && scene->count && scene->cpu && scene->shared)
		return true;
	count_failure(FAILURE_TABLES);
	return false;
}

static __always_inline struct ddos_party source_of(const struct packet *packet, __u32 type)
{
	struct ddos_party party = {.family = packet->family, .type = type};

	__builtin_memcpy(party.addr, packet->src_addr, sizeof(party.addr));
	if (type == DDOS_UDP_AMPLIFICATION)
		party.port = packet->src_port;
	return party;
}

static __always_inline struct ddos_party target_of(const struct packet *packet, __u32 type)
{
	struct ddos_party party = {
		.family = packet->family, .type = type, .port = packet->dst_port};

	__builtin_memcpy(party.addr, packet->dst_addr, sizeof(party.addr));
	return party;
}

static __always_inline void put_down(void *map, const struct ddos_party *party, __u64 packets,
				     __u64 bytes, struct ddos_count *count)
{
	struct ddos_traffic *traffic = bpf_map_lookup_elem(map, party);
	struct ddos_traffic fresh = {.packets = packets, .bytes = bytes};

	if (traffic) {
		__sync_fetch_and_add(&traffic->packets, packets);
		__sync_fetch_and_add(&traffic->bytes, bytes);
		return;
	}
	if (!bpf_map_update_elem(map, party, &fresh, BPF_NOEXIST))
		count->new_sources++;
}

static __noinline void sample(const struct packet *packet, struct ddos_count *count, __u32 type,
			      __u32 every)
{
	struct ddos_party source = source_of(packet, type), target = target_of(packet, type);
	__u64 bytes = (__u64)packet->bytes * every;

	put_down(&ddos_sources, &source, every, bytes, count);
	put_down(&ddos_targets, &target, every, bytes, count);
}

static __always_inline bool is_sampled(const struct scene *scene, __u32 type)
{
	__u32 every = scene->head->sample_every[type];

	if (!every)
		return false;
	if (__builtin_expect(scene->cpu->until_sample[type] != 0, 1)) {
		scene->cpu->until_sample[type]--;
		return false;
	}
	scene->cpu->until_sample[type] = every - 1;
	return true;
}

/* One token of the source's bucket; false: it has none left. A dry packet takes none. */
static __always_inline bool conforms(const struct scene *scene, const struct ddos_party *party,
				     const struct ddos_limit *limit)
{
	__u64 now_ns = packet_now(scene->packet);
	__u64 fresh = (now_ns << GCRA_SHIFT) + limit->interval;
	__u64 *tat = bpf_map_lookup_elem(&ddos_meters, party);

	if (tat)
		return scene->packet->dry
			       ? gcra_conforms(*tat, now_ns, limit->tolerance)
			       : gcra_admit(tat, now_ns, limit->interval, limit->tolerance);
	if (scene->packet->dry)
		return true;
	if (!bpf_map_update_elem(&ddos_meters, party, &fresh, BPF_NOEXIST)) {
		scene->count->new_meters++;
		return true;
	}
	tat = bpf_map_lookup_elem(&ddos_meters, party);
	return !tat || gcra_admit(tat, now_ns, limit->interval, limit->tolerance);
}

/* The same, of a bucket that all share. */
static __always_inline bool shared_conforms(const struct scene *scene, struct ddos_bucket *bucket,
					    const struct ddos_limit *limit)
{
	__u64 now_ns = packet_now(scene->packet);

	if (scene->packet->dry)
		return gcra_conforms(bucket->tat, now_ns, limit->tolerance);
	return gcra_admit(&bucket->tat, now_ns, limit->interval, limit->tolerance);
}

static __always_inline struct ddos_block *find_block(const struct packet *packet, __u16 bits,
						     __u16 free_words)
{
	struct ddos_prefix key = {.family = packet->family, .bits = bits};

	__builtin_memcpy(key.addr, packet->src_addr, sizeof(key.addr));
	if (bits == 24)
		key.addr[0] &= 0xffffff00;
	else if (free_words)
		key.addr[2] = key.addr[3] = 0;
	return bpf_map_lookup_elem(&ddos_blocked, &key);
}

static __always_inline bool is_in_force(struct scene *scene, struct ddos_block *block)
{
	if (!block || packet_now(scene->packet) >= block->until_ns)
		return false;
	if (!scene->packet->dry)
		__sync_fetch_and_add(&block->packets, 1);
	scene->attack = block->attack;
	return true;
}

static __always_inline bool is_blocked(struct scene *scene)
{
	const struct packet *packet = scene->packet;

	if (packet->family == 4)
		return is_in_force(scene, find_block(packet, 32, 0)) ||
		       is_in_force(scene, find_block(packet, 24, 0));
	return is_in_force(scene, find_block(packet, 128, 0)) ||
	       is_in_force(scene, find_block(packet, 64, 2));
}

#endif
