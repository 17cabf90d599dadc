// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * DDoS defence: counts packets by what they may be part of, refuses what is over a guard's limit, and
 * carries out the measures that user space takes against an attack.
 *
 * Most packets pay for one count and one subtraction. What costs more (a source's bucket, a socket
 * lookup) is asked of a packet only when something would be done to it.
 */
#include "ddos.h"
#include "gcra.h"
#include "known.h"

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

static __always_inline bool is_echo(const struct packet *packet)
{
	return (packet->protocol == PROTOCOL_ICMP && packet->icmp >> 8 == ICMP_ECHO_REQUEST &&
		packet->family == 4) ||
	       (packet->protocol == PROTOCOL_ICMPV6 && packet->icmp >> 8 == ICMPV6_ECHO_REQUEST &&
		packet->family == 6);
}

static __always_inline __u32 type_of_tcp(__u8 flags)
{
	if (flags & TCP_RST)
		return DDOS_RST_FLOOD;
	if (flags & TCP_SYN)
		return flags & TCP_ACK ? DDOS_VOLUMETRIC : DDOS_SYN_FLOOD;
	if (flags & TCP_FIN)
		return DDOS_FIN_FLOOD;
	return flags & TCP_ACK ? DDOS_ACK_FLOOD : DDOS_VOLUMETRIC;
}

static __always_inline bool is_amplifier(const struct ddos_head *head, const struct packet *packet)
{
	__u16 port = packet->src_port;

	return head->port_filter >> (port & 63) & 1 && bpf_map_lookup_elem(&ddos_ports, &port);
}

