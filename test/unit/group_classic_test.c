/*
 * group_classic_test.c
 *		Classic groups, rule by rule: JoinGroup, SyncGroup, Heartbeat, LeaveGroup, timeouts,
 *		static members, restarts, offsets.
 */
#include "tap.h"

#include "group_requests.h"

/* ---- worlds ---- */

static void
begin(const char *name)
{
	note("%s", name);
	world_init(w, 4711);
	w->env.config.initial_delay_ms = 0;
}

static void
end(void)
{
	is_int(w->broken, 0, "the interface's rules held");
	world_end(w);
}

static char ids[8][128];

/* A stable group of n dynamic members; ids[0] leads; generation 1. */
static void
stable_group(int n, const char *instances[])
{
	int64_t		numbers[8];
	const char *assign[17] = {NULL};

	w->env.config.initial_delay_ms = 100;
	for (int i = 0; i < n; i++)
		numbers[i] = JOIN(.instance = instances ? instances[i] : NULL,.version = V(3));
	world_pass(w, 1000);
	for (int i = 0; i < n; i++)
	{
		strcpy(ids[i], text(joined(numbers[i])->member_id));
		assign[2 * i] = ids[i];
		assign[2 * i + 1] = &"a0\0a1\0a2\0a3\0a4\0a5\0a6\0a7"[3 * i];
	}
	for (int i = n - 1; i >= 0; i--)
		numbers[i] = sync_as(ids[i], 1, NULL, i == 0 ? assign : NULL);
	w->env.config.initial_delay_ms = 0;
	if (world_summary(w).state != KGROUP_STABLE)
		abort();
}

/* ---- tests ---- */

static void
test_join(void)
{
	int64_t		first;
	int64_t		second;
	char		id[128];
	const KJoinGroupResponse *response;

	begin("a member's first join");
	is_int(error_of(JOIN(.session = 5999)), KERR_INVALID_SESSION_TIMEOUT, "session too short");
	is_int(error_of(JOIN(.session = 1800001)), KERR_INVALID_SESSION_TIMEOUT, "session too long");
	is_int(error_of(JOIN(.member = "nobody")), KERR_UNKNOWN_MEMBER_ID, "a strange member id");
	is_int(error_of(JOIN(.type = "")), KERR_INCONSISTENT_GROUP_PROTOCOL, "no protocol type");
	ok(w->image == NULL, "none of these leaves a group behind");

	first = JOIN(.version = V(9));
	is_int(error_of(first), KERR_MEMBER_ID_REQUIRED, "KIP-394: a member id first");
	strcpy(id, text(joined(first)->member_id));
	is_int((int64_t) strlen(id), 7 + 36, "the client's id, and a uuid");
	ok(strncmp(id, "client-", 7) == 0, "  \"%s\"", id);
	is_state(KGROUP_EMPTY, "the group is empty still");
	is_int(w->nrows, 0, "and nothing is written");

	first = JOIN(.member = id);
	is_int(error_of(first), -2, "with it, the member waits");
	is_state(KGROUP_PREPARING_REBALANCE, "for the rebalance");
	world_pass(w, 0);
	response = joined(first);
	is_int(error_of(first), KERR_NONE, "the join is complete");
	is_int(response->generation_id, 1, "generation 1");
	is_str(text(response->protocol_type), "consumer", "protocol type");
	is_str(text(response->protocol_name), "range", "protocol name");
	is_str(text(response->leader), id, "it leads");
	is_int(response->members.count, 1, "and is told of all members");
	is_str(text(response->members.items[0].member_id), id, "  which is itself");
	is_int(response->members.items[0].metadata.len, 1, "  with its metadata");
	is_state(KGROUP_COMPLETING_REBALANCE, "now it shall assign");

	first = sync_as(id, 1, NULL, (const char *[]) {id, "everything", NULL});
	is_int(error_of(first), KERR_NONE, "sync");
	is_str(assigned(first), "everything", "it got its assignment");
	is_int((int64_t) w->requests[first].version, 1, "once that is durable");
	is_int(w->nrows, 2, "in a row of the group and one of the member");
	is_state(KGROUP_STABLE, "stable");

	is_int(error_of(JOIN(.protocols = {"roundrobin"},.version = V(3))),
		   KERR_INCONSISTENT_GROUP_PROTOCOL, "a member without a common protocol");
	is_int(error_of(JOIN(.type = "connect",.version = V(3))),
		   KERR_INCONSISTENT_GROUP_PROTOCOL, "one of another protocol type");

	second = JOIN(.version = V(3));
	is_int(error_of(second), -2, "before version 4, who joins is a member at once");
	is_state(KGROUP_PREPARING_REBALANCE, "rebalance");
	is_int(heartbeat_as(id, 1, NULL), KERR_REBALANCE_IN_PROGRESS, "the first is told to join");
	first = JOIN(.member = id);
	is_int(error_of(first), KERR_NONE, "when all have joined, it is complete");
	is_int(error_of(second), KERR_NONE, "for the other as well");
	is_int(joined(first)->members.count, 2, "the leader is told of both");
	is_int(joined(second)->members.count, 0, "the other of none");
	is_str(text(joined(second)->leader), id, "but who leads");
	is_int(joined(second)->generation_id, 2, "generation 2");
	end();
}

static void
test_join_versions(void)
{
	int64_t		number;

	begin("answers of old and new versions");
	number = JOIN(.version = V(6),.session = 1);
	is_str(text(joined(number)->protocol_name), "", "before version 7 there is no null");
	number = JOIN(.version = V(7),.session = 1);
	ok(joined(number)->protocol_name.len < 0, "from version 7 on there is");

	number = JOIN(.version = V(0),.rebalance = 999999,.session = 6000);
	world_pass(w, 0);
	is_int(error_of(number), KERR_NONE, "version 0");
	world_pass(w, 5999);
	is_int(world_summary(w).members, 1, "its rebalance timeout");
	world_pass(w, 1);
	is_int(world_summary(w).members, 0, "  is its session timeout");
	end();
}

