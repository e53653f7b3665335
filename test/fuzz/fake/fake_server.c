/*
 * fake_server.c
 *		Memory, errors, transactions, locks and time of the fake server.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "lib/pairingheap.h"
#include "miscadmin.h"
#include "nodes/memnodes.h"
#include "replication/syncrep.h"
#include "replication/walsender_private.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/bufmgr.h"
#include "storage/lwlock.h"
#include "storage/pmsignal.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "fake.h"
#include "kstop.h"

/* ------------------------------------------------------------------------
 * Memory contexts: every block is malloc's, so that the sanitizer sees its ends
 * ------------------------------------------------------------------------
 */

typedef struct Piece
{
	struct Piece *prev;
	struct Piece *next;
	struct FakeContext *owner;
	Size		size;
} Piece;

StaticAssertDecl(sizeof(Piece) % MAXIMUM_ALIGNOF == 0, "blocks are not aligned");

typedef struct FakeContext
{
	MemoryContextData head;		/* first */
	Piece	   *blocks;
} FakeContext;

MemoryContext CurrentMemoryContext;
MemoryContext TopMemoryContext;
MemoryContext TopTransactionContext;
MemoryContext CurTransactionContext;
MemoryContext ErrorContext;

Size		fake_memory_limit;
static Size memory_used;

volatile uint32 CritSectionCount;
volatile uint32 InterruptHoldoffCount;
volatile sig_atomic_t InterruptPending;

Size
fake_memory_used(void)
{
	return memory_used;
}

MemoryContext
AllocSetContextCreateInternal(MemoryContext parent, const char *name, Size minContextSize,
							  Size initBlockSize, Size maxBlockSize)
{
	FakeContext *context = calloc(1, sizeof(FakeContext));

	if (CritSectionCount > 0)
		fake_fail("memory context created in a critical section");
	context->head.type = T_AllocSetContext;
	context->head.name = name;
	context->head.parent = parent;
	if (parent != NULL)
	{
		context->head.nextchild = parent->firstchild;
		if (parent->firstchild != NULL)
			parent->firstchild->prevchild = &context->head;
		parent->firstchild = &context->head;
	}
	return &context->head;
}

static void
free_blocks(FakeContext *context)
{
	while (context->blocks != NULL)
		pfree(context->blocks + 1);
}

void
MemoryContextDeleteChildren(MemoryContext context)
{
	while (context->firstchild != NULL)
		MemoryContextDelete(context->firstchild);
}

Size
MemoryContextMemAllocated(MemoryContext context, bool recurse)
{
	Size		size = context->mem_allocated;

	for (MemoryContext c = context->firstchild; recurse && c != NULL; c = c->nextchild)
		size += MemoryContextMemAllocated(c, true);
	return size;
}

void
MemoryContextReset(MemoryContext context)
{
	MemoryContextDeleteChildren(context);
	free_blocks((FakeContext *) context);
}

void
MemoryContextDelete(MemoryContext context)
{
	if (context == CurrentMemoryContext)
		fake_fail("the current memory context \"%s\" is deleted", context->name);
	MemoryContextReset(context);
	if (context->prevchild != NULL)
		context->prevchild->nextchild = context->nextchild;
	else if (context->parent != NULL)
		context->parent->firstchild = context->nextchild;
	if (context->nextchild != NULL)
		context->nextchild->prevchild = context->prevchild;
	free(context);
}

static int
count_contexts(MemoryContext context, const char *name)
{
	int			n = strcmp(context->name, name) == 0;

	for (MemoryContext child = context->firstchild; child != NULL; child = child->nextchild)
		n += count_contexts(child, name);
	return n;
}

int
fake_contexts(const char *name)
{
	return count_contexts(TopMemoryContext, name);
}

