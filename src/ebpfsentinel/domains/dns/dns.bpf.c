// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * DNS as it is seen on the wire: answers over UDP to questions that left before them. An answer that
 * nobody asked for is counted and not told of: anybody can send one, and say with it what he likes of any
 * address. Nothing is dropped here.
 */
#include "chain.h"
#include "dns.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dns_count);
} dns_count SEC(".maps");

/* When it left, on the boot clock. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, DNS_ASKED);
	__type(key, struct dns_question);
	__type(value, __u64);
} dns_asked SEC(".maps");

RING(dns_answers, struct dns_answer, 1 << 20);

struct dns_head {
	__be16 id;
	__be16 flags;
};

#define DNS_RESPONSE 0x8000
#define UDP_BYTES 8

static __always_inline bool has_port(const struct packet *packet, __u16 port)
{
	return packet->protocol == PROTOCOL_UDP && packet->flags & PACKET_PORTS && port == DNS_PORT;
}

/* What the message begins with; false: it is cut short. */
static __always_inline bool read_head(struct __sk_buff *ctx, const struct packet *packet,
				      struct dns_head *head)
{
	return !bpf_skb_load_bytes(ctx, packet->l4_offset + UDP_BYTES, head, sizeof(*head));
}

static __always_inline void put_question(struct dns_question *question, const struct packet *packet,
					 const struct dns_head *head, bool answer)
{
	const __u32 *server = answer ? packet->src_addr : packet->dst_addr;
	const __u32 *client = answer ? packet->dst_addr : packet->src_addr;

	__builtin_memcpy(question->server, server, sizeof(question->server));
	__builtin_memcpy(question->client, client, sizeof(question->client));
	question->port = answer ? packet->dst_port : packet->src_port;
	question->id = head->id;
	question->family = packet->family;
}

/* Was it asked for, lately? A question has one answer. */
static __always_inline bool was_asked(struct packet *packet, const struct dns_head *head)
{
	struct dns_question question = {};
	const __u64 *asked_ns;
	bool lately;

	put_question(&question, packet, head, true);
	asked_ns = bpf_map_lookup_elem(&dns_asked, &question);
	if (!asked_ns)
		return false;
	lately = packet_now(packet) - *asked_ns < DNS_WAIT_NS;
	bpf_map_delete_elem(&dns_asked, &question);
	return lately;
}

/* Of the message, nobody reads more than was captured. */
static __always_inline void tell(struct __sk_buff *ctx, struct packet *packet,
				 struct dns_count *count)
{
	__u32 at = packet->l4_offset + UDP_BYTES, bytes = ctx->len - at;
	struct dns_answer *answer = record_reserve(dns_answers, sizeof(*answer));

	if (!answer)
		return;
	__builtin_memset(answer->pad, 0, sizeof(answer->pad));
	put_packet_event(&answer->packet, packet, DNS_EVENT);
	answer->bytes = bytes < 65535 ? bytes : 65535;
	if (bytes > DNS_BYTES) {
		count->longer++;
		bytes = DNS_BYTES;
	}
	bytes = OPAQUE(bytes) - 1;
	bytes = (bytes & (DNS_BYTES - 1)) + 1;
	answer->captured = bytes;
	if (bpf_skb_load_bytes(ctx, at, answer->message, bytes)) {
		count->errors++;
		record_discard(dns_answers, answer);
		return;
	}
	record_submit(answer);
}

static __always_inline void look_at_answer(struct __sk_buff *ctx, struct packet *packet)
{
	__u32 zero = 0;
	struct dns_count *count = bpf_map_lookup_elem(&dns_count, &zero);
	struct dns_head head;

	if (!count || !read_head(ctx, packet, &head) || !(bpf_ntohs(head.flags) & DNS_RESPONSE))
		return;
	if (!was_asked(packet, &head)) {
		count->unasked++;
		return;
	}
	count->answered++;
	tell(ctx, packet, count);
}

static __always_inline void look_at_question(struct __sk_buff *ctx, struct packet *packet)
{
	__u32 zero = 0;
	struct dns_count *count = bpf_map_lookup_elem(&dns_count, &zero);
	struct dns_question question = {};
	struct dns_head head;
	__u64 now_ns;

	if (!count || !read_head(ctx, packet, &head) || bpf_ntohs(head.flags) & DNS_RESPONSE)
		return;
	put_question(&question, packet, &head, false);
	now_ns = packet_now(packet);
	if (bpf_map_update_elem(&dns_asked, &question, &now_ns, BPF_ANY))
		count->errors++;
	else
		count->asked++;
}

SEC("tc")
int tc_dns(struct __sk_buff *ctx)
{
	struct packet *packet = packet_of(&tc_packet);

	if (!packet)
		return TC_NEXT;
	if (has_port(packet, packet->src_port))
		look_at_answer(ctx, packet);
	return tc_next(ctx, packet);
}

SEC("tc/egress")
int egress_dns(struct __sk_buff *ctx)
{
	struct packet *packet = packet_of(&egress_packet);

	if (!packet)
		return TC_NEXT;
	if (has_port(packet, packet->dst_port))
		look_at_question(ctx, packet);
	return egress_next(ctx, packet);
}

char _license[] SEC("license") = "Dual BSD/GPL";
