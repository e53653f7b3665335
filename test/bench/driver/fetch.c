/*
 * fetch.c
 *		One Fetch request after the other, through partition 0 from its beginning: how long does
 *		the server take to send what is in memory, while others write?
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver.h"

#define API_FETCH		1
#define BATCH_HEADER	61		/* of a record batch, as far as its records */

static Histogram fetch_hist;

/*
 * The offset after the last whole batch of an answer of Fetch 4, and the bytes of its batches.
 * Returns offset itself if there is none.
 */
static int64_t
next_offset(Buffer *answer, int id, int64_t offset, long *bytes)
{
	int64_t		n;
	int64_t		error;

	if (get_number(answer, 4) != id)
		die("the answer to another request");
	get_number(answer, 4);		/* throttle time */
	if (get_number(answer, 4) != 1)
		die("not one topic");
	n = get_number(answer, 2);
	get_skip(answer, (size_t) n);
	if (get_number(answer, 4) != 1)
		die("not one partition");
	get_number(answer, 4);
	error = get_number(answer, 2);
	if (error != 0)
		die("fetch: error %d", (int) error);
	get_number(answer, 8);		/* high watermark */
	get_number(answer, 8);		/* last stable offset */
	n = get_number(answer, 4);
	if (n > 0)
		die("aborted transactions");
	n = get_number(answer, 4);
	for (size_t end = answer->at + (n > 0 ? (size_t) n : 0);
		 end <= answer->length && answer->at + BATCH_HEADER <= end;)
	{
		int64_t		base = get_number(answer, 8);
		int64_t		length = get_number(answer, 4);
		size_t		start = answer->at;

		if (length < BATCH_HEADER - 12 || (size_t) length > end - start)
			break;				/* the last one may be cut off */
		if (base > offset)
			die("offset %ld came where %ld was due", (long) base, (long) offset);
		get_skip(answer, 4 + 1 + 4 + 2);	/* epoch, magic, CRC, attributes */
		offset = base + get_number(answer, 4) + 1;
		*bytes += (long) length;
		answer->at = start + (size_t) length;
	}
	return offset;
}

int
fetch(void)
{
	int			fd = raw_connect(false);
	Buffer		request = {0};
	Buffer		answer = {0};
	int64_t		offset = 0;
	long		records = 0;
	long		bytes = 0;
	long		requests = 0;

	hist_init(&fetch_hist);
	window_open(now_ns());
	while (now_ns() < window_end)
	{
		int64_t		sent = now_ns();
		int64_t		next;

		request_begin(&request, API_FETCH, 4, (int) ++requests);
		put_number(&request, -1, 4);	/* replica */
		put_number(&request, 0, 4); /* greatest wait, ms */
		put_number(&request, 1, 4); /* least bytes */
		put_number(&request, (int64_t) number_option("fetchsize"), 4);
		put_number(&request, 0, 1); /* read uncommitted */
		put_number(&request, 1, 4);
		put_string(&request, text_option("topic"));
		put_number(&request, 1, 4);
		put_number(&request, 0, 4); /* partition */
		put_number(&request, offset, 8);
		put_number(&request, (int64_t) number_option("fetchsize"), 4);
		request_end(&request);
		round_trip(fd, &request, &answer);
		if (sent >= window_start)
			hist_add(&fetch_hist, now_ns() - sent);
		next = next_offset(&answer, (int) requests, offset, &bytes);
		records += next - offset;
		/* Only what is there from the beginning: the end is not what is asked about. */
		offset = next == offset || next >= (int64_t) number_option("count") ? 0 : next;
	}
	if (records == 0)
		fail("nothing to read");
	printf("{\"records\": %ld, \"bytes\": %ld, \"rate\": %.0f, \"mb_s\": %.1f", records, bytes,
		   (double) fetch_hist.n / number_option("seconds"),
		   (double) bytes / (number_option("seconds") + number_option("warmup")) / 1e6);
	hist_print("fetch", &fetch_hist);
	close(fd);
	return finish();
}