void *
MemoryContextAllocExtended(MemoryContext context, Size size, int flags)
{
	FakeContext *owner = (FakeContext *) context;
	Piece	   *block;

	if (CritSectionCount > 0)
		fake_fail("memory allocated in a critical section");
	if (!((flags & MCXT_ALLOC_HUGE) != 0 ? AllocHugeSizeIsValid(size) : AllocSizeIsValid(size)))
		elog(ERROR, "invalid memory alloc request size %zu", size);
	if (fake_memory_limit > 0 && size > fake_memory_limit - Min(memory_used, fake_memory_limit))
	{
		if ((flags & MCXT_ALLOC_NO_OOM) != 0)
			return NULL;
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
	block = malloc(sizeof(Piece) + size);
	block->prev = NULL;
	block->next = owner->blocks;
	block->owner = owner;
	block->size = size;
	if (owner->blocks != NULL)
		owner->blocks->prev = block;
	owner->blocks = block;
	memory_used += size;
	context->mem_allocated += size;
	memset(block + 1, (flags & MCXT_ALLOC_ZERO) != 0 ? 0 : 0x7F, size);
	return block + 1;
}

void
pfree(void *pointer)
{
	Piece	   *block = (Piece *) pointer - 1;

	if (block->prev != NULL)
		block->prev->next = block->next;
	else
		block->owner->blocks = block->next;
	if (block->next != NULL)
		block->next->prev = block->prev;
	memory_used -= block->size;
	block->owner->head.mem_allocated -= block->size;
	free(block);
}

void *
repalloc_huge(void *pointer, Size size)
{
	Piece	   *block = (Piece *) pointer - 1;
	void	   *new = MemoryContextAllocExtended(&block->owner->head, size, MCXT_ALLOC_HUGE);

	memcpy(new, pointer, Min(size, block->size));
	pfree(pointer);
	return new;
}

void *
repalloc(void *pointer, Size size)
{
	if (!AllocSizeIsValid(size))
		elog(ERROR, "invalid memory alloc request size %zu", size);
	return repalloc_huge(pointer, size);
}

void *
MemoryContextAlloc(MemoryContext context, Size size)
{
	return MemoryContextAllocExtended(context, size, 0);
}

void *
MemoryContextAllocZero(MemoryContext context, Size size)
{
	return MemoryContextAllocExtended(context, size, MCXT_ALLOC_ZERO);
}

void *
MemoryContextAllocHuge(MemoryContext context, Size size)
{
	return MemoryContextAllocExtended(context, size, MCXT_ALLOC_HUGE);
}

void *
palloc(Size size)
{
	return MemoryContextAllocExtended(CurrentMemoryContext, size, 0);
}

void *
palloc0(Size size)
{
	return MemoryContextAllocExtended(CurrentMemoryContext, size, MCXT_ALLOC_ZERO);
}

void *
palloc_extended(Size size, int flags)
{
	return MemoryContextAllocExtended(CurrentMemoryContext, size, flags);
}

char *
MemoryContextStrdup(MemoryContext context, const char *string)
{
	return strcpy(MemoryContextAlloc(context, strlen(string) + 1), string);
}

char *
pstrdup(const char *string)
{
	return MemoryContextStrdup(CurrentMemoryContext, string);
}

char *
pnstrdup(const char *string, Size len)
{
	char	   *copy;

	len = strnlen(string, len);
	copy = palloc(len + 1);
	memcpy(copy, string, len);
	copy[len] = '\0';
	return copy;
}

Size
add_size(Size a, Size b)
{
	return a + b;
}

Size
mul_size(Size a, Size b)
{
	return a * b;
}

/* ------------------------------------------------------------------------
 * Shared memory
 * ------------------------------------------------------------------------
 */

#define MAX_STRUCTS		16

static struct
{
	const char *name;
	void	   *memory;
	bool		known;
}			structs[MAX_STRUCTS];

void *
ShmemInitStruct(const char *name, Size size, bool *found)
{
	for (int i = 0; i < MAX_STRUCTS; i++)
	{
		if (structs[i].name != NULL && strcmp(structs[i].name, name) != 0)
			continue;
		if (structs[i].name == NULL)
			structs[i].memory = malloc(size);
		structs[i].name = name;
		*found = structs[i].known;
		structs[i].known = true;
		return structs[i].memory;
	}
	fake_fail("too many structures in shared memory");
}

void
fake_shmem_reset(void)
{
	for (int i = 0; i < MAX_STRUCTS; i++)
		structs[i].known = false;
}

HTAB *
ShmemInitHash(const char *name, long init_size, long max_size, HASHCTL *info, int flags)
{
	static HTAB *table;

	/* the log's index of partitions is the only one */
	if (table != NULL)
		hash_destroy(table);
	info->hcxt = TopMemoryContext;
	table = hash_create(name, max_size, info, flags | HASH_CONTEXT);
	return table;
}

/* ------------------------------------------------------------------------
 * Errors
 * ------------------------------------------------------------------------
 */

#define MAX_NESTED	4

static struct
{
	int			elevel;
	int			code;
	char		message[512];
}			errors[MAX_NESTED];
static int	nested = -1;

sigjmp_buf *PG_exception_stack;
ErrorContextCallback *error_context_stack;
bool		(*fake_error_expected) (int elevel, int code, const char *message);

bool
errstart(int elevel, const char *domain)
{
	if (++nested == MAX_NESTED)
		fake_fail("errors in errors");
	errors[nested].elevel = elevel;
	errors[nested].code = elevel >= ERROR ? ERRCODE_INTERNAL_ERROR : 0;
	errors[nested].message[0] = '\0';
	return true;
}

bool
errstart_cold(int elevel, const char *domain)
{
	return errstart(elevel, domain);
}

int
errcode(int sqlerrcode)
{
	errors[nested].code = sqlerrcode;
	return 0;
}

int
errcode_for_file_access(void)
{
	errors[nested].code = errno == ENOSPC ? ERRCODE_DISK_FULL : ERRCODE_IO_ERROR;
	return 0;
}

int
errcode_for_socket_access(void)
{
	errors[nested].code = ERRCODE_CONNECTION_FAILURE;
	return 0;
}

/* Formatted, so that what it points at is looked at. */
static void
format(char *to, Size size, const char *fmt, va_list args)
{
	pg_vsnprintf(to, size, fmt, args);
}

int
errmsg(const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	format(errors[nested].message, sizeof(errors[nested].message), fmt, args);
	va_end(args);
	return 0;
}

int
errmsg_internal(const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	format(errors[nested].message, sizeof(errors[nested].message), fmt, args);
	va_end(args);
	return 0;
}

#define FORMAT_ONLY(name) \
int \
name(const char *fmt,...) \
{ \
	char		text[512]; \
	va_list		args; \
	va_start(args, fmt); \
	format(text, sizeof(text), fmt, args); \
	va_end(args); \
	return 0; \
}

FORMAT_ONLY(errdetail)
FORMAT_ONLY(errdetail_internal)
FORMAT_ONLY(errhint)
FORMAT_ONLY(errcontext_msg)

int
set_errcontext_domain(const char *domain)
{
	return 0;
}

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	int			elevel = errors[nested].elevel;
	int			code = errors[nested].code;

	for (ErrorContextCallback *c = error_context_stack; c != NULL; c = c->previous)
		c->callback(c->arg);
	if (getenv("FAKE_LOG") != NULL)
		fprintf(stderr, "%d: %s (%s:%d)\n", elevel, errors[nested].message, filename, lineno);
	nested--;
	if (elevel < ERROR)
	{
		if (elevel >= LOG && fake_error_expected != NULL &&
			!fake_error_expected(elevel, code, errors[nested + 1].message))
			fake_fail("LOG %s (%s:%d)", errors[nested + 1].message, filename, lineno);
		return;
	}
	if (CritSectionCount > 0)
		fake_fail("error in a critical section: %s", errors[nested + 1].message);
	if (fake_error_expected == NULL ||
		!fake_error_expected(elevel, code, errors[nested + 1].message))
		fake_fail("%s %s (%s:%d)", elevel > ERROR ? "FATAL or PANIC" : "ERROR",
				  errors[nested + 1].message, filename, lineno);
	if (PG_exception_stack == NULL)
		fake_fail("nobody catches: %s", errors[nested + 1].message);
	nested = -1;
	InterruptHoldoffCount = 0;
	CritSectionCount = 0;
	siglongjmp(*PG_exception_stack, 1);
}

