// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The rate limiter: a packet passes when it conforms to the limit of its source and to all shared
 * limits that apply to it. See limits.h for which these are, and buckets.h for their state.
 *
 * A packet that a limit refuses is charged to none. With one limit that is the limit itself; with
 * several, all are asked before the first is charged. Two CPUs may still compete for the last
 * packet of a shared bucket: the limits stay exact, but the loser's packet is then charged to
 * those that were asked before.
 *
 * Reading the clock is the dearest part (28 of 60 ns, where the TSC is read in a virtual machine), and
 * most packets do not need it: the coarse clock, which moves at each tick and costs nothing, is never
 * ahead. What conforms by it conforms; only what does not is judged by the exact clock. The
 * price is that a bucket which was full may be taken for full as of the last tick: its burst may be
 * larger by what the rate allows in a tick. Limits whose burst is less than a second's packets are
 * judged by the exact clock alone; for the others that is less than a hundredth of the burst. The
 * rate is not touched by it. Both clocks are the monotonic one.
 */
#include "chain.h"
#include "limits.h"
#include "report.h"
#include "syncookie.h"

EMIT_TYPE(rl_mode, enum rl_mode);
EMIT_TYPE(rl_algorithm, enum rl_algorithm);
EMIT_TYPE(rl_action, enum rl_action);
EMIT_TYPE(rl_key, enum rl_key);
EMIT_TYPE(packet_action, enum packet_action);
EMIT_TYPE(limit_status, enum limit_status);

#define WINDOW_TRIES 3
#define STAMP_SHIFT 24
#define QUIET 60 /* between two events of a bucket, in 2^24 ns: a second */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, RL_NUMBERS);
	__type(key, __u32);
	__type(value, struct rl_count);
} rl_count SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rl_cookies);
} rl_cookies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} rl_calls SEC(".maps");

RING(rl_events, struct rl_event, 1 << 20);

enum outcome { GOES_ON, DROPPED, ANSWERED };

/* A limit of a packet, and its bucket. */
struct limit {
	const struct rl_rule *rule;
	struct rl_bucket *bucket;
	__u32 number;
};

/* What the walks over shared limits know: bpf_loop calls its function for one of them each. */
struct walk {
	const struct rl_limits *limits;
	struct packet *packet;
	__u64 now_ns;
	__u32 refused; /* number of the limit */
	__u32 outcome; /* enum outcome */
};

/*
 * A window's state after the packet; 0: it does not conform. A function of its own, so that the verifier
 * follows it once.
 */
__noinline __u64 rl_next_window(__u32 algorithm, __u64 seen, __u64 now_ns, __u32 rate)
{
	return algorithm == RL_FIXED_WINDOW ? fixed_window_next(seen, now_ns, rate)
					    : sliding_window_next(seen, now_ns, rate);
}

/* By the coarse clock, or else by the exact one. */
static __always_inline __u64 next_window(const struct rl_rule *rule, __u64 seen, __u64 now_ns)
{
	__u64 next = rl_next_window(rule->algorithm, seen, now_ns, rule->rate);

	return next ? next : rl_next_window(rule->algorithm, seen, bpf_ktime_get_ns(), rule->rate);
}

static __always_inline bool admit_to_bucket(const struct limit *limit, __u64 now_ns)
{
	const struct rl_rule *rule = limit->rule;
	__u64 *tat = &limit->bucket->state;

	if (!rule->exact && gcra_admit(tat, now_ns, rule->interval, rule->tolerance))
		return true;
	return gcra_admit(tat, bpf_ktime_get_ns(), rule->interval, rule->tolerance);
}

/* Would the packet be admitted? */
static __always_inline bool conforms(const struct limit *limit, __u64 now_ns)
{
	__u64 seen = OPAQUE(limit->bucket->state);

	if (limit->rule->algorithm == RL_GCRA)
		return gcra_conforms(seen, now_ns, limit->rule->tolerance) ||
		       gcra_conforms(seen, bpf_ktime_get_ns(), limit->rule->tolerance);
	return next_window(limit->rule, seen, now_ns);
}