static void
test_initial_delay(void)
{
	int64_t		first;
	int64_t		second;

	begin("a new group waits for more members");
	w->env.config.initial_delay_ms = 3000;
	first = JOIN(.version = V(3),.rebalance = 7000,.session = 30000);
	world_pass(w, 2999);
	is_int(error_of(first), -2, "3 s after the first");
	second = JOIN(.version = V(3),.rebalance = 7000,.session = 30000);
	world_pass(w, 1);
	is_int(error_of(first), -2, "  again 3 s when one came meanwhile");
	world_pass(w, 2999);
	is_int(error_of(second), -2, "  ...");
	JOIN(.version = V(3),.rebalance = 7000,.session = 30000);
	world_pass(w, 1000);
	is_int(error_of(second), -2, "  ...");
	world_pass(w, 1);
	is_int(error_of(second), KERR_NONE, "but no longer than the rebalance timeout");
	is_int(joined(first)->generation_id, 1, "all in one generation");
	is_int(joined(first)->members.count, 3, "  of three");
	end();

	begin("a new group of which all have gone");
	w->env.config.initial_delay_ms = 3000;
	first = JOIN(.version = V(9));
	strcpy(ids[0], text(joined(first)->member_id));
	first = JOIN(.member = ids[0]);
	is_int(leave_as(ids[0], NULL), KERR_NONE, "leave while waiting");
	is_int(error_of(first), KERR_UNKNOWN_MEMBER_ID, "who waited is told so");
	world_pass(w, 3000);
	is_state(KGROUP_EMPTY, "empty");
	is_int(world_summary(w).generation, 1, "generation 1");
	end();
}

static void
test_protocols(void)
{
	int64_t		number[3];

	begin("the protocol that most vote for");
	w->env.config.initial_delay_ms = 10;
	number[0] = JOIN(.version = V(3),.protocols = {"a", "b", "c"});
	number[1] = JOIN(.version = V(3),.protocols = {"b", "a"});
	number[2] = JOIN(.version = V(3),.protocols = {"c", "b", "a"});
	world_pass(w, 1000);
	is_str(text(joined(number[0])->protocol_name), "b", "two for b, since not all know c");
	end();
}

static void
test_sync(void)
{
	int64_t		first;
	int64_t		second;
	int64_t		number;

	begin("the sync phase");
	stable_group(2, NULL);
	first = JOIN(.member = ids[0]);
	second = JOIN(.member = ids[1]);
	is_int(joined(first)->generation_id, 2, "the leader made a new generation");
	is_int(error_of(sync_as("nobody", 2, NULL, NULL)), KERR_UNKNOWN_MEMBER_ID, "strange member");
	is_int(error_of(sync_as(ids[1], 1, NULL, NULL)), KERR_ILLEGAL_GENERATION, "old generation");
	is_int(error_of(sync_as(ids[1], 2, "x", NULL)), KERR_UNKNOWN_MEMBER_ID, "strange instance");

	second = sync_as(ids[1], 2, NULL, NULL);
	is_int(error_of(second), -2, "a member waits for the leader");
	number = sync_as(ids[1], 2, NULL, NULL);
	is_int(error_of(second), KERR_REBALANCE_IN_PROGRESS, "one request of it, not two");
	is_int(heartbeat_as(ids[1], 2, NULL), KERR_NONE, "heartbeats are well");
	first = sync_as(ids[0], 2, NULL, (const char *[]) {ids[1], "yours", "nobody", "x", NULL});
	is_str(assigned(number), "yours", "the member's assignment");
	is_str(assigned(first), "", "who is not named gets an empty one");
	is_state(KGROUP_STABLE, "stable");

	number = sync_as(ids[1], 2, NULL, NULL);
	is_str(assigned(number), "yours", "it may ask again");
	number = JOIN(.member = ids[1]);
	is_int(error_of(number), KERR_NONE, "and join again, with the same metadata");
	is_int(joined(number)->generation_id, 2, "  without a rebalance");

	number = JOIN(.member = ids[1],.metadata = "other");
	is_int(error_of(number), -2, "with other metadata");
	is_state(KGROUP_PREPARING_REBALANCE, "  there is one");
	is_int(error_of(sync_as(ids[0], 2, NULL, NULL)), KERR_REBALANCE_IN_PROGRESS, "no sync now");

	first = JOIN(.member = ids[0]);
	second = sync_as(ids[1], 3, NULL, NULL);
	number = JOIN(.member = ids[1],.metadata = "third");
	is_int(error_of(second), KERR_REBALANCE_IN_PROGRESS, "a rebalance answers who syncs");
	is_int(error_of(number), -2, "  and begins anew");
	end();

	begin("members that never sync");
	stable_group(2, NULL);
	first = JOIN(.member = ids[0],.rebalance = 6000);
	second = JOIN(.member = ids[1],.rebalance = 6000);
	first = sync_as(ids[0], 2, NULL, (const char *[]) {ids[0], "x", NULL});
	is_int(error_of(first), KERR_NONE, "the leader synced");
	world_pass(w, 5999);
	is_int(heartbeat_as(ids[0], 2, NULL), KERR_NONE, "so far well");
	heartbeat_as(ids[1], 2, NULL);
	world_pass(w, 1);
	is_int(world_summary(w).members, 1, "the other is out after the rebalance timeout");
	is_state(KGROUP_PREPARING_REBALANCE, "and its part is assigned anew");
	is_int(heartbeat_as(ids[1], 2, NULL), KERR_UNKNOWN_MEMBER_ID, "it is told so");
	end();

	begin("a leader that never syncs");
	stable_group(2, NULL);
	first = JOIN(.member = ids[0],.rebalance = 6000);
	second = JOIN(.member = ids[1],.rebalance = 6000);
	second = sync_as(ids[1], 2, NULL, NULL);
	world_pass(w, 6000);
	is_int(error_of(second), KERR_REBALANCE_IN_PROGRESS, "who waited for it joins again");
	second = JOIN(.member = ids[1]);
	is_str(text(joined(second)->leader), ids[1], "and leads");
	end();
}