void
pg_re_throw(void)
{
	siglongjmp(*PG_exception_stack, 1);
}

void
EmitErrorReport(void)
{
}

void
FlushErrorState(void)
{
}

void
ProcessInterrupts(void)
{
}

void
proc_exit(int code)
{
	fake_fail("proc_exit");
}

/* ------------------------------------------------------------------------
 * Locks.  There is nobody else: what is not free is not free by chance, and only where a caller
 * does not wait.
 * ------------------------------------------------------------------------
 */

#define MAX_HELD	64

int			fake_busy;
static uint64 luck;

bool
fake_chance(int percent)
{
	if (percent <= 0)
		return false;
	luck = luck * UINT64CONST(6364136223846793005) + UINT64CONST(1442695040888963407);
	return (int) (luck >> 33) % 100 < percent;
}

static LWLockPadded main_locks[NUM_FIXED_LWLOCKS];
LWLockPadded *MainLWLockArray = main_locks;

static struct
{
	LWLock	   *lock;
	LWLockMode	mode;
}			held[MAX_HELD];
static int	nheld;

static void
take(LWLock *lock, LWLockMode mode)
{
	for (int i = 0; i < nheld; i++)
	{
		if (held[i].lock == lock)
			fake_fail("a lock is taken twice: the server would wait for ever");
	}
	if (nheld == MAX_HELD)
		fake_fail("too many locks");
	held[nheld].lock = lock;
	held[nheld++].mode = mode;
	HOLD_INTERRUPTS();
}

