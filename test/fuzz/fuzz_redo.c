/*
 * fuzz_redo.c
 *		Any WAL record of the log, replayed on any pages: redo may stop the server, as it does when
 *		it meets what cannot be, but touches nothing outside of the record and its pages.
 *
 * Input: the record's type, its main data, and for each block flags, data, and its page: a new one
 * of some kind with a few bytes changed.  The mutator makes records that are nearly right.
 */
#include "fuzz_input.h"

#include "access/xlog_internal.h"
#include "utils/memutils.h"

#include "fake.h"
#include "log/klog.h"
#include "log/klog_xlog.h"

#define PARTITION	1
#define SEGMENT		2

/* A block's flags */
#define IN_USE		0x01
#define WILL_INIT	0x02
#define HAS_DATA	0x04
#define IMAGE		0x08
#define MISSING		0x10
#define KIND_SHIFT	5

static bool
any_error(int elevel, int code, const char *message)
{
	return true;
}

/* An exact copy, so that whoever reads behind its end is caught. */
static char *
copy_of(Input *in, size_t len, size_t *got)
{
	const uint8 *bytes = take_bytes(in, &len);
	char	   *copy = malloc(Max(len, 1));

	memcpy(copy, bytes, len);
	*got = len;
	return copy;
}

static void
make_page(Input *in, int kind, BlockNumber block)
{
	static const KLogSegmentEntry entry;
	PGAlignedBlock page;
	int			npatches;

	memset(page.data, 0, BLCKSZ);
	switch (kind)
	{
		case KLOG_PAGE_META:
			klog_page_init_meta(page.data, 1);
			break;
		case KLOG_PAGE_BITMAP:
			klog_page_init_bitmap(page.data, true);
			break;
		case KLOG_PAGE_PARTITION:
			klog_page_init_partition(page.data, PARTITION, 0);
			break;
		case KLOG_PAGE_MAP:
			klog_page_init_map(page.data, PARTITION, 0, &entry, 1);
			break;
		case KLOG_PAGE_HEAD:
			klog_page_init_head(page.data, PARTITION, SEGMENT, block);
			break;
		case KLOG_PAGE_DATA:
			klog_page_init(page.data, KLOG_PAGE_DATA, PARTITION, SEGMENT, block);
			break;
	}
	npatches = take8(in) % 8;
	for (int i = 0; i < npatches; i++)
	{
		/* places count from the end when they are negative: there is the tag */
		int16		at = (int16) take16(in);
		uint8		n = 1 + take8(in) % 4;
		uint32		value = take32(in);
		int			from = at >= 0 ? at % BLCKSZ : BLCKSZ + at % BLCKSZ;

		memcpy(page.data + from, &value, Min(n, BLCKSZ - from));
	}
	fake_write_page(FAKE_RELATIONS, block, page.data, BLCKSZ);
}

static void
redo(void *arg)
{
	fake_redo(arg);
}

static void
set_up(void)
{
	if (TopMemoryContext != NULL)
		return;
	fake_start();
	klog_rmgr_register();
	fake_error_expected = any_error;
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	Input		in = {data, size};
	XLogReaderState state = {0};
	DecodedXLogRecord *record = calloc(1, offsetof(DecodedXLogRecord, blocks) +
									   sizeof(DecodedBkpBlock) * (XLR_MAX_BLOCK_ID + 1));
	int			nblocks;
	size_t		len;

	set_up();
	fake_begin(1);
	fake_storage_reset();
	fake_shmem_reset();
	klog_shmem_init();
	state.record = record;
	state.EndRecPtr = 0x2000000;
	record->header.xl_info = take8(&in);
	nblocks = take8(&in) % (XLR_MAX_BLOCK_ID + 2);
	record->main_data = copy_of(&in, take16(&in), &len);
	record->main_data_len = (uint32) len;
	record->max_block_id = nblocks - 1;
	for (int i = 0; i < nblocks; i++)
	{
		DecodedBkpBlock *block = &record->blocks[i];
		uint8		flags = take8(&in);

		block->in_use = (flags & IN_USE) != 0;
		block->rnode = fake_relation(0)->rd_node;
		if (flags & MISSING)
			block->rnode.relNode = 1;
		block->blkno = i;
		block->flags = flags & WILL_INIT ? BKPBLOCK_WILL_INIT : 0;
		block->has_image = block->apply_image = (flags & IMAGE) != 0;
		block->bkp_image = calloc(1, BLCKSZ);
		block->data = copy_of(&in, flags & HAS_DATA ? take16(&in) : 0, &len);
		block->data_len = (uint16) len;
		block->has_data = (flags & HAS_DATA) != 0;
		make_page(&in, flags >> KIND_SHIFT, i);
	}
	fake_try(redo, &state);
	for (int i = 0; i < nblocks; i++)
	{
		free(record->blocks[i].bkp_image);
		free(record->blocks[i].data);
	}
	free(record->main_data);
	free(record);
	fake_check_released();
	return 0;
}