static void
test_sessions(void)
{
	int64_t		number;

	begin("sessions");
	stable_group(3, NULL);
	is_int(heartbeat_as("nobody", 1, NULL), KERR_UNKNOWN_MEMBER_ID, "strange member");
	is_int(heartbeat_as(ids[0], 0, NULL), KERR_ILLEGAL_GENERATION, "old generation");
	for (int i = 0; i < 3; i++)
	{
		world_pass(w, 9000);
		for (int m = 0; m < 2; m++)
			is_int(heartbeat_as(ids[m], 1, NULL),
				   i < 2 ? KERR_NONE : KERR_REBALANCE_IN_PROGRESS, "heartbeat");
		if (i == 0)
			heartbeat_as(ids[2], 1, NULL);
	}
	is_int(world_summary(w).members, 2, "who sends none is out");
	is_state(KGROUP_PREPARING_REBALANCE, "and there is a rebalance");

	number = JOIN(.member = ids[1],.rebalance = 60000);
	world_pass(w, 9999);
	heartbeat_as(ids[0], 1, NULL);
	is_int(error_of(number), -2, "who joined waits as long as others heartbeat");
	for (int i = 0; i < 6; i++)
	{
		world_pass(w, 9999);
		heartbeat_as(ids[0], 1, NULL);
	}
	is_int(error_of(number), KERR_NONE, "but no longer than the rebalance timeout");
	is_int(joined(number)->members.count, 1, "alone");
	is_str(text(joined(number)->leader), ids[1], "it leads now");
	end();

	begin("a member id that nobody uses");
	number = JOIN(.version = V(4));
	is_int(error_of(number), KERR_MEMBER_ID_REQUIRED, "given out");
	strcpy(ids[0], text(joined(number)->member_id));
	world_pass(w, 10000);
	ok(w->image == NULL, "after its session the group is gone");
	is_int(error_of(JOIN(.member = ids[0])), KERR_UNKNOWN_MEMBER_ID, "and the id");

	stable_group(1, NULL);
	number = JOIN(.version = V(4));
	is_state(KGROUP_STABLE, "to give out an id is no rebalance");
	number = JOIN(.member = ids[0]);
	is_int(error_of(number), -2, "but a rebalance waits for it");
	world_pass(w, 10000);
	is_int(error_of(number), KERR_NONE, "  until its session is over");
	end();

	begin("new members wait a limited time");
	w->env.config.initial_delay_ms = 10;
	w->env.config.new_member_timeout_ms = 20000;
	stable_group(1, NULL);
	number = JOIN(.version = V(3),.rebalance = 900000);
	JOIN(.version = V(3),.rebalance = 900000);
	for (int i = 0; i < 3; i++)
	{
		heartbeat_as(ids[0], 1, NULL);
		world_pass(w, 7000);
	}
	is_int(error_of(number), KERR_UNKNOWN_MEMBER_ID, "then they are out");
	end();
}

static void
test_leave(void)
{
	int64_t		number;

	begin("leaving");
	stable_group(3, NULL);
	is_int(leave_as("nobody", NULL), KERR_UNKNOWN_MEMBER_ID, "strange member");
	is_int(leave_as("", NULL), KERR_UNKNOWN_MEMBER_ID, "no member");
	is_state(KGROUP_STABLE, "no harm done");
	is_int(leave_as(ids[2], NULL), KERR_NONE, "one leaves");
	is_state(KGROUP_PREPARING_REBALANCE, "rebalance");
	number = JOIN(.member = ids[1]);
	is_int(leave_as(ids[0], NULL), KERR_NONE, "another one leaves");
	is_int(error_of(number), KERR_NONE, "nobody is left to wait for");
	is_str(text(joined(number)->leader), ids[1], "a new leader");
	is_int(leave_as(ids[1], NULL), KERR_NONE, "the last one leaves");
	is_state(KGROUP_EMPTY, "empty");
	is_int(world_summary(w).generation, 3, "generation 3");
	is_int(w->nrows, 1, "the row of the group alone");
	ok(world_deadline(w) == INT64_MAX, "nothing is due");
	is_int(error_of(sync_as(ids[1], 2, NULL, NULL)), KERR_UNKNOWN_MEMBER_ID, "sync is refused");
	number = JOIN(.version = V(3));
	world_pass(w, 0);
	is_int(joined(number)->generation_id, 4, "generations go on");
	end();
}

static void
test_size(void)
{
	int64_t		number;

	begin("groups have a size");
	w->env.config.max_size = 2;
	stable_group(2, NULL);
	is_int(error_of(JOIN(.version = V(3))), KERR_GROUP_MAX_SIZE_REACHED, "a stable one");
	is_int(error_of(JOIN(.version = V(9))), KERR_GROUP_MAX_SIZE_REACHED, "no id for more");
	is_state(KGROUP_STABLE, "no harm done");
	number = JOIN(.member = ids[0]);
	is_int(error_of(JOIN(.version = V(3))), -2, "in a rebalance the first ones win");
	is_int(error_of(JOIN(.member = ids[1])), KERR_GROUP_MAX_SIZE_REACHED, "not the old ones");
	is_int(error_of(number), KERR_NONE, "of which one is enough to go on");
	end();
}