void
LWLockInitialize(LWLock *lock, int tranche_id)
{
	lock->tranche = tranche_id;
}

int
LWLockNewTrancheId(void)
{
	return LWTRANCHE_FIRST_USER_DEFINED;
}

void
LWLockRegisterTranche(int tranche_id, const char *tranche_name)
{
}

bool
LWLockAcquire(LWLock *lock, LWLockMode mode)
{
	take(lock, mode);
	return true;
}

bool
LWLockConditionalAcquire(LWLock *lock, LWLockMode mode)
{
	if (fake_chance(fake_busy))
		return false;
	take(lock, mode);
	return true;
}

void
LWLockRelease(LWLock *lock)
{
	for (int i = nheld - 1; i >= 0; i--)
	{
		if (held[i].lock == lock)
		{
			held[i] = held[--nheld];
			RESUME_INTERRUPTS();
			return;
		}
	}
	fake_fail("a lock is released that is not held");
}

void
LWLockReleaseAll(void)
{
	nheld = 0;
}

bool
LWLockHeldByMe(LWLock *lock)
{
	for (int i = 0; i < nheld; i++)
	{
		if (held[i].lock == lock)
			return true;
	}
	return false;
}

int
s_lock(volatile slock_t *lock, const char *file, int line, const char *func)
{
	fake_fail("a spinlock is taken twice, %s:%d", file, line);
}

bool
ConditionalLockRelationOid(Oid relid, LOCKMODE mode)
{
	return !fake_chance(fake_busy);
}

void
LockRelationOid(Oid relid, LOCKMODE mode)
{
}

void
UnlockRelationOid(Oid relid, LOCKMODE mode)
{
}

void
LockRelationForExtension(Relation rel, LOCKMODE mode)
{
}

bool
ConditionalLockRelationForExtension(Relation rel, LOCKMODE mode)
{
	return !fake_chance(fake_busy);
}

bool
ConditionalLockPage(Relation rel, BlockNumber block, LOCKMODE mode)
{
	return !fake_chance(fake_busy);
}

