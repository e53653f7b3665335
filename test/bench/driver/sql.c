/*
 * sql.c
 *		Sessions of Postgres, on libpq: transactions of one row, COPY, and queries.
 */
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "driver.h"

#define KEY_SIZE		12
#define COPY_CHUNK		65536	/* bytes given to libpq at once */

typedef struct Session
{
	pthread_t	thread;
	PGconn	   *conn;
	long		number;
	long		rows;			/* committed in all */
	long		measured;		/* committed in the window */
	int64_t		first;			/* when the first of these began */
	int64_t		last;			/* when the last one was committed */
} Session;

static PGconn *
session_open(void)
{
	PGconn	   *conn = PQconnectdb(text_option("conninfo"));

	if (PQstatus(conn) != CONNECTION_OK)
		die("%s", PQerrorMessage(conn));
	return conn;
}

/* Is the result what was expected? It is freed. */
static bool
expect(PGconn *conn, PGresult *result, ExecStatusType status)
{
	bool		good = PQresultStatus(result) == status;

	if (!good)
		fail("%s", PQerrorMessage(conn));
	PQclear(result);
	return good;
}

/* A transaction that was begun at "began" has been committed. */
static void
session_committed(Session *session, int64_t began, long rows)
{
	int64_t		now = now_ns();

	session->rows += rows;
	/* Be it as long as the window, one is measured. */
	if (began >= window_start && (began < window_end || session->measured == 0))
	{
		hist_add(&ack_hist, now - began);
		if (session->measured == 0)
			session->first = began;
		session->measured += rows;
		session->last = now;
	}
}

/*
 * Runs main in so many sessions, and prints rows a second: each session counts what it began in
 * the window, from the beginning of the first to the commit of the last.
 */
static int
run_sessions(void *(*main) (void *))
{
	int			n = (int) number_option("sessions");
	Session    *sessions = calloc((size_t) n, sizeof *sessions);
	long		rows = 0;
	double		rate = 0;

	pool_make();
	hist_init(&ack_hist);
	for (int i = 0; i < n; i++)
	{
		sessions[i].number = i;
		sessions[i].conn = session_open();
	}
	window_open(now_ns());
	for (int i = 0; i < n; i++)
		if (pthread_create(&sessions[i].thread, NULL, main, &sessions[i]))
			die("no thread");
	for (int i = 0; i < n; i++)
	{
		pthread_join(sessions[i].thread, NULL);
		PQfinish(sessions[i].conn);
		rows += sessions[i].rows;
		if (sessions[i].measured > 0)
			rate += (double) sessions[i].measured * 1e9 /
				(double) (sessions[i].last - sessions[i].first);
	}
	if (rows == 0)
		fail("nothing was committed");
	printf("{\"records\": %ld, \"bytes\": %ld, \"rate\": %.1f, \"mb_s\": %.1f", rows,
		   (long) ((size_t) rows * value_size), rate, rate * (double) value_size / 1e6);
	hist_print("ack", &ack_hist);
	return finish();
}

static void
make_key(char *key, long number)
{
	snprintf(key, KEY_SIZE + 1, "key-%08ld", number * 7919 % 1000003);
}

/* ---- transactions of one row ---- */

static void *
transactions_main(void *arg)
{
	Session    *session = arg;
	char		key[KEY_SIZE + 1];
	const char *values[2] = {key};
	const int	lengths[2] = {KEY_SIZE, (int) value_size};
	const int	formats[2] = {1, 1};
	long		n = session->number;
	long		rows = (long) number_option("rows");
	const char *statement = text_option("statement");
	int			parameters = strstr(statement, "$2") ? 2 : 0;

	if (!expect(session->conn, PQprepare(session->conn, "bench", statement, 0, NULL),
				PGRES_COMMAND_OK))
		return NULL;
	for (int64_t now = now_ns(); (now < window_end || session->measured == 0) && errors == 0;
		 now = now_ns(), n++)
	{
		PGresult   *result;

		make_key(key, n);
		values[1] = pool + (size_t) (n % POOL) * value_size;
		result = PQexecPrepared(session->conn, "bench", parameters, values, lengths, formats, 1);
		if (PQresultStatus(result) == PGRES_TUPLES_OK)
		{
			expect(session->conn, result, PGRES_TUPLES_OK);
			session_committed(session, now, rows);
		}
		else if (expect(session->conn, result, PGRES_COMMAND_OK))
			session_committed(session, now, rows);
	}
	return NULL;
}

int
sql_transactions(void)
{
	return run_sessions(transactions_main);
}

/* ---- COPY ---- */

static size_t
put_field(char *at, const char *data, size_t length)
{
	uint32_t	n = __builtin_bswap32((uint32_t) length);

	memcpy(at, &n, 4);
	memcpy(at + 4, data, length);
	return length + 4;
}

