/*
 * ktable_tid.c
 *		Row identities for the executor.
 *
 * UPDATE heap_table ... FROM topic, MERGE and FOR UPDATE of another table in the same query let
 * the executor fetch a topic's row a second time by its ctid, when a row of the other table has
 * changed meanwhile (EvalPlanQual).  A ctid has 48 bits, and (partition, offset) has 96: so
 * what a transaction gives out are names, one block number for each 32,768 offsets of a
 * partition that it looks at.  They mean something in this transaction only.
 */
#include "postgres.h"

#include "access/xact.h"
#include "storage/itemptr.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "table/ktable_read.h"

#define KTABLE_TID_GROUP	32768

typedef struct KTableTidKey
{
	Oid			relid;
	int32		partition;
	int64		group;			/* offset / KTABLE_TID_GROUP */
} KTableTidKey;

typedef struct KTableTidEntry
{
	KTableTidKey key;
	BlockNumber block;
} KTableTidEntry;

/* In TopTransactionContext. */
static HTAB *ktable_tid_blocks = NULL;
static KTableTidKey *ktable_tid_keys = NULL;	/* by block number */
static BlockNumber ktable_tid_count = 0;
static Size ktable_tid_capacity = 0;

static BlockNumber
ktable_tid_block(const KTableTidKey *key)
{
	KTableTidEntry *entry;
	bool		found;

	if (ktable_tid_blocks == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(KTableTidKey);
		ctl.entrysize = sizeof(KTableTidEntry);
		ctl.hcxt = TopTransactionContext;
		ktable_tid_blocks = hash_create("kafka_log row identities", 64, &ctl,
										HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		ktable_tid_capacity = 64;
		ktable_tid_keys = MemoryContextAlloc(TopTransactionContext,
											 sizeof(KTableTidKey) * ktable_tid_capacity);
	}
	entry = hash_search(ktable_tid_blocks, key, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->block;

	/* The array first, so that nothing is half done if memory ends here. */
	if (ktable_tid_count >= MaxBlockNumber)
		elog(ERROR, "too many rows were locked in one transaction");
	if (ktable_tid_count == ktable_tid_capacity)
	{
		ktable_tid_keys = repalloc_huge(ktable_tid_keys,
										sizeof(KTableTidKey) * ktable_tid_capacity * 2);
		ktable_tid_capacity *= 2;
	}
	entry = hash_search(ktable_tid_blocks, key, HASH_ENTER, &found);
	entry->block = ktable_tid_count;
	ktable_tid_keys[ktable_tid_count++] = *key;
	return entry->block;
}

void
ktable_tid_make(Oid relid, int32 partition, int64 offset, ItemPointer tid)
{
	KTableTidKey key = {relid, partition, offset / KTABLE_TID_GROUP};
	BlockNumber block;

	/* Mostly the row follows the one before. */
	if (ktable_tid_count > 0 &&
		memcmp(&ktable_tid_keys[ktable_tid_count - 1], &key, sizeof(key)) == 0)
		block = ktable_tid_count - 1;
	else
		block = ktable_tid_block(&key);
	ItemPointerSet(tid, block, (OffsetNumber) (offset % KTABLE_TID_GROUP + 1));
}

bool
ktable_tid_find(Oid relid, ItemPointer tid, int32 *partition, int64 *offset)
{
	BlockNumber block = ItemPointerGetBlockNumberNoCheck(tid);
	OffsetNumber number = ItemPointerGetOffsetNumberNoCheck(tid);

	if (block >= ktable_tid_count || number == 0 || number > KTABLE_TID_GROUP ||
		ktable_tid_keys[block].relid != relid)
		return false;
	*partition = ktable_tid_keys[block].partition;
	*offset = ktable_tid_keys[block].group * KTABLE_TID_GROUP + number - 1;
	return true;
}

void
ktable_tid_at_xact_end(void)
{
	ktable_tid_blocks = NULL;
	ktable_tid_keys = NULL;
	ktable_tid_count = 0;
	ktable_tid_capacity = 0;
}