void
UnlockRelationForExtension(Relation rel, LOCKMODE mode)
{
}

void
ConditionVariableInit(ConditionVariable *cv)
{
}

void
ConditionVariableBroadcast(ConditionVariable *cv)
{
}

void
ConditionVariableCancelSleep(void)
{
}

void
ConditionVariablePrepareToSleep(ConditionVariable *cv)
{
}

bool
ConditionVariableTimedSleep(ConditionVariable *cv, long timeout, uint32 wait_event_info)
{
	fake_fail("a sleep");
}

void
pg_usleep(long microsec)
{
	fake_clock_us += microsec;
}

volatile sig_atomic_t postmaster_possibly_dead;
int			MyProcPid = 1;
int			max_safe_fds = 1000;

bool
PostmasterIsAliveInternal(void)
{
	return true;
}

void
ReserveExternalFD(void)
{
}

void
on_shmem_exit(pg_on_exit_callback function, Datum arg)
{
}

/* A turn of the loop never sleeps here. */
WaitEventSet *
CreateWaitEventSet(MemoryContext context, int nevents)
{
	return NULL;
}

int
AddWaitEventToSet(WaitEventSet *set, uint32 events, pgsocket fd, Latch *l, void *user_data)
{
	return 0;
}

int
WaitEventSetWait(WaitEventSet *set, long timeout, WaitEvent *occurred, int nevents,
				 uint32 wait_event_info)
{
	fake_fail("a sleep");
}

static Latch latch;
Latch	   *MyLatch = &latch;

void
SetLatch(Latch *l)
{
}

void
ResetLatch(Latch *l)
{
}

/* ------------------------------------------------------------------------
 * Transactions
 * ------------------------------------------------------------------------
 */

FakeXact	fake_xacts[FAKE_XIDS];
bool		fake_recovery;
XLogRecPtr	XactLastCommitEnd;

#define MAX_CALLBACKS	8

static XactCallback callbacks[MAX_CALLBACKS];
static int	ncallbacks;
static bool in_transaction;

void
RegisterXactCallback(XactCallback callback, void *arg)
{
	if (ncallbacks == MAX_CALLBACKS)
		fake_fail("too many transaction callbacks");
	callbacks[ncallbacks++] = callback;
}

void
RegisterSubXactCallback(SubXactCallback callback, void *arg)
{
}

void
fake_transaction_begin(void)
{
	if (in_transaction)
		fake_fail("a transaction in a transaction");
	in_transaction = true;
	TopTransactionContext = AllocSetContextCreate(TopMemoryContext, "transaction",
												  ALLOCSET_DEFAULT_SIZES);
	CurrentMemoryContext = CurTransactionContext = TopTransactionContext;
}

void
fake_transaction_end(bool commit)
{
	if (!commit)
	{
		LWLockReleaseAll();
		UnlockBuffers();
	}
	for (int i = 0; i < ncallbacks; i++)
		callbacks[i] (commit ? XACT_EVENT_COMMIT : XACT_EVENT_ABORT, NULL);
	CurrentMemoryContext = TopMemoryContext;
	if (TopTransactionContext != NULL)
		MemoryContextDelete(TopTransactionContext);
	TopTransactionContext = CurTransactionContext = NULL;
	in_transaction = false;
}

void
StartTransactionCommand(void)
{
	fake_transaction_begin();
}

void
CommitTransactionCommand(void)
{
	fake_check_released();
	fake_transaction_end(true);
}

void
AbortCurrentTransaction(void)
{
	fake_transaction_end(false);
}

bool
IsTransactionState(void)
{
	return in_transaction;
}

int
GetCurrentTransactionNestLevel(void)
{
	return 1;
}

bool
TransactionIdIsInProgress(TransactionId xid)
{
	return xid < FAKE_XIDS && fake_xacts[xid] == FAKE_RUNNING;
}

