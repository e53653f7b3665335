/*
 * kapi_table.c
 *		The APIs that are served.  What is not here is not advertised, and closes the connection.
 */
#include "postgres.h"

#include "api/kapi_request.h"

const		KApiEntry kapi_table[] = {
	{KAPI_PRODUCE, kapi_produce, kapi_produce_fail, kapi_produce_end, kapi_produce_keep, false,
	KERR_NOT_LEADER_OR_FOLLOWER},
	{KAPI_FETCH, kapi_fetch, kapi_fetch_fail, NULL, NULL, false, 0},
	{KAPI_LIST_OFFSETS, kapi_list_offsets, kapi_list_offsets_fail, NULL, NULL, false, 0},
	{KAPI_METADATA, kapi_metadata, kapi_metadata_fail, kapi_ddl_end, NULL, false, 0},
	{KAPI_FIND_COORDINATOR, kapi_find_coordinator, kapi_find_coordinator_fail, NULL, NULL, false,
	0},
	{KAPI_OFFSET_COMMIT, kapi_offset_commit, kapi_offset_commit_fail, kapi_commit_end, NULL,
	false, KERR_NOT_COORDINATOR},
	{KAPI_OFFSET_FETCH, kapi_offset_fetch, kapi_offset_fetch_fail, NULL, NULL, false,
	KERR_NOT_COORDINATOR},
	{KAPI_JOIN_GROUP, kapi_join_group, kapi_join_group_fail, kapi_group_end, NULL, false,
	KERR_NOT_COORDINATOR},
	{KAPI_HEARTBEAT, kapi_heartbeat, kapi_heartbeat_fail, kapi_group_end, NULL, false,
	KERR_NOT_COORDINATOR},
	{KAPI_LEAVE_GROUP, kapi_leave_group, kapi_leave_group_fail, kapi_group_end, NULL, false,
	KERR_NOT_COORDINATOR},
	{KAPI_SYNC_GROUP, kapi_sync_group, kapi_sync_group_fail, kapi_group_end, NULL, false,
	KERR_NOT_COORDINATOR},
	{KAPI_DESCRIBE_GROUPS, kapi_describe_groups, kapi_describe_groups_fail, NULL, NULL, false,
	KERR_NOT_COORDINATOR},
	{KAPI_LIST_GROUPS, kapi_list_groups, kapi_list_groups_fail, NULL, NULL, false,
	KERR_COORDINATOR_NOT_AVAILABLE},
	{KAPI_DELETE_GROUPS, kapi_delete_groups, kapi_delete_groups_fail, kapi_commit_end, NULL, false,
	KERR_NOT_COORDINATOR},
	{KAPI_OFFSET_DELETE, kapi_offset_delete, kapi_offset_delete_fail, kapi_commit_end, NULL, false,
	KERR_NOT_COORDINATOR},
	{KAPI_API_VERSIONS, kapi_api_versions, kapi_api_versions_fail, NULL, NULL, true, 0},
	{KAPI_CREATE_TOPICS, kapi_create_topics, kapi_create_topics_fail, kapi_ddl_end, NULL, false,
	KERR_NOT_CONTROLLER},
	{KAPI_DELETE_TOPICS, kapi_delete_topics, kapi_delete_topics_fail, kapi_ddl_end, NULL, false,
	KERR_NOT_CONTROLLER},
	{KAPI_INIT_PRODUCER_ID, kapi_init_producer_id, kapi_init_producer_id_fail, NULL, NULL, false,
	KERR_COORDINATOR_NOT_AVAILABLE},
	{KAPI_OFFSET_FOR_LEADER_EPOCH, kapi_offset_for_leader_epoch,
	kapi_offset_for_leader_epoch_fail, NULL, NULL, false, 0},
	{KAPI_DESCRIBE_CONFIGS, kapi_describe_configs, kapi_describe_configs_fail, NULL, NULL, false,
	0},
	{KAPI_DESCRIBE_CLUSTER, kapi_describe_cluster, kapi_describe_cluster_fail, NULL, NULL, false,
	0},
	{KAPI_CONSUMER_GROUP_HEARTBEAT, kapi_consumer_group_heartbeat,
	kapi_consumer_group_heartbeat_fail, kapi_group_end, NULL, false, KERR_NOT_COORDINATOR},
	{KAPI_CONSUMER_GROUP_DESCRIBE, kapi_consumer_group_describe,
	kapi_consumer_group_describe_fail, NULL, NULL, false, KERR_NOT_COORDINATOR},
	{KAPI_DESCRIBE_TOPIC_PARTITIONS, kapi_describe_topic_partitions,
	kapi_describe_topic_partitions_fail, NULL, NULL, false, 0}
};

const int	kapi_table_size = lengthof(kapi_table);

const		KApiEntry *
kapi_entry(int key)
{
	for (int i = 0; i < kapi_table_size; i++)
	{
		if (kapi_table[i].key == key)
			return &kapi_table[i];
	}
	return NULL;
}