static __always_inline bool admit(const struct limit *limit, __u64 now_ns)
{
	__u64 *state = &limit->bucket->state, seen, next;
	int attempt;

	if (limit->rule->algorithm == RL_GCRA)
		return admit_to_bucket(limit, now_ns);
	for (attempt = 0; attempt < WINDOW_TRIES; attempt++) {
		seen = OPAQUE(*state);
		next = next_window(limit->rule, seen, now_ns);
		if (!next)
			return false;
		if (__sync_val_compare_and_swap(state, seen, next) == seen)
			return true;
	}
	__sync_fetch_and_add(state, 1);
	return true;
}

static __always_inline void report(const struct limit *limit, struct packet *packet, __u32 action,
				   __u64 now_ns)
{
	struct rl_bucket *bucket = limit->bucket;
	__u32 stamp = now_ns >> STAMP_SHIFT;
	__u64 seen = OPAQUE(bucket->told);
	__u32 last = seen >> 32;
	struct rl_event *event;

	if ((last && stamp - last < QUIET) ||
	    __sync_val_compare_and_swap(&bucket->told, seen, (__u64)stamp << 32) != seen) {
		__sync_fetch_and_add(&bucket->told, 1);
		return;
	}
	event = record_reserve(rl_events, sizeof(*event));
	if (!event) { /* then the next event tells of this one too */
		__sync_fetch_and_add(&bucket->told, (__u32)seen + 1);
		return;
	}
	put_packet_event(&event->packet, packet, RL_EVENT_TYPE);
	event->packet.rule_id = limit->number;
	event->packet.action = action;
	event->suppressed = seen;
	event->rate = limit->rule->rate;
	event->burst = limit->rule->burst;
	event->pad = 0;
	record_submit(event);
}

static __always_inline void count_passed(__u32 number)
{
	struct rl_count *count = bpf_map_lookup_elem(&rl_count, &number);

	if (count)
		count->passed++;
}

/* The packet is over the limit: count and report that. */
static __always_inline enum outcome go_over(const struct walk *walk, const struct limit *limit)
{
	bool drop = limit->rule->action == RL_DROP;
	bool enforced = drop && walk->limits->mode == RL_MODE_BLOCK;
	bool cookie = drop && limit->rule->cookies;
	__u32 action = cookie ? RL_ACTION_COOKIE : drop ? ACTION_DROP : ACTION_LOG;
	struct packet *packet = walk->packet;
	__u32 number = limit->number;
	struct rl_count *count;

	packet->limit_status = LIMIT_OVER;
	if (drop && (packet->dry || !enforced))
		packet->flags |= PACKET_WOULD;
	if (packet->dry)
		return GOES_ON;
	if (enforced && packet_spared(packet))
		action = ACTION_SPARED;
	count = bpf_map_lookup_elem(&rl_count, &number);
	if (count) {
		count->over++;
		count->dropped += enforced && action == ACTION_DROP;
	}
	if (limit->rule->action != RL_PASS)
		report(limit, packet, action, walk->now_ns);
	if (!enforced)
		return GOES_ON;
	return cookie ? ANSWERED : DROPPED;
}

/* Limit and bucket by number; false: there is no bucket, so that the packet conforms. */
static __always_inline bool limit_of(const struct walk *walk, __u32 number, bool make,
				     struct limit *limit)
{
	limit->number = number;
	limit->rule = rule_of(walk->limits, number);
	limit->bucket =
		bucket_of(walk->limits, number, limit->rule, walk->packet, walk->now_ns, make);
	if (!walk->packet->limit_status)
		walk->packet->limit_status = LIMIT_WITHIN;
	return limit->bucket;
}

/* Does the limit refuse the packet? It is not charged. */
static __always_inline bool refuses(const struct walk *walk, __u32 number)
{
	struct limit limit;

	return limit_of(walk, number, false, &limit) && limit.rule->action == RL_DROP &&
	       !conforms(&limit, walk->now_ns);
}

/* Charge the packet to the limit. */
static __always_inline enum outcome charge(const struct walk *walk, __u32 number)
{
	struct limit limit;

	if (!limit_of(walk, number, true, &limit))
		return GOES_ON;
	if (!admit(&limit, walk->now_ns))
		return go_over(walk, &limit);
	count_passed(number);
	return GOES_ON;
}

