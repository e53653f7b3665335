/*
 * klog_checksum.c
 *		The server's two checksums, computed with what this processor can do.
 *
 * Packages are built for every processor of a kind, so the server computes CRC-32C eight bytes at
 * a time (WAL, for 1 kB: 0.1 us) and the checksum of a page without the vectors that
 * storage/checksum_impl.h is made for (0.1 us for each kB, too). The results here are the same.
 */
#include "postgres.h"

#include <limits.h>

#include <isa-l/crc.h>

#include "access/xlog.h"
#include "port/pg_crc32c.h"
#include "storage/bufpage.h"
#include "storage/checksum.h"

#include "log/klog.h"
#include "log/klog_buffer.h"

/* ------------------------------------------------------------------------
 * WAL
 *
 * The server itself chooses a function when it computes its first CRC, and leaves it in a variable;
 * newer versions know more of them (18: AVX-512).
 * ------------------------------------------------------------------------
 */
#ifdef USE_SSE42_CRC32C_WITH_RUNTIME_CHECK

/* Less is not worth a longer way. */
#define CRC_LONG	512

static pg_crc32c (*server_crc) (pg_crc32c crc, const void *data, size_t len);

static pg_crc32c
crc_long(pg_crc32c crc, const void *data, size_t len)
{
	if (len < CRC_LONG || len > INT_MAX)
		return server_crc(crc, data, len);
	return crc32_iscsi((unsigned char *) unconstify(void *, data), (int) len, crc);
}

/*
 * Has the whole server use ISA-L for long pieces of WAL, if both give the same for a sample. In the
 * postmaster, for all its children.
 */
void
klog_checksum_init(void)
{
	unsigned char sample[4 * CRC_LONG];
	pg_crc32c	crc;

	for (int i = 0; i < (int) sizeof(sample); i++)
		sample[i] = (unsigned char) (i * 31 + i / 256);
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, sample, sizeof(sample));	/* the server chooses */
	server_crc = pg_comp_crc32c;
	if (EQ_CRC32C(crc, crc_long(0xFFFFFFFF, sample, sizeof(sample))))
		pg_comp_crc32c = crc_long;
}

#else

void
klog_checksum_init(void)
{
}

#endif

/* ------------------------------------------------------------------------
 * Pages
 * ------------------------------------------------------------------------
 */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)

#pragma GCC push_options
#pragma GCC target("avx2")
#pragma GCC optimize("O3")
#define pg_checksum_page page_checksum_avx2
static uint16 page_checksum_avx2(char *page, BlockNumber blkno);
#include "storage/checksum_impl.h"
#undef pg_checksum_page
#pragma GCC pop_options

static uint16
page_checksum(char *page, BlockNumber block)
{
	if (__builtin_cpu_supports("avx2"))
		return page_checksum_avx2(page, block);
	return pg_checksum_page(page, block);
}

#else
#define page_checksum	pg_checksum_page
#endif

/* As PageSetChecksumInplace(), of a page that is not new. */
void
klog_checksum_page(Page page, BlockNumber block)
{
	Assert(!PageIsNew(page));
	if (DataChecksumsEnabled())
		((PageHeader) page)->pd_checksum = page_checksum((char *) page, block);
}

/* What PageIsVerifiedExtended() asks of a page first. */
bool
klog_checksum_is_right(Page page, BlockNumber block)
{
	PageHeader	header = (PageHeader) page;

	return !PageIsNew(page) &&
		(header->pd_flags & ~PD_VALID_FLAG_BITS) == 0 &&
		header->pd_lower <= header->pd_upper &&
		header->pd_upper <= header->pd_special &&
		header->pd_special <= BLCKSZ &&
		header->pd_special == MAXALIGN(header->pd_special) &&
		(!DataChecksumsEnabled() ||
		 page_checksum((char *) page, block) == header->pd_checksum);
}