static void
test_static(void)
{
	const char *instances[] = {"i0", "i1"};
	int64_t		number;
	int64_t		old;
	char		id[128];

	begin("static members");
	stable_group(2, instances);
	ok(strncmp(ids[0], "i0-", 3) == 0, "the id begins with the instance's: %s", ids[0]);

	number = JOIN(.instance = "i1",.version = V(9));
	is_int(error_of(number), KERR_NONE, "one comes back without its id");
	is_int(joined(number)->generation_id, 1, "there is no rebalance");
	is_state(KGROUP_STABLE, "none");
	strcpy(id, text(joined(number)->member_id));
	ok(strcmp(id, ids[1]) != 0, "but a new id");
	is_int((int64_t) w->requests[number].version, 2, "which is durable first");
	is_int(w->nrows, 3, "the old id has no row any more");
	is_str(assigned(sync_as(id, 1, "i1", NULL)), "a1", "and the old assignment");

	is_int(heartbeat_as(ids[1], 1, "i1"), KERR_FENCED_INSTANCE_ID, "the old id is fenced");
	is_int(heartbeat_as(ids[1], 1, NULL), KERR_UNKNOWN_MEMBER_ID, "  or unknown");
	is_int(error_of(sync_as(ids[1], 1, "i1", NULL)), KERR_FENCED_INSTANCE_ID, "in sync, too");
	is_int(error_of(JOIN(.member = ids[1],.instance = "i1")), KERR_FENCED_INSTANCE_ID, "in join");
	is_int(leave_as(ids[1], "i1"), KERR_FENCED_INSTANCE_ID, "in leave");
	is_int(heartbeat_as(id, 1, "i9"), KERR_UNKNOWN_MEMBER_ID, "an instance that is none");

	number = JOIN(.instance = "i0",.version = V(9));
	ok(joined(number)->skip_assignment, "a leader that comes back need not assign");
	is_str(text(joined(number)->leader), text(joined(number)->member_id), "it leads");
	is_int(joined(number)->members.count, 2, "and is told of all");
	strcpy(ids[0], text(joined(number)->member_id));
	number = JOIN(.instance = "i0",.version = V(8));
	is_str(text(joined(number)->leader), ids[0], "before version 9 the old id leads");
	is_int(joined(number)->members.count, 0, "so that it does not assign");
	strcpy(ids[0], text(joined(number)->member_id));

	number = JOIN(.instance = "i1",.protocols = {"range", "other"});
	is_int(error_of(number), KERR_NONE, "a new protocol that is not the group's is no rebalance");
	strcpy(ids[1], text(joined(number)->member_id));

	world_pass(w, 9000);
	heartbeat_as(ids[0], 1, "i0");
	world_pass(w, 1000);
	is_int(world_summary(w).members, 1, "its session can end, too");
	is_int(leave_as("", "i0"), KERR_NONE, "an administrator removes the other by instance");
	is_state(KGROUP_EMPTY, "nobody is left");
	end();

	begin("a static member comes back during a rebalance");
	stable_group(2, instances);
	old = JOIN(.member = ids[0],.instance = "i0");
	number = JOIN(.instance = "i0");
	is_int(error_of(old), KERR_FENCED_INSTANCE_ID, "the waiting request is fenced");
	is_int(error_of(number), -2, "the new one waits");
	world_pass(w, 5000);
	heartbeat_as(ids[1], 1, "i1");
	JOIN(.member = ids[1],.instance = "i1");
	is_int(error_of(number), KERR_NONE, "and is taken in");
	strcpy(ids[0], text(joined(number)->member_id));
	old = sync_as(ids[1], 2, "i1", NULL);
	number = JOIN(.instance = "i1");
	is_int(error_of(old), KERR_FENCED_INSTANCE_ID, "in the sync phase as well");
	is_state(KGROUP_PREPARING_REBALANCE, "which begins anew");
	is_int(error_of(number), -2, "the new one waits");
	end();

	begin("static members that do not join stay");
	stable_group(2, instances);
	old = JOIN(.member = ids[0],.instance = "i0",.rebalance = 6000);
	for (int i = 0; i < 10; i++)
	{
		world_pass(w, 6000);
		heartbeat_as(ids[1], 1, "i1");
	}
	is_int(error_of(old), KERR_NONE, "the rebalance is complete without it");
	is_int(joined(old)->members.count, 2, "with it as a member");
	end();
}