static __always_inline __u32 shared_limit(const struct walk *walk, __u32 at)
{
	__u32 number = walk->limits->shared[at & (RL_SHARED - 1)];

	return applies(rule_of(walk->limits, number), walk->packet) ? number : 0;
}

static long find_refusal(__u32 at, void *context)
{
	struct walk *walk = context;
	__u32 number = shared_limit(walk, at);

	if (number && refuses(walk, number))
		walk->refused = number;
	return walk->refused != 0;
}

static long charge_shared(__u32 at, void *context)
{
	struct walk *walk = context;
	__u32 number = shared_limit(walk, at);

	if (number)
		walk->outcome = charge(walk, number);
	return walk->outcome != GOES_ON;
}

/* Ask all limits and charge none; true: one refuses. */
static __always_inline bool refused(struct walk *walk, __u32 source)
{
	struct limit limit;

	if (source && refuses(walk, source))
		walk->refused = source;
	else if (walk->limits->shared_count)
		bpf_loop(walk->limits->shared_count, find_refusal, walk, 0);
	if (!walk->refused)
		return false;
	if (limit_of(walk, walk->refused, false, &limit))
		walk->outcome = go_over(walk, &limit);
	return true;
}

/* Judge the packet. What is not IP has no limit. */
static __always_inline enum outcome judge(struct packet *packet)
{
	struct walk walk = {.packet = packet};
	__u32 source;

	if (!packet->family || is_neighbour_discovery(packet))
		return GOES_ON;
	walk.limits = limits_in_force();
	if (!walk.limits) {
		count_failure(FAILURE_TABLES);
		return GOES_ON;
	}
	walk.now_ns = bpf_ktime_get_coarse_ns();
	source = source_limit(walk.limits, packet);
	if ((walk.limits->shared_count || packet->dry) && refused(&walk, source))
		return walk.outcome;
	if (packet->dry)
		return GOES_ON;
	if (source)
		walk.outcome = charge(&walk, source);
	if (walk.outcome == GOES_ON && walk.limits->shared_count)
		bpf_loop(walk.limits->shared_count, charge_shared, &walk, 0);
	return walk.outcome;
}

SEC("xdp")
int xdp_ratelimit(struct xdp_md *ctx)
{
	struct packet *packet = packet_of(&xdp_packet);
	enum outcome outcome;

	if (!packet)
		return XDP_PASS;
	outcome = judge(packet);
	if (outcome == GOES_ON)
		return xdp_next(ctx, packet);
	if (outcome == ANSWERED && !packet_spared(packet))
		bpf_tail_call(ctx, &rl_calls, 0);
	return xdp_drop(ctx, packet);
}

/* Answers a SYN that is over its limit; where the kernel gives no cookie for it yet, it goes up. */
SEC("xdp")
int xdp_ratelimit_cookie(struct xdp_md *ctx)
{
	struct packet *packet = packet_of(&xdp_packet);
	__u32 zero = 0;
	struct rl_cookies *count = bpf_map_lookup_elem(&rl_cookies, &zero);
	enum cookie made;

	if (!packet || !count)
		return XDP_PASS;
	made = answer_with_cookie(ctx, packet);
	if (made == COOKIE_MADE) {
		count->sent++;
		packet_count(packet, true);
		return XDP_TX;
	}
	if (made == COOKIE_ROOM) {
		count->room++;
		return xdp_next(ctx, packet);
	}
	count->none++;
	return xdp_drop(ctx, packet);
}

/* The stand-in where an interface takes no XDP program. There are no cookies: SYNs are dropped. */
SEC("tc")
int tc_ratelimit(struct __sk_buff *ctx)
{
	struct packet *packet = packet_of(&tc_packet);

	if (!packet)
		return TC_NEXT;
	if (!packet->by_xdp && judge(packet) != GOES_ON)
		return tc_drop(ctx, packet);
	return tc_next(ctx, packet);
}

char _license[] SEC("license") = "Dual BSD/GPL";
