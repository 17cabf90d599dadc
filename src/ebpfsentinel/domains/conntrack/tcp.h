/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where a TCP connection is, told from the flags of its packets (RFC 9293 3.3.2), seen from the wire
 * between its ends: a state is what both must know of by now. Who sent FIN is remembered, so that a
 * FIN sent again, or an acknowledgement by the wrong end, moves nothing.
 *
 * What cannot be is invalid: it does not touch the flow. What may be, but says nothing of the
 * connection (an old SYN+ACK, the challenge of RFC 5961 to a SYN), is passed over: it is counted with
 * the flow, and does not keep it.
 */
#ifndef EBPFSENTINEL_CT_TCP_H
#define EBPFSENTINEL_CT_TCP_H

#include "flows.h"

/* Instead of a status. */
#define CT_INVALID (1u << 31)
#define CT_REOPEN (1u << 30)
#define CT_PASS_OVER (1u << 29)

static __always_inline __u32 ct_to(__u32 status, __u32 stage)
{
	return (status & ~FLOW_STAGE_MASK) | stage;
}

static __always_inline __u32 ct_opener(__u32 status)
{
	return status >> FLOW_OPENED_BY & 1;
}

/* Both ends may open at once: RFC 9293 3.5, simultaneous open. */
static __always_inline __u32 ct_on_syn(__u32 status, __u32 stage, bool reply)
{
	if (stage == FLOW_TIME_WAIT || stage == FLOW_CLOSE || stage == FLOW_LAST_ACK)
		return CT_REOPEN;
	if (reply && stage == FLOW_SYN_SENT)
		return ct_to(status, FLOW_SYN_SENT_BOTH) | FLOW_BOTH_OPENED;
	if (stage == FLOW_SYN_SENT_BOTH || (!reply && stage == FLOW_SYN_SENT))
		return status;
	if (stage == FLOW_SYN_RECV && (!reply || status & FLOW_BOTH_OPENED))
		return status;
	return reply ? CT_INVALID : CT_PASS_OVER;
}

static __always_inline __u32 ct_on_syn_ack(__u32 status, __u32 stage, bool reply)
{
	if (stage == FLOW_SYN_SENT_BOTH || (reply && stage == FLOW_SYN_SENT))
		return ct_to(status, FLOW_SYN_RECV);
	if (stage == FLOW_SYN_RECV && (reply || status & FLOW_BOTH_OPENED))
		return status;
	return !reply || stage == FLOW_CLOSE ? CT_INVALID : CT_PASS_OVER;
}

static __always_inline __u32 ct_on_fin(__u32 status, __u32 stage, __u32 from)
{
	__u32 last;

	if (stage == FLOW_SYN_SENT || stage == FLOW_SYN_SENT_BOTH)
		return CT_INVALID;
	if (status >> (FLOW_FIN + from) & 1 || stage == FLOW_TIME_WAIT || stage == FLOW_CLOSE)
		return status;
	last = (status & ~(1u << FLOW_LAST_FIN)) | from << FLOW_LAST_FIN | 1u << (FLOW_FIN + from);
	return ct_to(last, status >> (FLOW_FIN + (from ^ 1)) & 1 ? FLOW_LAST_ACK : FLOW_FIN_WAIT);
}

static __always_inline __u32 ct_on_ack(__u32 status, __u32 stage, __u32 from, bool reply)
{
	bool answers = from != (status >> FLOW_LAST_FIN & 1);

	if (stage == FLOW_SYN_SENT)
		return reply ? CT_PASS_OVER : CT_INVALID;
	if (stage == FLOW_SYN_SENT_BOTH)
		return CT_PASS_OVER;
	if (stage == FLOW_SYN_RECV && (!reply || status & FLOW_BOTH_OPENED))
		return ct_to(status, FLOW_TCP_ESTABLISHED);
	if (stage == FLOW_PICKED_UP && status >> (FLOW_SEEN + (from ^ 1)) & 1)
		return ct_to(status, FLOW_TCP_ESTABLISHED);
	if (stage == FLOW_FIN_WAIT && answers)
		return ct_to(status, FLOW_CLOSE_WAIT);
	if (stage == FLOW_LAST_ACK && answers)
		return ct_to(status, FLOW_TIME_WAIT);
	return status;
}

/* The status after a packet with these flags, which are legal, from this end. */
static __always_inline __u32 ct_tcp_next(__u32 status, __u32 from, __u8 flags)
{
	__u8 kinds = flags & FLOW_TCP_KINDS;
	__u32 stage = status & FLOW_STAGE_MASK;
	bool reply = from != ct_opener(status);

	if (kinds & FLOW_TCP_RST)
		return ct_to(status, FLOW_CLOSE);
	if (kinds == FLOW_TCP_SYN)
		return ct_on_syn(status, stage, reply);
	if (kinds & FLOW_TCP_SYN)
		return ct_on_syn_ack(status, stage, reply);
	if (kinds & FLOW_TCP_FIN)
		return ct_on_fin(status, stage, from);
	return ct_on_ack(status, stage, from, reply);
}

#endif