static void
test_durable(void)
{
	const KGroupRow *rows;
	uint64_t	version;
	int64_t		number;
	KGroupSummary summary;

	begin("restarts");
	stable_group(2, NULL);
	is_int(w->nrows, 3, "rows of a group of two");
	ok(world_restart(w), "a restart");
	is_state(KGROUP_STABLE, "stable");
	is_int(world_summary(w).generation, 1, "the generation goes on");
	world_pass(w, 9999);
	is_int(heartbeat_as(ids[0], 1, NULL), KERR_NONE, "members go on");
	is_str(assigned(sync_as(ids[1], 1, NULL, NULL)), "a1", "with their assignments");
	is_int(error_of(JOIN(.member = ids[1])), KERR_NONE, "and metadata: no rebalance");
	is_state(KGROUP_STABLE, "none");
	world_pass(w, 1);
	is_int(world_summary(w).members, 1, "who does not come back is out after his session");
	ok(world_restart(w), "a restart during a rebalance");
	is_state(KGROUP_STABLE, "is one to the last stable state");
	is_int(world_summary(w).members, 2, "  with its members");

	w->lag = true;
	leave_as(ids[0], NULL);
	leave_as(ids[1], NULL);
	is_state(KGROUP_EMPTY, "all have left");
	is_int(w->nrows, 3, "rows that are not written yet");
	ok(kgroup_rows(world_open(w), &rows, &version) == 3, "are in the image");
	summary = world_summary(w);
	ok(summary.version > summary.durable, "which knows");
	world_persist(w);
	is_int(w->nrows, 1, "and when they are, members have none");
	w->lag = false;
	ok(world_restart(w), "a restart of an empty group");
	is_state(KGROUP_EMPTY, "empty");
	number = JOIN(.version = V(3));
	world_pass(w, 0);
	is_int(joined(number)->generation_id, 3, "its generation goes on");
	end();

	begin("rows that a start has refused");
	stable_group(2, NULL);
	free(w->rows[0].data);
	w->rows[0].data = calloc(1, 1);
	w->rows[0].len = 1;
	ok(!world_restart(w), "a damaged row");
	stable_group(1, NULL);
	is_int(w->nrows, 2, "a new group of that id has only its own");
	ok(world_restart(w), "and is there after the next start");
	end();

	begin("damaged rows");
	stable_group(2, NULL);
	for (int32_t i = 0; i < w->nrows; i++)
	{
		w->rows[i].len--;
		ok(!world_restart(w), "a row without its end is refused");
		w->rows[i].len++;
	}
	ok(world_restart(w), "whole again");
	end();
}

static void
test_delete(void)
{
	int16_t		error = -1;
	int64_t		number;

	begin("deleting");
	world_event(w, WORLD_DELETE, NULL, 0, NULL, &error);
	is_int(error, KERR_GROUP_ID_NOT_FOUND, "there is none");
	stable_group(1, NULL);
	world_event(w, WORLD_DELETE, NULL, 0, NULL, &error);
	is_int(error, KERR_NON_EMPTY_GROUP, "it has members");
	leave_as(ids[0], NULL);
	w->lag = true;
	world_event(w, WORLD_DELETE, NULL, 0, NULL, &error);
	is_int(error, KERR_NONE, "deleted");
	is_int(world_summary(w).type, KGROUP_NONE, "there is no group");
	is_int(error_of(JOIN(.member = ids[0])), KERR_UNKNOWN_MEMBER_ID, "no member");
	number = JOIN(.version = V(3));
	world_pass(w, 0);
	is_int(joined(number)->generation_id, 1, "a new one can be made at once");
	strcpy(ids[0], text(joined(number)->member_id));
	sync_as(ids[0], 1, NULL, (const char *[]) {ids[0], "new", NULL});
	world_persist(w);
	is_int(w->nrows, 2, "the old rows are gone, the new ones there");
	ok(world_restart(w), "restart");
	is_str(assigned(sync_as(ids[0], 1, NULL, NULL)), "new", "it is the new one");
	leave_as(ids[0], NULL);
	world_event(w, WORLD_DELETE, NULL, 0, NULL, &error);
	world_persist(w);
	ok(w->image == NULL && w->nrows == 0, "deleted for good");
	end();
}

static void
test_broker_gone(void)
{
	int64_t		first;

	begin("a broker dies with requests");
	stable_group(2, NULL);
	first = JOIN(.member = ids[0],.session = 8000,.rebalance = 6000);
	world_event(w, WORLD_FORGET_BROKER, NULL, 0, NULL, NULL);
	JOIN(.member = ids[1],.session = 8000,.rebalance = 6000);
	is_int(error_of(first), -2, "nobody is answered in vain");
	is_state(KGROUP_COMPLETING_REBALANCE, "who had joined has joined");
	is_int(world_summary(w).generation, 2, "a new generation");
	world_pass(w, 6000);
	is_int(world_summary(w).members, 0, "and has the usual time to come back");
	end();
}

