/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The TCP header: flags, and the options of SYNs. The checksum is changed by the difference; where the
 * card is to make it (CHECKSUM_PARTIAL), the kernel's helper leaves it alone.
 *
 * What two ends agree on in their SYNs is taken out there, and nowhere else. Timestamps that are gone
 * from the SYN are not offered, so neither end uses them; taken out of a segment of a flow that has
 * agreed on them, they would be missed (RFC 7323 3.2). It is the same with ECN (RFC 3168 6.1.1): a flow
 * that goes on keeps its ECE and CWR, without which its sender would not hear of congestion. A SYN+ACK
 * is left alone too: who sends it has agreed already.
 */
#ifndef EBPFSENTINEL_SCRUB_TCP_H
#define EBPFSENTINEL_SCRUB_TCP_H

#include "work.h"
#include <bpf/bpf_core_read.h>

#define TCP_BYTES 20
#define TCP_FLAGS_AT 12
#define TCP_CHECKSUM_AT 16
#define TCP_ECN_FLAGS 0xc0 /* CWR, ECE */
#define TCP_ACCURATE_ECN 0x01

#define OPTION_END 0
#define OPTION_NOP 1
#define OPTION_MSS 2
#define OPTION_TIMESTAMPS 8
#define OPTION_NOWHERE 64

/* Data offset and flags: the two bytes from TCP_FLAGS_AT on. */
union tcp_flags {
	__u8 bytes[2];
	__u16 word;
};

/* What a combination of flags becomes; without that option: itself. */
static __always_inline __u8 legal_flags(const struct work *work, __u8 flags)
{
	return work->changes & SC_ILLEGAL ? work->head->tcp_flags[flags & 0x3f] : flags & 0x3f;
}

static __always_inline bool refuses_flags(const struct work *work)
{
	if (!(work->changes & SC_ILLEGAL) || !(work->packet->flags & PACKET_TCP) ||
	    work->packet->flags & PACKET_MALFORMED)
		return false;
	return legal_flags(work, work->packet->tcp_flags) == SC_FLAGS_DROP;
}

static __always_inline __u32 change_flags(const struct work *work, union tcp_flags *flags)
{
	__u8 high = flags->bytes[0], low = flags->bytes[1], legal = legal_flags(work, low);
	__u32 done = 0;

	if (legal != (low & 0x3f)) {
		flags->bytes[1] = (low & TCP_ECN_FLAGS) | legal;
		done |= SC_ILLEGAL;
	}
	if (work->changes & SC_ECN && is_syn(work->packet) && low & TCP_ECN_FLAGS) {
		flags->bytes[0] &= ~TCP_ACCURATE_ECN;
		flags->bytes[1] &= ~TCP_ECN_FLAGS;
		done |= SC_ECN;
	}
	if (work->changes & SC_RESERVED && high & 0x0f) {
		flags->bytes[0] &= 0xf0;
		done |= SC_RESERVED;
	}
	return done;
}

static __always_inline __u32 scrub_flags(struct work *work)
{
	struct packet *packet = work->packet;
	union tcp_flags before = {.bytes = {packet->tcp_high, packet->tcp_flags}}, after = before;
	__u32 at = packet->l4_offset, done = change_flags(work, &after);

	if (!done || !enforces(work))
		return done;
	if (bpf_l4_csum_replace(work->ctx, at + TCP_CHECKSUM_AT, before.word, after.word, 2) ||
	    bpf_skb_store_bytes(work->ctx, at + TCP_FLAGS_AT, &after, 2, 0)) {
		work->count->errors++;
		return 0;
	}
	packet->tcp_high = after.bytes[0];
	packet->tcp_flags = after.bytes[1];
	return done;
}

/* The largest MSS a SYN may ask for: as set, or what the interface carries. 0: any. */
static __always_inline __u32 mss_limit(const struct work *work)
{
	__u32 mtu = 0, headers = work->packet->family == 6 ? 60 : 40;

	if (work->head->max_mss)
		return work->head->max_mss;
	if (!bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_check_mtu) ||
	    bpf_check_mtu(work->ctx, 0, &mtu, 0, 0) < 0) { /* since Linux 5.12 */
		work->count->errors++;
		return 0;
	}
	return mtu > headers ? mtu - headers : 0;
}

