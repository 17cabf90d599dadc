// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A small domain with one of everything that the Kernel contract speaks of. Its XDP program emits
 * one record, counts, and drops what the current generation of its table says.
 */
#include "chain.h"
#include "record.h"
#include "task.h"

char _license[] SEC("license") = "Dual BSD/GPL";

enum contract_word { CONTRACT_LOW = 1, CONTRACT_HIGH = 4000000000 };

struct contract_inner {
	__u16 port;
	__u8 pad[6];
};

struct contract_record {
	__u64 serial;
	__u32 bytes;
	enum contract_word word;
	char text[16];
	struct contract_inner parts[2];
	__u8 grid[2][3];
	__u8 pad[2];
};

struct contract_key {
	__u32 prefix_bits;
	__u8 address[4];
};

struct contract_count {
	__u64 packets;
	__u64 last_ns;
};

struct contract_table {
	__u32 drop_above;
	__u32 generation;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct contract_table);
} c_array SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u64);
	__type(value, __u32);
} c_hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} c_lru SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 8);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct contract_key);
	__type(value, __u32);
} c_trie SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct contract_count);
} c_count SEC(".maps");

struct inner_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct contract_table);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct inner_map);
} c_tables SEC(".maps");

struct inner_map c_lent SEC(".maps");

struct contract_head {
	__u32 current;
	__u32 pad;
	__u64 serial[2];
};

struct place_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct contract_table);
};

struct head_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct contract_head);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct head_map);
} c_head SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct place_map);
} c_places SEC(".maps");

RING(c_ring, struct contract_record, 4096);
RECORD(contract_iter, struct contract_record);
EMIT_TYPE(contract_word, enum contract_word);
EMIT_TYPE(contract_head, struct contract_head);

static __always_inline void record_fill(struct contract_record *record, __u64 serial, __u32 bytes)
{
	__builtin_memset(record, 0, sizeof(*record));
	record->serial = serial;
	record->bytes = bytes;
	record->word = CONTRACT_HIGH;
	record->text[0] = 'c';
	record->parts[1].port = 443;
	record->grid[1][2] = 7;
	record->pad[0] = bpf_get_smp_processor_id();
}

static __always_inline __u64 count(__u32 bytes)
{
	__u32 zero = 0;
	struct contract_count *count = bpf_map_lookup_elem(&c_count, &zero);

	if (!count)
		return 0;
	count->last_ns = bytes;
	return count->packets++;
}

/* The lower limit of both places, where there is a head; else that of the table. */
static __always_inline __u32 placed(const struct contract_head *head, __u32 place)
{
	__u32 zero = 0, slot = 2 * place + (head->current >> place & 1);
	void *inner = bpf_map_lookup_elem(&c_places, &slot);
	struct contract_table *table = inner ? bpf_map_lookup_elem(inner, &zero) : 0;

	return table ? table->drop_above : -1;
}

static __always_inline __u32 limit(void)
{
	__u32 zero = 0;
	void *outer = bpf_map_lookup_elem(&c_head, &zero);
	struct contract_head *head = outer ? bpf_map_lookup_elem(outer, &zero) : 0;
	void *inner = bpf_map_lookup_elem(&c_tables, &zero);
	struct contract_table *table = inner ? bpf_map_lookup_elem(inner, &zero) : 0;

	if (head)
		return placed(head, 0) < placed(head, 1) ? placed(head, 0) : placed(head, 1);
	return table ? table->drop_above : -1;
}

SEC("xdp")
int contract_xdp(struct xdp_md *ctx)
{
	struct packet *packet = packet_of(&xdp_packet);
	struct contract_record *record;
	__u64 serial;

	if (!packet)
		return XDP_PASS;
	serial = count(packet->bytes);
	record = record_reserve(c_ring, sizeof(*record));
	if (record) {
		record_fill(record, serial, packet->bytes);
		record_submit(record);
	}
	if (packet->bytes > limit())
		return xdp_drop(ctx, packet);
	return xdp_next(ctx, packet);
}

/* Reserves and gives back: the discarded line of the ledger. */
SEC("xdp")
int contract_undo(struct xdp_md *ctx)
{
	struct packet *packet = packet_of(&xdp_packet);
	void *record;

	if (!packet)
		return XDP_PASS;
	if (packet->bytes == 77) {
		record = record_reserve(c_ring, sizeof(struct contract_record));
		if (record)
			record_discard(c_ring, record);
	}
	return xdp_next(ctx, packet);
}

SEC("raw_tp/sys_enter")
int contract_trace(void *ctx)
{
	(void)ctx;
	return 0;
}

/* No kernel has this hook: it must be left out, with a reason. */
SEC("tp_btf/contract_no_such_hook")
int contract_absent(void *ctx)
{
	(void)ctx;
	return 0;
}

SEC("iter/task")
int contract_iter(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct contract_record record;

	if (!task)
		return 0;
	record_fill(&record, task_start_ns(task), BPF_CORE_READ(task, tgid));
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}
