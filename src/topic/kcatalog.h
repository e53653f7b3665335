/*
 * kcatalog.h
 *		Where the extension's own tables and types are: OIDs by name, through the
 *		server's caches, and the columns of kafka.topic and kafka.partition.
 */
#ifndef KCATALOG_H
#define KCATALOG_H

/* kafka.topic */
#define Anum_topic_name			1
#define Anum_topic_id			2
#define Anum_topic_table		3
#define Anum_topic_partitions	4
#define Anum_topic_config		5
#define Anum_topic_created		6

/* kafka.partition */
#define Anum_partition_table		1
#define Anum_partition_partition	2
#define Anum_partition_log_start	3
#define Anum_partition_next_offset	4

/* kafka.producer_snapshot */
#define Anum_producer_snapshot_table			1
#define Anum_producer_snapshot_partition		2
#define Anum_producer_snapshot_relfilenumber	3
#define Anum_producer_snapshot_next_offset		4
#define Anum_producer_snapshot_state			5

/* kafka.leader_epoch */
#define Anum_leader_epoch_system_identifier 1
#define Anum_leader_epoch_timeline			2
#define Anum_leader_epoch_epoch				3

/* kafka.node */
#define Anum_node_node_id		1
#define Anum_node_host			2
#define Anum_node_port			3
#define Anum_node_rack			4
#define Anum_node_leads			5

/* kafka.group_state */
#define Anum_group_state_group_id	1
#define Anum_group_state_member_id	2
#define Anum_group_state_data		3

/* kafka.group_config */
#define Anum_group_config_group_id	1
#define Anum_group_config_config	2

/* kafka.group_offset */
#define Anum_group_offset_group_id		1
#define Anum_group_offset_topic_id		2
#define Anum_group_offset_partition		3
#define Anum_group_offset_offset		4
#define Anum_group_offset_leader_epoch	5
#define Anum_group_offset_metadata		6
#define Anum_group_offset_committed		7
#define Anum_group_offset_expires		8

/*
 * The access method kafka_log, which only a superuser can have made; InvalidOid: the extension is
 * not created.  All others below are InvalidOid then, too: a schema of the name "kafka"
 * that somebody else made is not ours.
 */
extern Oid	kcatalog_am(void);
extern Oid	kcatalog_namespace(void);
extern Oid	kcatalog_topics_namespace(void);
extern Oid	kcatalog_relation(const char *name);
extern Oid	kcatalog_type(const char *name);

#endif							/* KCATALOG_H */