/* What the packet may be part of besides a volumetric flood. */
static __always_inline __u32 type_of(const struct ddos_head *head, const struct packet *packet)
{
	if (packet->flags & PACKET_TCP)
		return type_of_tcp(packet->tcp_flags);
	if (packet->protocol == PROTOCOL_UDP && packet->flags & PACKET_PORTS)
		return is_amplifier(head, packet) ? DDOS_UDP_AMPLIFICATION : DDOS_VOLUMETRIC;
	return is_echo(packet) ? DDOS_ICMP_FLOOD : DDOS_VOLUMETRIC;
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

static __always_inline bool is_in_force(struct ddos_block *block, struct packet *packet)
{
	if (!block || packet_now(packet) >= block->until_ns)
		return false;
	if (!packet->dry)
		__sync_fetch_and_add(&block->packets, 1);
	packet->rule_id = block->attack;
	return true;
}

static __always_inline bool is_blocked(struct packet *packet)
{
	if (packet->family == 4)
		return is_in_force(find_block(packet, 32, 0), packet) ||
		       is_in_force(find_block(packet, 24, 0), packet);
	return packet->family == 6 && (is_in_force(find_block(packet, 128, 0), packet) ||
				       is_in_force(find_block(packet, 64, 2), packet));
}

/* May the stack get this SYN? Sources that are known need no cookie, within their share. */
static __always_inline enum ddos_reason judge_syn(const struct scene *scene)
{
	const struct ddos_limit *all = &scene->head->guard[DDOS_SYN_FLOOD];
	struct ddos_party source;

	if (!scene->head->cookies)
		return DDOS_WANTED;
	if (all->interval && shared_conforms(scene, &scene->shared->syn, all))
		return DDOS_WANTED;
	source = source_of(scene->packet, DDOS_SYN_FLOOD);
	if (is_known(scene->head, scene->packet) &&
	    conforms(scene, &source, &scene->head->share[DDOS_SYN_FLOOD]))
		return DDOS_WANTED;
	return DDOS_COOKIE;
}

static __always_inline enum ddos_reason judge_echo(const struct scene *scene)
{
	const struct ddos_limit *limit = &scene->head->guard[DDOS_ICMP_FLOOD];
	struct ddos_party source = source_of(scene->packet, DDOS_ICMP_FLOOD);
	const struct packet *packet = scene->packet;

	if (scene->head->icmp_payload_bytes &&
	    packet->bytes > packet->l4_offset + 8 + scene->head->icmp_payload_bytes)
		return DDOS_OVERSIZE;
	return !limit->interval || conforms(scene, &source, limit) ? DDOS_WANTED : DDOS_LIMIT;
}

/* Over a limit, a packet of a flow that this host has is let through all the same. */
static __always_inline enum ddos_reason judge_source(const struct scene *scene,
						     const struct ddos_limit *limit)
{
	struct ddos_party source = source_of(scene->packet, scene->type);

	if (!limit->interval || conforms(scene, &source, limit))
		return DDOS_WANTED;
	if (is_of_flow(scene->ctx, scene->packet, scene->count)) {
		scene->count->spared += !scene->packet->dry;
		return DDOS_WANTED;
	}
	return DDOS_LIMIT;
}

static __always_inline enum ddos_reason judge_amplifier(const struct scene *scene)
{
	__u16 port = scene->packet->src_port;
	const struct ddos_limit *limit = bpf_map_lookup_elem(&ddos_ports, &port);

	return limit ? judge_source(scene, limit) : DDOS_WANTED;
}

/*
 * An ACK, of which there are too many (sample_every of ACK floods is set) or of which one was
 * sampled, or while cookies are out: does it belong to a flow? What an ACK to a listener carries is a cookie, or
 * nothing.
 */
static __always_inline enum ddos_reason judge_ack(const struct scene *scene, __u32 weight)
{
	struct packet *packet = scene->packet;
	const struct ddos_limit *limit = &scene->head->guard[DDOS_ACK_FLOOD];
	struct ddos_party source;
	bool cookie = false;
	enum flow flow;

	if (is_known(scene->head, packet))
		return DDOS_WANTED;
	flow = tcp_flow(scene->ctx, packet, copy_headers(packet, scene->data, scene->end), &cookie);
	if (flow == FLOW_ESTABLISHED || cookie) {
		if (!packet->dry)
			make_known(packet, scene->count);
		scene->count->cookies_valid += cookie && !packet->dry;
		return DDOS_WANTED;
	}
	if (!is_for_us(scene->ctx, packet))
		return DDOS_WANTED;
	if (!packet->dry) {
		scene->count->stray += weight;
		scene->count->cookies_invalid += flow == FLOW_LISTENER;
	}
	source = source_of(packet, DDOS_ACK_FLOOD);
	return !limit->interval || conforms(scene, &source, limit) ? DDOS_WANTED : DDOS_LIMIT;
}

static __always_inline bool are_cookies_out(const struct scene *scene)
{
	__u64 sent_ns = scene->shared->cookie_ns;

	return sent_ns && packet_now(scene->packet) - sent_ns < DDOS_COOKIE_NS;
}

static __always_inline enum ddos_reason judge_guards(const struct scene *scene)
{
	switch (scene->type) {
	case DDOS_SYN_FLOOD:
		return judge_syn(scene);
	case DDOS_UDP_AMPLIFICATION:
		return judge_amplifier(scene);
	case DDOS_ICMP_FLOOD:
		return judge_echo(scene);
	case DDOS_RST_FLOOD:
		return judge_source(scene, &scene->head->guard[DDOS_RST_FLOOD]);
	case DDOS_FIN_FLOOD:
		return judge_source(scene, &scene->head->guard[DDOS_FIN_FLOOD]);
	case DDOS_ACK_FLOOD:
		if (scene->head->sample_every[DDOS_ACK_FLOOD] == 1 || are_cookies_out(scene))
			return judge_ack(scene, 1);
	}
	return DDOS_WANTED;
}

/*
 * A throttle: known sources have a share each, all others have one together. A source that has
 * been let in with a flow becomes known by it.
 */
static __always_inline enum ddos_reason judge_throttle(const struct scene *scene, __u32 type)
{
	const struct ddos_head *head = scene->head;
	struct packet *packet = scene->packet;
	struct ddos_party source;

	if (type >= DDOS_TYPES || !head->throttle[type].interval ||
	    packet_now(packet) >= head->throttle_until_ns[type])
		return DDOS_WANTED;
	if (is_known(head, packet)) {
		source = source_of(packet, type);
		source.port = 0xffff; /* not the bucket of the guard */
		return conforms(scene, &source, &head->share[type]) ? DDOS_WANTED : DDOS_THROTTLE;
	}
	if (shared_conforms(scene, &scene->shared->throttle[type], &head->throttle[type]))
		return DDOS_WANTED;
	if (is_of_flow(scene->ctx, packet, scene->count)) {
		scene->count->spared += !packet->dry;
		return DDOS_WANTED;
	}
	return DDOS_THROTTLE;
}

static __always_inline void count_packet(const struct scene *scene)
{
	const struct packet *packet = scene->packet;
	__u32 type = scene->type;

	if (type < DDOS_VOLUMETRIC) {
		scene->count->packets[type]++;
		scene->count->bytes[type] += packet->bytes;
		if (is_sampled(scene, type)) {
			sample(packet, scene->count, type, scene->head->sample_every[type]);
			if (type == DDOS_ACK_FLOOD && scene->head->sample_every[type] > 1)
				judge_ack(scene, scene->head->sample_every[type]);
		}
	}
	scene->count->packets[DDOS_VOLUMETRIC]++;
	scene->count->bytes[DDOS_VOLUMETRIC] += packet->bytes;
	if (is_sampled(scene, DDOS_VOLUMETRIC))
		sample(packet, scene->count, DDOS_VOLUMETRIC,
		       scene->head->sample_every[DDOS_VOLUMETRIC]);
}

static __always_inline void report(const struct scene *scene, enum ddos_reason reason)
{
	static const __u8 event_types[DDOS_TYPES] = {
		EVENT_DDOS_SYN,        EVENT_DDOS_AMPLIFICATION, EVENT_DDOS_ICMP,
		EVENT_DDOS_CONNECTION, EVENT_DDOS_CONNECTION,    EVENT_DDOS_CONNECTION,
		EVENT_DDOS_CONNECTION,
	};
	__u32 type = scene->type;
	struct ddos_event *event;

	if (type >= DDOS_TYPES)
		return;
	if (packet_now(scene->packet) - scene->cpu->event_ns[type] < DDOS_EVENT_GAP_NS) {
		scene->cpu->suppressed[type]++;
		return;
	}
	event = record_reserve(ddos_events, sizeof(*event));
	if (!event) {
		scene->cpu->suppressed[type]++;
		return;
	}
	put_packet_event(&event->packet, scene->packet, event_types[type]);
	event->type = type;
	event->reason = reason;
	event->pad = 0;
	event->suppressed = scene->cpu->suppressed[type];
	scene->cpu->suppressed[type] = 0;
	scene->cpu->event_ns[type] = packet_now(scene->packet);
	record_submit(event);
}

static __always_inline enum ddos_reason judge(struct scene *scene)
{
	enum ddos_reason reason;

	if (scene->head->blocking && is_blocked(scene->packet))
		return DDOS_BLOCK;
	reason = judge_guards(scene);
	if (!reason && scene->type != DDOS_VOLUMETRIC)
		reason = judge_throttle(scene, scene->type);
	if (!reason)
		reason = judge_throttle(scene, DDOS_VOLUMETRIC);
	return reason;
}

/* The verdict, counted and reported; true: it is to be carried out. */
static __always_inline bool settle(const struct scene *scene, enum ddos_reason reason)
{
	struct packet *packet = scene->packet;
	bool enforced = scene->head->mode == DDOS_MODE_BLOCK && !packet->dry;

	if (!reason)
		return false;
	packet->action = ACTION_DROP;
	if (!enforced)
		packet->flags |= PACKET_WOULD;
	else if (packet_spared(packet))
		packet->action = ACTION_SPARED;
	if (packet->dry)
		return false;
	if (scene->type < DDOS_TYPES && reason != DDOS_COOKIE)
		scene->count->refused[scene->type]++;
	scene->count->by_reason[reason]++;
	scene->count->last_refused_ns = packet_now(packet);
	report(scene, reason);
	return enforced;
}

/* What becomes of the packet; only IP is part of a flood that there is a defence against. */
static __always_inline enum ddos_reason defend(struct scene *scene)
{
	enum ddos_reason reason;

	if (!scene->packet->family || !look_up_scene(scene))
		return DDOS_WANTED;
	scene->type = type_of(scene->head, scene->packet);
	if (!scene->packet->dry)
		count_packet(scene);
	reason = judge(scene);
	return settle(scene, reason) ? reason : DDOS_WANTED;
}

SEC("xdp")
int xdp_ddos(struct xdp_md *ctx)
{
	struct packet *packet = packet_of(&xdp_packet);
	struct scene scene = {.ctx = ctx,
			      .data = (void *)(long)ctx->data,
			      .end = (void *)(long)ctx->data_end,
			      .packet = packet};
	enum ddos_reason reason;

	if (!packet)
		return XDP_PASS;
	reason = defend(&scene);
	if (!reason)
		return xdp_next(ctx, packet);
	if (reason == DDOS_COOKIE && !packet_spared(packet)) {
		bpf_tail_call(ctx, &ddos_calls, 0);
		return xdp_next(ctx, packet);
	}
	return xdp_drop(ctx, packet);
}

/* Answers a SYN, or lets it up where that cannot be. */
SEC("xdp")
int xdp_ddos_cookie(struct xdp_md *ctx)
{
	struct packet *packet = packet_of(&xdp_packet);
	__u32 zero = 0;
	struct ddos_shared *shared = bpf_map_lookup_elem(&ddos_shared, &zero);
	struct ddos_count *count = bpf_map_lookup_elem(&ddos_count, &zero);
	enum cookie made;

	if (!packet || !shared || !count)
		return XDP_PASS;
	made = answer_with_cookie(ctx, packet);
	if (made == COOKIE_MADE) {
		shared->cookie_ns = packet_now(packet);
		count->cookies_sent++;
		count->refused[DDOS_SYN_FLOOD]++;
		packet_count(packet, true);
		return XDP_TX;
	}
	if (made == COOKIE_ROOM)
		count->cookies_room++;
	else
		count->cookies_none++;
	packet->action = ACTION_PASS;
	return xdp_next(ctx, packet);
}

/* The stand-in where an interface takes no XDP program; cookies are the stack's own there. */
SEC("tc")
int tc_ddos(struct __sk_buff *ctx)
{
	struct packet *packet = packet_of(&tc_packet);
	struct scene scene = {.ctx = ctx,
			      .data = (void *)(long)ctx->data,
			      .end = (void *)(long)ctx->data_end,
			      .packet = packet};
	enum ddos_reason reason;

	if (!packet)
		return TC_NEXT;
	reason = packet->by_xdp ? DDOS_WANTED : defend(&scene);
	if (!reason || reason == DDOS_COOKIE)
		return tc_next(ctx, packet);
	return tc_drop(ctx, packet);
}

char _license[] SEC("license") = "Dual BSD/GPL";