/* ------------------------------------------------------------------------
 * Records that are nearly right
 * ------------------------------------------------------------------------
 */

typedef struct Output
{
	uint8	   *data;
	size_t		len;
	size_t		max;
	uint64		random;
} Output;

static uint32
below(Output *out, uint32 n)
{
	out->random = out->random * UINT64CONST(6364136223846793005) + UINT64CONST(1442695040888963407);
	return (uint32) (out->random >> 33) % n;
}

static void
put(Output *out, const void *data, size_t len)
{
	len = Min(len, out->max - out->len);
	if (len > 0)
		memcpy(out->data + out->len, data, len);
	out->len += len;
}

static void
put_number(Output *out, uint64 value, int bytes)
{
	put(out, &value, bytes);
}

/* Numbers as they come in records, seldom others. */
static uint32
number(Output *out)
{
	static const uint32 edges[] = {0, 1, 60, 61, 160, 250, 1900, 8192, 64000, 65535, 0x7FFFFFFF,
	0xFFFFFFFF};

	return below(out, 8) == 0 ? edges[below(out, lengthof(edges))] : below(out, 12);
}

static void
put_patches(Output *out, KLogPageKind kind)
{
	int			n = below(out, 3);

	put_number(out, n, 1);
	for (int i = 0; i < n; i++)
	{
		/* the page's header, its first counters, or its tag */
		int			at = (int) below(out, 96) - (int) sizeof(KLogPageTag);

		put_number(out, (uint16) (at / 2 * 2), 2);
		put_number(out, 1 + 2 * below(out, 2), 1);
		put_number(out, number(out), 4);
	}
}

static void
put_block(Output *out, KLogPageKind kind, uint8 flags, const void *data, size_t len)
{
	flags |= below(out, 20) ? IN_USE : 0;
	flags |= below(out, 20) ? 0 : MISSING;
	flags |= below(out, 20) ? 0 : IMAGE;
	put_number(out, flags | kind << KIND_SHIFT, 1);
	if (flags & HAS_DATA)
	{
		put_number(out, len, 2);
		put(out, data, len);
	}
	put_patches(out, kind);
}

static void
put_append(Output *out)
{
	static uint8 bytes[BLCKSZ];
	int			n = 1 + below(out, 3);
	xl_klog_append xlrec = {.partition = PARTITION,.segment = SEGMENT,.xid = number(out)};

	put_number(out, n, 1);
	put_number(out, sizeof(xlrec), 2);
	put(out, &xlrec, sizeof(xlrec));
	for (int i = 0; i < n; i++)
	{
		bool		init = below(out, 2);
		KLogPageEdit edit = {.page = i,.offset = KLOG_DATA_START,
			.len = below(out, 2) ? number(out) : below(out, KLOG_DATA_SPACE + 20),
		.nlisted = number(out),.flags = init ? KLOG_EDIT_INIT : 0};
		size_t		len = sizeof(edit) + edit.nlisted * sizeof(uint16) + edit.len;

		if (below(out, 8) == 0)
			edit.offset = number(out);
		memcpy(bytes, &edit, sizeof(edit));
		len = Min(len, sizeof(bytes));
		put_block(out, KLOG_PAGE_DATA, HAS_DATA | (init ? WILL_INIT : 0), bytes, len);
	}
}

