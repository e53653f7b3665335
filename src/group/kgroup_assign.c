/*
 * kgroup_assign.c
 *		What assignors share, and "range".
 *
 * Follows Kafka's RangeAssignor, which has not looked at racks since 4.0.
 */
#include "group/kgroup_assign.h"

#include <stdlib.h>
#include <string.h>

const KAssignor kassign_all[] = {
	{"uniform", kassign_uniform},
	{"range", kassign_range},
};
const int	kassign_count = sizeof(kassign_all) / sizeof(kassign_all[0]);

const KAssignor *
kassign_find(KStr name)
{
	for (int i = 0; i < kassign_count; i++)
		if (name.len == (int32_t) strlen(kassign_all[i].name) &&
			memcmp(name.data, kassign_all[i].name, (size_t) name.len) == 0)
			return &kassign_all[i];
	return NULL;
}

int32_t
kassign_number(KAssignTopic *topics, int32_t ntopics)
{
	int64_t		total = 0;

	for (int32_t i = 0; i < ntopics; i++)
	{
		topics[i].first = (int32_t) total;
		total += topics[i].partitions;
		if (total > INT32_MAX / 2)
			return -1;
	}
	return (int32_t) total;
}

static int
compare_str(KStr a, KStr b)
{
	int32_t		len = a.len < b.len ? a.len : b.len;
	int			order = len > 0 ? memcmp(a.data, b.data, (size_t) len) : 0;

	return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int
compare_members(const void *left, const void *right)
{
	const KAssignMember *a = *(const KAssignMember *const *) left;
	const KAssignMember *b = *(const KAssignMember *const *) right;

	if (a->instance_id.len >= 0 && b->instance_id.len >= 0)
		return compare_str(a->instance_id, b->instance_id);
	if (a->instance_id.len >= 0 || b->instance_id.len >= 0)
		return a->instance_id.len >= 0 ? -1 : 1;
	return compare_str(a->id, b->id);
}

typedef struct Range
{
	int32_t		subscribers;
	int32_t		extra;			/* so many more members get one partition more */
	int32_t		next;
} Range;

bool
kassign_range(KAssign *assign)
{
	const KAssignMember **sorted = karena_alloc(assign->arena, (size_t) assign->nmembers *
												sizeof(*sorted) + 1);
	Range	   *ranges = karena_alloc(assign->arena, (size_t) assign->ntopics *
									  sizeof(*ranges) + 1);

	if (sorted == NULL || ranges == NULL)
		return false;
	memset(ranges, 0, (size_t) assign->ntopics * sizeof(*ranges));
	for (int32_t i = 0; i < assign->npartitions; i++)
		assign->owners[i] = KASSIGN_NOBODY;
	for (int32_t m = 0; m < assign->nmembers; m++)
	{
		sorted[m] = &assign->members[m];
		for (int32_t i = 0; i < sorted[m]->ntopics; i++)
			ranges[sorted[m]->topics[i]].subscribers++;
	}
	for (int32_t t = 0; t < assign->ntopics; t++)
		if (ranges[t].subscribers > 0)
			ranges[t].extra = assign->topics[t].partitions % ranges[t].subscribers;
	if (assign->nmembers > 0)
		qsort(sorted, (size_t) assign->nmembers, sizeof(*sorted), compare_members);

	for (int32_t m = 0; m < assign->nmembers; m++)
	{
		for (int32_t i = 0; i < sorted[m]->ntopics; i++)
		{
			const KAssignTopic *topic = &assign->topics[sorted[m]->topics[i]];
			Range	   *range = &ranges[sorted[m]->topics[i]];
			int32_t		end = range->next + topic->partitions / range->subscribers;

			if (range->extra > 0)
			{
				range->extra--;
				end++;
			}
			for (; range->next < end; range->next++)
				assign->owners[topic->first + range->next] =
					(int32_t) (sorted[m] - assign->members);
		}
	}
	return true;
}