bool
TransactionIdDidCommit(TransactionId xid)
{
	return xid < FAKE_XIDS && fake_xacts[xid] == FAKE_COMMITTED;
}

bool
TransactionIdPrecedes(TransactionId a, TransactionId b)
{
	return (int32) (a - b) < 0;
}

bool
RecoveryInProgress(void)
{
	return fake_recovery;
}

bool
fake_try(void (*fn) (void *arg), void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile bool ok = true;

	PG_TRY();
	{
		fn(arg);
	}
	PG_CATCH();
	{
		ok = false;
		LWLockReleaseAll();
		UnlockBuffers();
	}
	PG_END_TRY();
	CurrentMemoryContext = caller;
	return ok;
}

/* ------------------------------------------------------------------------
 * Time, and what there is none of
 * ------------------------------------------------------------------------
 */

int64		fake_clock_us;

TimestampTz
GetCurrentTimestamp(void)
{
	return fake_clock_us;
}

long
TimestampDifferenceMilliseconds(TimestampTz start, TimestampTz stop)
{
	return stop <= start ? 0 : (long) ((stop - start) / 1000);
}

bool
TimestampDifferenceExceeds(TimestampTz start, TimestampTz stop, int msec)
{
	return stop - start >= msec * INT64CONST(1000);
}

pg_atomic_uint32 *kstop_armed;

void
kstop_reached(const char *name)
{
}

bool
kafka_pg_in_database(void)
{
	return true;
}

void
kafka_pg_check_database(void)
{
}

int			max_wal_senders;
char	   *SyncRepStandbyNames;
WalSndCtlData *WalSndCtl;

void
SyncRepWaitForLSN(XLogRecPtr lsn, bool commit)
{
	fake_fail("a wait for standbys");
}

/* ------------------------------------------------------------------------
 * Hash tables: slow and simple, entries never move
 * ------------------------------------------------------------------------
 */

#define BUCKETS		256

typedef struct Entry
{
	struct Entry *next;
	max_align_t data[FLEXIBLE_ARRAY_MEMBER];
} Entry;

struct HTAB
{
	MemoryContext context;
	Size		key_size;
	Size		entry_size;
	long		count;
	Entry	   *buckets[BUCKETS];
};

HTAB *
hash_create(const char *name, long nelem, const HASHCTL *info, int flags)
{
	MemoryContext context = AllocSetContextCreateInternal(info->hcxt, name, 0, 0, 0);
	HTAB	   *table = MemoryContextAllocZero(context, sizeof(HTAB));

	table->context = context;
	table->key_size = info->keysize;
	table->entry_size = info->entrysize;
	return table;
}

void
hash_destroy(HTAB *table)
{
	MemoryContextDelete(table->context);
}

long
hash_get_num_entries(HTAB *table)
{
	return table->count;
}

Size
hash_estimate_size(long num_entries, Size entrysize)
{
	return num_entries * entrysize;
}

void *
hash_search(HTAB *table, const void *key, HASHACTION action, bool *found)
{
	const uint8 *bytes = key;
	uint32		hash = 0;
	Entry	  **link;
	Entry	   *entry;

	for (Size i = 0; i < table->key_size; i++)
		hash = hash * 31 + bytes[i];
	link = &table->buckets[hash % BUCKETS];
	while (*link != NULL && memcmp((*link)->data, key, table->key_size) != 0)
		link = &(*link)->next;
	if (found != NULL)
		*found = *link != NULL;
	entry = *link;
	if (action == HASH_REMOVE && entry != NULL)
	{
		/* the server leaves it readable until the next call, callers must not */
		*link = entry->next;
		table->count--;
		pfree(entry);
		return key != NULL ? unconstify(void *, key) : NULL;
	}
	if (entry != NULL || action == HASH_FIND || action == HASH_REMOVE)
		return entry != NULL ? entry->data : NULL;
	entry = MemoryContextAlloc(table->context, offsetof(Entry, data) + table->entry_size);
	entry->next = table->buckets[hash % BUCKETS];
	table->buckets[hash % BUCKETS] = entry;
	memcpy(entry->data, key, table->key_size);
	table->count++;
	return entry->data;
}