/* A row of a key and a value, both bytea, as COPY reads it; returns its length. */
static size_t
put_row(char *at, bool binary, const char *key, const char *value)
{
	static const char two_fields[2] = {0, 2};
	size_t		n = 0;

	if (binary)
	{
		memcpy(at, two_fields, 2);
		n = 2;
		n += put_field(at + n, key, KEY_SIZE);
		return n + put_field(at + n, value, value_size);
	}
	/* Neither has anything that text or bytea would want to be escaped: JSON with no backslash. */
	memcpy(at, key, KEY_SIZE);
	at[KEY_SIZE] = '\t';
	memcpy(at + KEY_SIZE + 1, value, value_size);
	at[KEY_SIZE + 1 + value_size] = '\n';
	return KEY_SIZE + value_size + 2;
}

static bool
put_data(Session *session, const char *data, size_t length)
{
	if (length == 0 || PQputCopyData(session->conn, data, (int) length) == 1)
		return true;
	fail("%s", PQerrorMessage(session->conn));
	return false;
}

/* One COPY of so many rows, which is one transaction. */
static bool
copy_once(Session *session, char *chunk, const char *statement, bool binary, long rows)
{
	static const char start[19] = "PGCOPY\n\377\r\n";	/* no flags, no extension */
	char		key[KEY_SIZE + 1];
	size_t		used = 0;

	if (!expect(session->conn, PQexec(session->conn, statement), PGRES_COPY_IN))
		return false;
	if (binary)
	{
		memcpy(chunk, start, sizeof start);
		used = sizeof start;
	}
	for (long i = 0; i < rows; i++)
	{
		long		n = session->rows + i;

		make_key(key, n);
		used += put_row(chunk + used, binary, key, pool + (size_t) (n % POOL) * value_size);
		if (used >= COPY_CHUNK)
		{
			if (!put_data(session, chunk, used))
				return false;
			used = 0;
		}
	}
	if (binary)
	{
		memset(chunk + used, 0xff, 2);
		used += 2;
	}
	if (!put_data(session, chunk, used))
		return false;
	if (PQputCopyEnd(session->conn, NULL) != 1)
	{
		fail("%s", PQerrorMessage(session->conn));
		return false;
	}
	if (!expect(session->conn, PQgetResult(session->conn), PGRES_COMMAND_OK))
		return false;
	PQclear(PQgetResult(session->conn));
	return true;
}

static void *
copy_main(void *arg)
{
	Session    *session = arg;
	bool		binary = strcmp(text_option("format"), "binary") == 0;
	long		rows = (long) number_option("rows");
	long		count = (long) number_option("count");
	double		pace = number_option("pace") / number_option("sessions");	/* of this session */
	int64_t		began = now_ns();
	char	   *chunk = malloc(COPY_CHUNK + value_size + 64);
	char		statement[512];

	snprintf(statement, sizeof statement, "COPY %s (key, value) FROM STDIN (FORMAT %s)",
			 text_option("table"), binary ? "binary" : "text");
	while ((count ? session->rows < count : now_ns() < window_end || session->measured == 0) &&
		   errors == 0)
	{
		int64_t		due = now_ns();
		long		n = count && count - session->rows < rows ? count - session->rows : rows;

		if (pace > 0)
		{
			due = began + (int64_t) ((double) session->rows / pace * 1e9);
			sleep_until(due);
		}
		if (!copy_once(session, chunk, statement, binary, n))
			break;
		session_committed(session, due, n);
	}
	free(chunk);
	return NULL;
}

int
sql_copy(void)
{
	return run_sessions(copy_main);
}

/* ---- queries ---- */

int
sql_query(void)
{
	PGconn	   *conn = session_open();
	const char *right = text_option("rows");
	long		runs = 0;
	int64_t		spent = 0;
	double		bytes;

	hist_init(&ack_hist);
	value_size = (size_t) number_option("size");
	bytes = number_option("count") * (double) value_size;
	window_open(now_ns());
	while (now_ns() < window_end && errors == 0)
	{
		int64_t		began = now_ns();
		PGresult   *result = PQexec(conn, text_option("statement"));
		int64_t		took = now_ns() - began;

		if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1 &&
			strcmp(PQgetvalue(result, 0, 0), right) != 0)
			fail("the answer is %s and not %s", PQgetvalue(result, 0, 0), right);
		if (!expect(conn, result, PGRES_TUPLES_OK))
			break;
		runs++;
		/* The last one counts even when all fell into the warm-up. */
		if (began >= window_start || now_ns() >= window_end)
		{
			spent += took;
			hist_add(&ack_hist, took);
		}
	}
	PQfinish(conn);
	printf("{\"records\": %.0f, \"bytes\": %.0f, \"mb_s\": %.1f",
		   (double) runs * number_option("count"), (double) runs * bytes,
		   spent ? (double) ack_hist.n * bytes / ((double) spent / 1e3) : 0);
	hist_print("ack", &ack_hist);
	return finish();
}
