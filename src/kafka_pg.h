/*
 * kafka_pg.h
 *		What every server file may know of the module as a whole.
 */
#ifndef KAFKA_PG_H
#define KAFKA_PG_H

#define KAFKA_PG_VERSION "0.1"

/* The extension's name, library, and prefix of its settings. */
#define KAFKA_PG_NAME "kafka_pg"

extern bool kafka_pg_in_database(void);
extern void kafka_pg_check_database(void);

#endif							/* KAFKA_PG_H */
