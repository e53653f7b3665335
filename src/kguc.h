/*
 * kguc.h
 *		The settings, kafka_pg.*, as variables.
 *
 * Where the comment says "start", only a restart of the server changes the setting; "reload", a
 * reload does, and a process sees the new value from its next ProcessConfigFile() on; "user", any
 * session may set its own.
 */
#ifndef KGUC_H
#define KGUC_H

/* What and where we are */
extern char *kguc_database;		/* start: the database whose topics are served */
extern char *kguc_listen_addresses; /* start: as Postgres' setting of that name */
extern int	kguc_port;			/* start */
extern char *kguc_advertised_listeners; /* reload: see kguc_advertised_find() */
extern int	kguc_node_id;		/* start */
extern char *kguc_rack;			/* reload: '' = none */
extern int	kguc_brokers;		/* start: broker processes */
extern int	kguc_readers;		/* start: processes that read cold pages for brokers */

/* The disk; reload */
extern int	kguc_wal_prealloc_mb;	/* kafka_pg.wal_prealloc_size; 0: make no WAL files */
extern int	kguc_drop_behind;	/* KDROP_... */

#define KDROP_OFF	0
#define KDROP_ON	1
#define KDROP_AUTO	2			/* as shared_buffers suggest */

/* Who may do what without asking */
extern char *kguc_anonymous_role;	/* reload: '' = unauthenticated clients are refused */
extern bool kguc_auto_create_topics;	/* reload */
extern int	kguc_num_partitions;	/* reload: of topics made without a number */

/* Caps; none is unlimited */
extern int	kguc_max_connections;	/* start: in all brokers together */
extern int	kguc_max_connections_per_address;	/* reload */
extern int	kguc_max_request_size;	/* reload: bytes */
extern int	kguc_max_inflight_kb;	/* reload: kafka_pg.max_inflight_bytes, in kB */
extern int	kguc_connection_idle_timeout;	/* reload: ms */
extern int	kguc_max_partitions;	/* start: with state in shared memory, all topics together */
extern int	kguc_max_pending_appends;	/* start: of open Postgres transactions */
extern int	kguc_max_producer_ids;	/* start: idempotent producers remembered */
extern int	kguc_producer_id_expiration;	/* reload: ms after which an idle one is forgotten */
extern int	kguc_max_fetch_sessions;	/* reload: in all brokers together */
extern int	kguc_max_groups;	/* start: consumer groups with members */
extern int	kguc_group_memory;	/* start: kB for all of them */
extern int	kguc_max_offset_metadata;	/* reload: bytes a committed offset may have with it */
extern int	kguc_offset_retention;	/* reload: minutes */
extern int	kguc_offset_expiry_interval;	/* reload: ms from one look to the next */

/* Consumer groups, after Kafka's group.*; reload, ms where it is a time */
extern int	kguc_group_min_session_timeout;
extern int	kguc_group_max_session_timeout;
extern int	kguc_group_initial_rebalance_delay;
extern int	kguc_group_max_size;	/* members */
extern int	kguc_group_max_bytes;	/* of what is kept of one group */
extern int	kguc_group_consumer_session_timeout;
extern int	kguc_group_consumer_min_session_timeout;	/* of a group's own config */
extern int	kguc_group_consumer_max_session_timeout;
extern int	kguc_group_consumer_heartbeat_interval;
extern int	kguc_group_consumer_min_heartbeat_interval;
extern int	kguc_group_consumer_max_heartbeat_interval;
extern int	kguc_group_consumer_assignment_interval;
extern int	kguc_group_consumer_regex_refresh_interval;
extern int	kguc_group_consumer_max_size;	/* members */
extern int	kguc_group_consumer_migration_policy;	/* KMIGRATE_... */
extern char *kguc_group_consumer_assignors; /* parsed: the next two */
extern int	kguc_group_assignor_set;	/* bits: 1 << KASSIGNOR_... */
extern int	kguc_group_default_assignor;	/* the first one */

#define KMIGRATE_UPGRADE	1
#define KMIGRATE_DOWNGRADE	2

/* In the order of kassign_all[] */
#define KASSIGNOR_UNIFORM	0
#define KASSIGNOR_RANGE		1

extern int	kguc_produce_buffer_size;	/* user: kB of records a transaction keeps */

/* For tests only: superuser, not shown by SHOW ALL */
extern bool kguc_test_ack_before_flush;
extern int	kguc_test_fetch_session_age;	/* reload: ms after which one may be taken away */
extern int	kguc_test_near_round_trip;	/* reload: us below which a client is near */
extern char *kguc_test_stop_points; /* start: stop points armed from the beginning, see kstop.h */

/* One entry of kafka_pg.advertised_listeners. */
typedef struct KAdvertised
{
	char		protocol[16];	/* PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL */
	char		host[256];
	int			port;
} KAdvertised;

extern void kguc_init(void);

/*
 * The address to tell clients that came in by the given protocol; NULL when none is set for it:
 * they are then told the address that they connected to. Valid until the next reload.
 */
extern const KAdvertised *kguc_advertised_find(const char *protocol);

#endif							/* KGUC_H */