static __always_inline __u32 clamp_mss(const struct work *work, struct sc_options *options)
{
	__u8 *option = options->now + (OPAQUE(options->mss_at) & 63);
	__u32 limit = mss_limit(work);

	if (!limit || (__u32)(option[2] << 8 | option[3]) <= limit)
		return 0;
	option[2] = limit >> 8;
	option[3] = limit;
	return SC_MSS;
}

static __always_inline __u32 strip_timestamps(struct sc_options *options)
{
	__u8 *option = options->now + (OPAQUE(options->timestamps_at) & 63);
	int byte;

	for (byte = 0; byte < 10; byte++)
		option[byte] = OPTION_NOP;
	return SC_TIMESTAMPS;
}

/*
 * Where the options are that matter (RFC 9293 3.1); behind one that is cut short, nothing is known.
 * What is found is kept in memory: the verifier then sees equal states at each step. A global function,
 * so that it is judged once, and not for every way there.
 */
__noinline int sc_find_options(void)
{
	__u32 zero = 0, at, bytes;
	struct sc_options *options = bpf_map_lookup_elem(&sc_options, &zero);
	int step;

	if (!options)
		return 0;
	for (step = 0; step < SC_OPTION_BYTES; step++) {
		at = OPAQUE(options->at) & 63;
		if (at >= OPAQUE(options->bytes) || options->now[at] == OPTION_END)
			return 0;
		bytes = options->now[at] == OPTION_NOP ? 1 : options->now[at + 1];
		if (!bytes || at + bytes > OPAQUE(options->bytes))
			return 0;
		if (options->now[at] == OPTION_MSS && bytes == 4)
			OPAQUE(options->mss_at) = at;
		if (options->now[at] == OPTION_TIMESTAMPS && bytes == 10)
			OPAQUE(options->timestamps_at) = at;
		OPAQUE(options->at) = at + bytes;
	}
	return 0;
}

static __always_inline __u32 change_options(const struct work *work, struct sc_options *options)
{
	__u32 done = 0;

	OPAQUE(options->at) = 0;
	OPAQUE(options->mss_at) = OPAQUE(options->timestamps_at) = OPTION_NOWHERE;
	sc_find_options();
	if (work->changes & SC_MSS && OPAQUE(options->mss_at) != OPTION_NOWHERE)
		done |= clamp_mss(work, options);
	if (work->changes & SC_TIMESTAMPS && is_syn(work->packet) &&
	    OPAQUE(options->timestamps_at) != OPTION_NOWHERE)
		done |= strip_timestamps(options);
	return done;
}

/* Bytes of options, as the header says. */
static __always_inline __u32 option_bytes(const struct work *work)
{
	const __u8 *tcp = header_at(work, work->packet->l4_offset, TCP_BYTES);
	__u32 bytes = tcp ? (tcp[TCP_FLAGS_AT] >> 4) * 4 : 0;

	return bytes > TCP_BYTES ? bytes - TCP_BYTES : 0;
}

/*
 * How many there are, 4 to 40. From memory and by a mask: so every verifier knows that it is not 0 and fits
 * the value, and none carries it through the loop.
 */
static __always_inline __u32 bytes_of(const struct sc_options *options)
{
	return ((OPAQUE(options->bytes) - 1) & 63) + 1;
}

static __always_inline __u32 scrub_options(struct work *work)
{
	__u32 zero = 0, done, at = work->packet->l4_offset;
	struct sc_options *options = bpf_map_lookup_elem(&sc_options, &zero);
	__u32 bytes = option_bytes(work);
	__s64 difference;

	if (!options || bytes < 4 || bytes > SC_OPTION_BYTES)
		return 0;
	__builtin_memset(options->now, 0, SC_OPTION_BYTES);
	options->bytes = bytes;
	if (bpf_skb_load_bytes(work->ctx, at + TCP_BYTES, options->now, bytes_of(options)))
		return 0; /* cut short: not ours to mend */
	__builtin_memcpy(options->was, options->now, SC_OPTION_BYTES);
	done = change_options(work, options);
	if (!done || !enforces(work))
		return done;
	difference = bpf_csum_diff((void *)options->was, SC_OPTION_BYTES, (void *)options->now,
				   SC_OPTION_BYTES, 0);
	if (bpf_l4_csum_replace(work->ctx, at + TCP_CHECKSUM_AT, 0, difference, 0) ||
	    bpf_skb_store_bytes(work->ctx, at + TCP_BYTES, options->now, bytes_of(options), 0)) {
		work->count->errors++;
		return 0;
	}
	return done;
}

#endif