static void
test_commit(void)
{
	KOffsetCommitter c = {.member_id = KSTR(""),.instance_id = KSTR_NULL,.generation = -1,
	.api_version = 9};
	int16_t		error;
	bool		by_partition;
	KGroup	   *g;

#define CHECK(want, what) \
	(g = world_open(w), koffset_check_commit(g, &c, &error, &by_partition), \
	 is_int(error, want, what))

	begin("offset commits");
	CHECK(KERR_NONE, "without group and membership");
	c.generation = 3;
	CHECK(KERR_GROUP_ID_NOT_FOUND, "a generation of no group");
	c.api_version = 8;
	CHECK(KERR_ILLEGAL_GENERATION, "  in old versions");
	g = world_open(w);
	koffset_has_offsets(g);
	koffset_check_commit(g, &c, &error, &by_partition);
	is_int(error, KERR_UNKNOWN_MEMBER_ID, "  of a group that only has offsets");

	stable_group(2, NULL);
	c = (KOffsetCommitter) {.member_id = str(ids[0]),.instance_id = KSTR_NULL,.generation = 1,
	.api_version = 9};
	CHECK(KERR_NONE, "a member's");
	ok(koffset_image_commit(w->image, w->image_len, w->now, &c), "  without opening the group");
	c.generation = 0;
	CHECK(KERR_ILLEGAL_GENERATION, "of an old generation");
	ok(!koffset_image_commit(w->image, w->image_len, w->now, &c), "  not by the image");
	c.generation = -1;
	CHECK(KERR_ILLEGAL_GENERATION, "of a member without generation");
	c.member_id = KSTR("");
	CHECK(KERR_UNKNOWN_MEMBER_ID, "of nobody, while the group has members");
	c.transactional = true;
	CHECK(KERR_NONE, "  in a transaction it may");
	c.transactional = false;
	c.member_id = str(ids[0]);
	c.generation = 1;
	c.instance_id = KSTR("i");
	CHECK(KERR_UNKNOWN_MEMBER_ID, "of an instance that is none");
	c.instance_id = KSTR_NULL;

	world_pass(w, 9000);
	heartbeat_as(ids[1], 1, NULL);
	ok(koffset_image_commit(w->image, w->image_len, w->now, &c), "a commit prolongs the session");
	world_pass(w, 9000);
	is_int(world_summary(w).members, 2, "  which lives on");

	heartbeat_as(ids[1], 1, NULL);
	JOIN(.member = ids[0]);
	c.generation = 1;
	CHECK(KERR_NONE, "while members join");
	JOIN(.member = ids[1]);
	c.generation = 2;
	CHECK(KERR_REBALANCE_IN_PROGRESS, "not before the assignment");
	c.transactional = true;
	CHECK(KERR_NONE, "  but in transactions");
	end();

	begin("who reads a topic");
	stable_group(1, NULL);
	is_int(koffset_check_delete(world_open(w)), KERR_NONE, "consumers' offsets can be deleted");
	is_int(koffset_check_delete_topic(world_open(w), KSTR("t")), KERR_GROUP_SUBSCRIBED_TO_TOPIC,
		   "if it is known what they read");
	ok(!koffset_expired(world_open(w), KSTR("t"), 0, -1, 1), "the same for expiry");
	leave_as(ids[0], NULL);
	is_int(koffset_check_delete_topic(world_open(w), KSTR("t")), KERR_NONE, "an empty group's");
	ok(!koffset_expired(world_open(w), KSTR("t"), 0, -1, 1000), "from when the last one left");
	w->now += 1000;
	ok(koffset_expired(world_open(w), KSTR("t"), 0, -1, 1000), "  after the retention");
	ok(!koffset_expired(world_open(w), KSTR("t"), 0, w->now + 1, 1000), "  or its own time");
	ok(koffset_expired(world_open(w), KSTR("t"), 0, w->now, 1000), "  ...");
	end();

	begin("offsets without members");
	is_int(koffset_check_fetch(world_open(w), KSTR_NULL, -1), KERR_GROUP_ID_NOT_FOUND, "none");
	is_int(koffset_check_delete(world_open(w)), KERR_GROUP_ID_NOT_FOUND, "none");
	g = world_open(w);
	koffset_has_offsets(g);
	is_int(koffset_check_fetch(g, KSTR_NULL, -1), KERR_NONE, "they can be fetched");
	is_int(koffset_check_delete(g), KERR_NONE, "and deleted");
	ok(koffset_expired(g, KSTR("t"), w->now - 1000, -1, 1000), "expire from the commit on");
	ok(!koffset_expired(g, KSTR("t"), w->now - 999, -1, 1000), "  not before");
	end();
}

static void
test_at_rest(void)
{
	KHeartbeatRequest request;

	begin("heartbeats at rest");
	stable_group(1, NULL);
	kmsg_init(&kmsg_heartbeat_request, &request);
	request.member_id = str(ids[0]);
	request.generation_id = 1;
	for (int i = 0; i < 5; i++)
	{
		world_pass(w, 9000);
		ok(kgroup_image_heartbeat(w->image, w->image_len, w->now, &request), "in the image");
	}
	is_int(world_summary(w).members, 1, "the session goes on");
	JOIN(.version = V(3));
	ok(!kgroup_image_heartbeat(w->image, w->image_len, w->now, &request), "not in a rebalance");
	JOIN(.member = ids[0]);
	request.generation_id = 2;
	ok(kgroup_image_heartbeat(w->image, w->image_len, w->now, &request), "but while it syncs");
	request.group_instance_id = KSTR("i");
	ok(!kgroup_image_heartbeat(w->image, w->image_len, w->now, &request), "not if it differs");
	ok(!kgroup_image_heartbeat(w->image, 16, w->now, &request), "not in a piece of an image");
	end();
}

static KJoinGroupRequest
join_request(const char *member, KJoinGroupRequestProtocol *protocol)
{
	KJoinGroupRequest request;

	kmsg_init(&kmsg_join_group_request, &request);
	*protocol = (KJoinGroupRequestProtocol)
	{
		.name = KSTR("range"),.metadata = {(const uint8_t *) "n", 1}
	};
	request.member_id = str(member);
	request.protocol_type = KSTR("consumer");
	request.session_timeout_ms = 10000;
	request.rebalance_timeout_ms = 60000;
	request.protocols.items = protocol;
	request.protocols.count = 1;
	return request;
}

/* Would this wait?  In a copy. */
static bool
join_parks(int version, const KJoinGroupRequest *request)
{
	uint8_t    *image = malloc(w->image_len);
	bool		parked;

	memcpy(image, w->image, w->image_len);
	parked = kgroup_image_join(&w->env.config, image, w->image_len,
							   (KGroupWaiter) {1, 1, version}, request);
	ok(parked == (memcmp(image, w->image, w->image_len) != 0), "all or nothing");
	free(image);
	return parked;
}

static bool
sync_parks(int version, const KSyncGroupRequest *request)
{
	uint8_t    *image = malloc(w->image_len);
	KSyncGroupResponse answer;
	uint64_t	answer_version;
	KGroupRest	result;

	memcpy(image, w->image, w->image_len);
	result = kgroup_image_sync(image, w->image_len, (KGroupWaiter) {1, 1, version}, request,
							   &answer, &answer_version);
	ok((result == KGROUP_REST_NO) == (memcmp(image, w->image, w->image_len) == 0),
	   "all or nothing");
	free(image);
	return result == KGROUP_REST_WAITS;
}