size_t
LLVMFuzzerCustomMutator(uint8 *data, size_t size, size_t max_size, unsigned int seed)
{
	Output		out = {data, 0, max_size, seed};
	uint8		info = (uint8) (below(&out, 10) << 4);
	KLogSegmentEntry entries[KLOG_HEADER_ENTRIES] = {0};

	if (size > 2 && below(&out, 10) > 0)
		return LLVMFuzzerMutate(data, size, max_size);
	put_number(&out, info, 1);
#define PUT_MAIN(nblocks, ...) \
	do { \
		__VA_ARGS__; \
		put_number(&out, nblocks, 1); \
		put_number(&out, sizeof(xlrec), 2); \
		put(&out, &xlrec, sizeof(xlrec)); \
	} while (0)
	switch (info)
	{
		case XLOG_KLOG_INIT:
			PUT_MAIN(2, xl_klog_init xlrec = {(uint16) number(&out)});
			put_block(&out, KLOG_PAGE_META, WILL_INIT, NULL, 0);
			put_block(&out, KLOG_PAGE_BITMAP, WILL_INIT, NULL, 0);
			break;
		case XLOG_KLOG_PARTITION:
			PUT_MAIN(3, xl_klog_partition xlrec = {0, (int32) number(&out), number(&out),
				number(&out)});
			put_block(&out, KLOG_PAGE_META, 0, NULL, 0);
			put_block(&out, KLOG_PAGE_PARTITION, WILL_INIT, NULL, 0);
			put_block(&out, KLOG_PAGE_BITMAP, 0, NULL, 0);
			break;
		case XLOG_KLOG_SEGMENT:
			PUT_MAIN(3, xl_klog_segment xlrec = {.partition = PARTITION,.bit = number(&out),
				.open = {.segment = number(&out),.head = number(&out)}});
			put_block(&out, KLOG_PAGE_PARTITION, 0, NULL, 0);
			put_block(&out, KLOG_PAGE_BITMAP, 0, NULL, 0);
			put_block(&out, KLOG_PAGE_HEAD, WILL_INIT, NULL, 0);
			break;
		case XLOG_KLOG_MAP:
			{
				uint32		n = number(&out);

				PUT_MAIN(3, xl_klog_map xlrec = {.partition = PARTITION,.nentries = n,
					.unit = number(&out),.bit = number(&out)});
				put_block(&out, KLOG_PAGE_PARTITION, 0, NULL, 0);
				put_block(&out, KLOG_PAGE_MAP, WILL_INIT | HAS_DATA, entries,
						  sizeof(entries[0]) * Min(n, KLOG_HEADER_ENTRIES));
				put_block(&out, KLOG_PAGE_BITMAP, 0, NULL, 0);
				break;
			}
		case XLOG_KLOG_EXTENT:
			PUT_MAIN(2, xl_klog_extent xlrec = {PARTITION, SEGMENT, number(&out), number(&out),
				number(&out)});
			put_block(&out, KLOG_PAGE_HEAD, 0, NULL, 0);
			put_block(&out, KLOG_PAGE_BITMAP, 0, NULL, 0);
			break;
		case XLOG_KLOG_APPEND:
			put_append(&out);
			break;
		case XLOG_KLOG_RESOLVE:
			PUT_MAIN(1, xl_klog_resolve xlrec = {PARTITION, (uint16) number(&out),
				(uint16) number(&out)});
			put_block(&out, KLOG_PAGE_DATA, 0, NULL, 0);
			break;
		case XLOG_KLOG_MARK:
			PUT_MAIN(1, xl_klog_mark xlrec = {5, 5, PARTITION});
			put_block(&out, KLOG_PAGE_PARTITION, 0, NULL, 0);
			break;
		default:
			put_number(&out, 1, 1);
			put_number(&out, 0, 2);
			put_block(&out, KLOG_PAGE_BITMAP, WILL_INIT, NULL, 0);
			break;
	}
	return out.len;
}
