/*
 * klog_lend.c
 *		Batches that are sent from the pages on which they lie.
 *
 * klog_read without a buffer tells where batches begin and how many bytes they are; here those
 * bytes are lent, some pages at a time, to a system call that copies them.  Between two loans
 * there is nothing but a place: no pin, no lock, no memory.
 */
#include "postgres.h"

#include <sys/uio.h>

#include "batch/kbatch.h"
#include "batch/kbatch_build.h"
#include "miscadmin.h"

#include "log/klog_buffer.h"

/* Pages of one loan: as many content locks are held, and none but data pages'. */
#define LEND_PAGES		64

/* Control batches that stand for dead ones, in one loan. */
#define LEND_FILLERS	8

/* What one entry of the loan's iovec began with, to go back to when it was not all taken. */
typedef struct Lent
{
	KLogSpan	from;			/* remaining is not kept up to date */
	Page		page;
	uint8	   *data;
	Size		len;
} Lent;

typedef struct Loan
{
	int			npages;
	int			nlent;
	int			nfillers;
	Size		total;
	Size		paged;			/* bytes of it that lie on pages */
	Buffer		buffer[LEND_PAGES];
	Lent		lent[KLOG_LEND_MAX + 1];	/* the last: where the loan ends */
	uint8		filler[LEND_FILLERS][KBATCH_FILLER_MAX_SIZE];
} Loan;

/* One at a time in a process. */
static Loan loan;

static bool
read_header(Page page, uint32 pos, KBatchHeader *header)
{
	uint16		lower = ((PageHeader) page)->pd_lower;

	return pos < lower &&
		kbatch_header_read((uint8 *) page + pos, lower - pos, header) == KBATCH_OK;
}

/* Adds bytes to the loan; at is where they begin. */
static void
add(const KLogSpan *at, Page page, uint8 *data, Size len)
{
	Lent	   *last = loan.nlent > 0 ? &loan.lent[loan.nlent - 1] : NULL;

	loan.total += len;
	if (page != NULL)
		loan.paged += len;
	/* fillers stay apart, even where one ends as the next begins: step_on() goes through one */
	if (page != NULL && last != NULL && last->page == page && last->data + last->len == data)
	{
		last->len += len;
		return;
	}
	loan.lent[loan.nlent++] = (Lent) {*at, page, data, len};
}

/*
 * Lends what a page has of the span.  False when the loan is full or the span at its end;
 * *corrupt: the page is not what klog_read saw.
 */
static bool
lend_page(KLogSpan *at, Page page, Size want, int max, bool *corrupt)
{
	uint16		lower = ((PageHeader) page)->pd_lower;

	while (at->pos < lower)
	{
		Size		n;

		if (loan.total >= want || loan.nlent == max)
			return false;
		if (at->left == 0)
		{
			KBatchHeader header;

			if (!read_header(page, at->pos, &header))
			{
				*corrupt = true;
				return false;
			}
			at->skip = klog_batch_is_dead(page, at->pos);
			if (at->skip)
			{
				uint8	   *filler;
				Size		size;

				if (loan.nfillers == LEND_FILLERS)
					return false;
				filler = loan.filler[loan.nfillers++];
				size = kbatch_write_filler(filler, &header);
				n = Min(size - at->filler_sent, want - loan.total);
				add(at, NULL, filler + at->filler_sent, n);
				at->filler_sent += n;
				if (at->filler_sent < size)
					return false;
				at->filler_sent = 0;
			}
			at->left = kbatch_size(&header);
		}
		n = Min(at->left, (Size) (lower - at->pos));
		if (!at->skip)
		{
			n = Min(n, want - loan.total);
			add(at, page, (uint8 *) page + at->pos, n);
		}
		at->pos += n;
		at->left -= n;
	}
	return true;
}

static void
give_back(void)
{
	for (int i = 0; i < loan.npages; i++)
		UnlockReleaseBuffer(loan.buffer[i]);
	loan.npages = 0;
	loan.nlent = 0;
	loan.nfillers = 0;
	loan.total = loan.paged = 0;
}