/* Each request is also tried by world_event(), which compares it with the open group's. */
static void
test_parked(void)
{
	KJoinGroupRequestProtocol protocol;
	KJoinGroupRequestProtocol two[2];
	KJoinGroupRequest join;
	KSyncGroupRequest sync;
	int64_t		numbers[4];
	uint64_t	version;

	begin("joining at rest");
	w->env.config.max_size = 4;
	stable_group(4, (const char *[]) {NULL, NULL, NULL, "i"});
	join = join_request(ids[1], &protocol);
	ok(!join_parks(9, &join), "not in a stable group");
	numbers[0] = JOIN(.member = ids[0]);	/* the leader wants it */
	is_state(KGROUP_PREPARING_REBALANCE, "a rebalance");
	ok(join_parks(9, &join), "a member waits, with other metadata of the same size");
	ok(join_parks(1, &join), "in all versions but the first");
	ok(!join_parks(0, &join), "  which has no rebalance timeout");
	ok(!kgroup_image_join(&w->env.config, w->image, 16, (KGroupWaiter) {1, 1, 9}, &join),
	   "not in a piece of an image");
	protocol.metadata.len = 0;
	ok(!join_parks(9, &join), "not with metadata of another size");
	join = join_request(ids[1], &protocol);
	protocol.name = KSTR("other");
	ok(!join_parks(9, &join), "nor with another protocol");
	join = join_request(ids[1], &protocol);
	two[0] = two[1] = protocol;
	join.protocols.items = two;
	join.protocols.count = 2;
	ok(!join_parks(9, &join), "nor with one more");
	join.protocols.count = 0;
	ok(!join_parks(9, &join), "nor without any");
	join = join_request(ids[1], &protocol);
	join.protocol_type = KSTR("connect");
	ok(!join_parks(9, &join), "nor of another type");
	join = join_request(ids[1], &protocol);
	join.session_timeout_ms++;
	ok(!join_parks(9, &join), "nor with another session timeout");
	join = join_request(ids[1], &protocol);
	join.rebalance_timeout_ms++;
	ok(!join_parks(9, &join), "nor with another rebalance timeout");
	join = join_request(ids[1], &protocol);
	w->env.config.min_session_timeout_ms = 10001;
	ok(!join_parks(9, &join), "nor with one that is not allowed any more");
	w->env.config.min_session_timeout_ms = 6000;
	w->env.config.max_session_timeout_ms = 9999;
	ok(!join_parks(9, &join), "  ...");
	w->env.config.max_session_timeout_ms = 1800000;
	w->env.config.max_size = 1;
	ok(!join_parks(9, &join), "nor when there is no room for so many");
	w->env.config.max_size = 4;
	join.member_id = KSTR("nobody");
	ok(!join_parks(9, &join), "nor who is no member");
	join = join_request(ids[3], &protocol);
	ok(join_parks(9, &join), "a static member, by its id alone");
	join.group_instance_id = KSTR("i");
	ok(join_parks(9, &join), "  by both");
	join.group_instance_id = KSTR("j");
	ok(!join_parks(9, &join), "  not by another's");
	join = join_request(ids[0], &protocol);
	ok(!join_parks(9, &join), "nor who waits with another request");

	numbers[1] = JOIN(.member = ids[1],.metadata = "x");
	numbers[2] = JOIN(.member = ids[2],.metadata = "y");
	is_int(w->rests, 5, "two have waited so, as three have for their first assignments");
	join = join_request(ids[3], &protocol);
	ok(!join_parks(9, &join), "the last one ends the phase");
	numbers[3] = JOIN(.member = ids[3],.metadata = "z");
	for (int i = 0; i < 4; i++)
		is_int(error_of(numbers[i]), KERR_NONE, "all are answered");
	is_int(joined(numbers[0])->members.count, 4, "the leader is told of all");
	for (int i = 0; i < 4; i++)
		is_int(joined(numbers[0])->members.items[i].metadata.data[0], "mxyz"[i],
			   "with what they said now");

	kmsg_init(&kmsg_sync_group_request, &sync);
	sync.member_id = str(ids[1]);
	sync.generation_id = 2;
	ok(sync_parks(4, &sync), "a member waits for its assignment");
	ok(!sync_parks(5, &sync), "not without the protocol, from version 5 on");
	sync.protocol_type = KSTR("consumer");
	sync.protocol_name = KSTR("range");
	ok(sync_parks(5, &sync), "  with it");
	sync.protocol_name = KSTR("other");
	ok(!sync_parks(5, &sync), "  not with another");
	sync.protocol_name = KSTR("range");
	sync.protocol_type = KSTR("connect");
	ok(!sync_parks(5, &sync), "  ...");
	sync.protocol_type = KSTR("consumer");
	is_int(kgroup_image_sync(w->image, 16, (KGroupWaiter) {1, 1, 5}, &sync, NULL, NULL),
		   KGROUP_REST_NO,
	   "not in a piece of an image");
	sync.generation_id = 1;
	ok(!sync_parks(5, &sync), "not of another generation");
	sync.generation_id = 2;
	sync.member_id = str(ids[0]);
	ok(!sync_parks(5, &sync), "nor the leader");
	sync.member_id = str(ids[3]);
	sync.group_instance_id = KSTR("j");
	ok(!sync_parks(5, &sync), "nor who is another");
	sync.group_instance_id = KSTR("i");
	ok(sync_parks(5, &sync), "but a static member");

	version = world_summary(w).version;
	numbers[1] = sync_as(ids[1], 2, NULL, NULL);
	numbers[2] = sync_as(ids[2], 2, NULL, NULL);
	sync.member_id = str(ids[2]);
	sync.group_instance_id = KSTR_NULL;
	ok(!sync_parks(5, &sync), "not who waits with another request");
	is_int(w->rests, 7, "two have waited");
	is_int((int64_t) world_summary(w).version, (int64_t) version, "and nothing is to be written");
	numbers[0] = sync_as(ids[0], 2, NULL,
						 (const char *[]) {ids[1], "one", ids[2], "two", NULL});
	is_str(assigned(numbers[1]), "one", "and get what the leader gives them");
	is_str(assigned(numbers[2]), "two", "  ...");
	is_int(error_of(sync_as(ids[3], 2, NULL, NULL)), KERR_NONE, "who is late need not wait");
	is_int(w->rests, 8, "  nor open the group");
	is_int(error_of(sync_as(ids[3], 2, NULL, NULL)), KERR_NONE, "  nor if it asks again");
	is_int(error_of(sync_as(ids[0], 2, NULL, NULL)), KERR_NONE, "  and be it the leader");
	is_int(w->rests, 10, "  ...");
	end();

	begin("the last to ask waits with an open group");
	stable_group(2, NULL);
	numbers[0] = JOIN(.member = ids[0]);
	numbers[1] = JOIN(.member = ids[1]);
	is_int(w->rests, 1, "only one has waited: of the first generation");
	sync.member_id = str(ids[0]);
	sync_as(ids[1], 2, NULL, NULL);
	is_int(w->rests, 2, "the leader is still to come");
	sync_as(ids[0], 2, NULL, NULL);
	is_state(KGROUP_STABLE, "and comes");
	for (int i = 0; i < 10; i++)
	{
		world_pass(w, 9000);
		is_int(heartbeat_as(ids[0], 2, NULL), KERR_NONE, "whose member lives");
		is_int(heartbeat_as(ids[1], 2, NULL), KERR_NONE, "  as the other does");
	}
	end();
}