/* ------------------------------------------------------------------------
 * Pairing heaps
 * ------------------------------------------------------------------------
 */

static pairingheap_node *
join(pairingheap *heap, pairingheap_node *a, pairingheap_node *b)
{
	pairingheap_node *first;
	pairingheap_node *second;

	if (a == NULL || b == NULL)
		return a == NULL ? b : a;
	first = heap->ph_compare(a, b, heap->ph_arg) >= 0 ? a : b;
	second = first == a ? b : a;
	second->next_sibling = first->first_child;
	second->prev_or_parent = first;
	if (first->first_child != NULL)
		first->first_child->prev_or_parent = second;
	first->first_child = second;
	return first;
}

static pairingheap_node *
join_all(pairingheap *heap, pairingheap_node *list)
{
	pairingheap_node *root = NULL;

	while (list != NULL)
	{
		pairingheap_node *next = list->next_sibling;

		list->next_sibling = NULL;
		list->prev_or_parent = NULL;
		root = join(heap, root, list);
		list = next;
	}
	return root;
}

pairingheap *
pairingheap_allocate(pairingheap_comparator compare, void *arg)
{
	pairingheap *heap = palloc0(sizeof(pairingheap));

	heap->ph_compare = compare;
	heap->ph_arg = arg;
	return heap;
}

void
pairingheap_add(pairingheap *heap, pairingheap_node *node)
{
	memset(node, 0, sizeof(*node));
	heap->ph_root = join(heap, heap->ph_root, node);
}

pairingheap_node *
pairingheap_first(pairingheap *heap)
{
	if (heap->ph_root == NULL)
		fake_fail("the first of an empty heap");
	return heap->ph_root;
}

pairingheap_node *
pairingheap_remove_first(pairingheap *heap)
{
	pairingheap_node *root = pairingheap_first(heap);

	heap->ph_root = join_all(heap, root->first_child);
	root->first_child = NULL;
	return root;
}

void
pairingheap_remove(pairingheap *heap, pairingheap_node *node)
{
	pairingheap_node *children;

	if (node == heap->ph_root)
	{
		pairingheap_remove_first(heap);
		return;
	}
	if (node->prev_or_parent == NULL)
		fake_fail("a node is removed that is in no heap");
	if (node->prev_or_parent->first_child == node)
		node->prev_or_parent->first_child = node->next_sibling;
	else
		node->prev_or_parent->next_sibling = node->next_sibling;
	if (node->next_sibling != NULL)
		node->next_sibling->prev_or_parent = node->prev_or_parent;
	children = join_all(heap, node->first_child);
	memset(node, 0, sizeof(*node));
	heap->ph_root = join(heap, heap->ph_root, children);
}

/* ------------------------------------------------------------------------
 * An input's life
 * ------------------------------------------------------------------------
 */

void
fake_start(void)
{
	if (TopMemoryContext != NULL)
		return;
	TopMemoryContext = AllocSetContextCreateInternal(NULL, "top", 0, 0, 0);
	CurrentMemoryContext = TopMemoryContext;
	ErrorContext = AllocSetContextCreateInternal(TopMemoryContext, "error", 0, 0, 0);
}

void
fake_begin(uint64 seed)
{
	luck = seed * UINT64CONST(0x9E3779B97F4A7C15) + 1;
	fake_clock_us = INT64CONST(800000000) * 1000000;
	fake_recovery = false;
	fake_busy = 0;
	fake_memory_limit = 0;
	nested = -1;
	XactLastCommitEnd = 0;
	memset(fake_xacts, 0, sizeof(fake_xacts));
}

/*
 * What is left of an input is counted by contexts; looking for leaks among all memory would take
 * most of the time.
 */
extern const char *__asan_default_options(void);

const char *
__asan_default_options(void)
{
	return "detect_leaks=0";
}