KLogResult
klog_lend(Relation rel, KLogPartition *part, const KLogSpan *span, Size most, struct iovec *iov,
		  int *niov, KLogPosition *cold)
{
	KLogSpan	at = *span;
	KLogEnd		end = klog_end(part);
	int			max = Min(*niov, KLOG_LEND_MAX);
	Size		want = Min(span->remaining, most);
	KLogSegment seg;
	KLogResult	result;
	bool		wrong = false;

	/* an error may have ended the last one, and let go of its locks and pins */
	loan.npages = loan.nlent = loan.nfillers = 0;
	loan.total = loan.paged = 0;
	*niov = 0;
	*cold = KLOG_NO_POSITION;
	result = klog_segment_by_number(rel, part, at.segment, &seg, cold);
	if (result != KLOG_OK)
		return result == KLOG_COLD ? KLOG_COLD : KLOG_OUT_OF_RANGE;
	while (loan.npages < LEND_PAGES && loan.total < want && loan.nlent < max)
	{
		Size		before = loan.paged;
		BlockNumber block;
		Buffer		buffer;
		Page		page;
		bool		go_on;

		if (seg.entry.segment == end.segment ? at.page > end.page : at.page >= seg.entry.npages)
		{
			if (loan.npages > 0)
				break;
			result = seg.entry.segment >= end.segment ? KLOG_OUT_OF_RANGE :
				klog_segment_next(rel, part, &seg, cold);
			wrong = result != KLOG_OK && result != KLOG_COLD;
			if (result != KLOG_OK)
				break;
			at.segment = seg.entry.segment;
			at.page = 1;
			at.pos = KLOG_DATA_START;
			continue;
		}
		if (loan.npages > 0 && !klog_segment_knows(&seg, at.page))
			break;
		block = klog_segment_block(rel, part, &seg, at.page, cold);
		wrong = block == InvalidBlockNumber && !klog_is_cold(cold);
		if (block == InvalidBlockNumber)
			break;
		buffer = klog_buffer_pin_hot(rel, block);
		if (!BufferIsValid(buffer))
		{
			*cold = (KLogPosition) {-1, at.segment, at.page, 0};
			break;
		}
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		loan.buffer[loan.npages++] = buffer;
		page = BufferGetPage(buffer);
		wrong = !klog_page_is(page, KLOG_PAGE_DATA, part->partition, at.segment, at.page);
		go_on = !wrong && lend_page(&at, page, want, max, &wrong);
		if (loan.paged == before)
			UnlockReleaseBuffer(loan.buffer[--loan.npages]);	/* all of it is dead */
		if (!go_on)
			break;
		at.page++;
		at.pos = KLOG_DATA_START;
	}
	if (loan.total > 0)
	{
		for (int i = 0; i < loan.nlent; i++)
		{
			iov[i].iov_base = loan.lent[i].data;
			iov[i].iov_len = loan.lent[i].len;
		}
		*niov = loan.nlent;
		loan.lent[loan.nlent] = (Lent) {at, NULL, NULL, 0};
		return KLOG_OK;
	}
	give_back();
	return cold->page != 0 ? KLOG_COLD : wrong ? KLOG_OUT_OF_RANGE : KLOG_CORRUPT;
}

/* Goes n bytes on from where an entry of the loan begins, without leaving its page. */
static void
step_on(KLogSpan *at, const Lent *lent, Size n)
{
	*at = lent->from;
	if (lent->page == NULL)
	{
		at->filler_sent += n;
		return;
	}
	while (n > 0)
	{
		Size		step;

		if (at->left == 0)
		{
			KBatchHeader header = {0};

			/* it was read a moment ago, under the lock that is still held */
			(void) read_header(lent->page, at->pos, &header);
			at->left = kbatch_size(&header);
			at->skip = false;
		}
		step = Min(at->left, n);
		at->pos += step;
		at->left -= step;
		n -= step;
	}
}

void
klog_lend_end(KLogSpan *span, Size taken)
{
	Size		remaining = span->remaining - taken;

	for (int i = 0; i <= loan.nlent; i++)
	{
		if (i < loan.nlent && taken >= loan.lent[i].len)
		{
			taken -= loan.lent[i].len;
			continue;
		}
		if (taken > 0)
			step_on(span, &loan.lent[i], taken);
		else
			*span = loan.lent[i].from;
		break;
	}
	span->remaining = remaining;
	give_back();
}
