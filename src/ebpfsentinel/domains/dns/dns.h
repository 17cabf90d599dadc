/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The vocabulary of DNS: records, map keys and values, for both halves.
 */
#ifndef EBPFSENTINEL_DNS_H
#define EBPFSENTINEL_DNS_H

#include "report.h"

#define DNS_EVENT 7 /* event_type of packet_event */
#define DNS_PORT 53
#define DNS_BYTES 1024 /* of a message; a power of two */
#define DNS_ASKED 16384
#define DNS_WAIT_NS 10000000000ULL /* for an answer */

/* A question that left, by what its answer must have. Addresses as in struct packet. */
struct dns_question {
	__u32 server[4];
	__u32 client[4];
	__u16 port; /* of the client */
	__be16 id;
	__u32 family;
};

struct dns_count {
	__u64 asked;
	__u64 answered;
	__u64 unasked; /* answers to no question that we saw: not believed */
	__u64 longer;  /* answers of more than DNS_BYTES, told of cut */
	__u64 errors;
};

/* An answer that came in, as it was on the wire from the DNS header on. */
struct dns_answer {
	struct packet_event packet;
	__u16 bytes; /* on the wire */
	__u16 captured;
	__u8 pad[4];
	__u8 message[DNS_BYTES];
};

#endif