static void
test_describe(void)
{
	KDescribeGroupsResponseGroup out;
	KGroupSummary summary;
	KStr		names[2] = {KSTR(" STABLE "), KSTR("nonsense")};

	begin("describing");
	ok(kgroup_describe(world_open(w), 5, &out), "no group");
	is_str(text(out.group_state), "Dead", "dead");
	is_int(out.error_code, KERR_NONE, "no error up to version 5");
	kgroup_describe(world_open(w), 6, &out);
	is_int(out.error_code, KERR_GROUP_ID_NOT_FOUND, "from version 6 on there is one");
	is_str(text(out.error_message), "Group g not found.", "with a message");

	stable_group(2, NULL);
	kgroup_describe(world_open(w), 6, &out);
	is_str(text(out.group_state), "Stable", "state");
	is_str(text(out.protocol_type), "consumer", "protocol type");
	is_str(text(out.protocol_data), "range", "protocol");
	is_int(out.members.count, 2, "members");
	is_str(text(out.members.items[1].member_id), ids[1], "  id");
	is_str(text(out.members.items[1].client_id), "client", "  client");
	is_str(text(out.members.items[1].client_host), "/127.0.0.1", "  host");
	is_int(out.members.items[1].member_metadata.len, 1, "  metadata");
	is_bytes(out.members.items[1].member_assignment.data,
			 (size_t) out.members.items[1].member_assignment.len, "a1", 2, "  assignment");

	summary = world_summary(w);
	ok(kgroup_summary_matches(&summary, &(KStrArray) {NULL, 0}, &(KStrArray) {NULL, 0}), "all");
	ok(kgroup_summary_matches(&summary, &(KStrArray) {names, 1}, &(KStrArray) {NULL, 0}),
	   "by state, in any case");
	ok(!kgroup_summary_matches(&summary, &(KStrArray) {names + 1, 1}, &(KStrArray) {NULL, 0}),
	   "not by another");
	ok(!kgroup_summary_matches(&summary, &(KStrArray) {NULL, 0}, &(KStrArray) {names + 1, 1}),
	   "nor by another type");
	names[1] = KSTR("Classic");
	ok(kgroup_summary_matches(&summary, &(KStrArray) {NULL, 0}, &(KStrArray) {names + 1, 1}),
	   "but by its own");
	JOIN(.member = ids[0]);
	kgroup_describe(world_open(w), 6, &out);
	is_int(out.members.items[0].member_metadata.len, 0, "no metadata in a rebalance");
	is_str(text(out.protocol_data), "", "nor a protocol");
	end();
}

static void
test_bytes(void)
{
	KGroupResult result;
	KGroupCaller caller = {{1, 1, 3}, KSTR("client"), KSTR("/127.0.0.1")};
	KJoinGroupRequest request;
	KJoinGroupRequestProtocol protocol = {.name = KSTR("range")};
	static const uint8_t metadata[10000];
	int32_t		count;
	KGroup	   *g;

	begin("groups have a size in bytes");
	w->env.config.max_image_bytes = 9000;
	stable_group(1, NULL);
	kmsg_init(&kmsg_join_group_request, &request);
	request.protocol_type = KSTR("consumer");
	request.session_timeout_ms = 10000;
	request.protocols.items = &protocol;
	request.protocols.count = 1;
	protocol.metadata = (KBytes) {metadata, sizeof(metadata)};
	g = world_open(w);
	result = kgroup_join(g, &caller, &request);
	is_int(result, KGROUP_FULL, "who needs more is not let in");
	kgroup_answers(g, &count);
	is_int(count, 0, "nothing happened");
	end();
}

int
main(void)
{
	test_join();
	test_join_versions();
	test_initial_delay();
	test_protocols();
	test_sync();
	test_sessions();
	test_leave();
	test_size();
	test_static();
	test_durable();
	test_delete();
	test_broker_gone();
	test_commit();
	test_at_rest();
	test_parked();
	test_describe();
	test_bytes();
	return done_testing();
}
