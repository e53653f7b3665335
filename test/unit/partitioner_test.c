/*
 * partitioner_test.c
 *		Records go where a Java client would send them.
 */
#include "c.h"

#include "topic/kpartitioner.h"
#include "tap.h"

int
main(void)
{
	/* computed by org.apache.kafka.common.utils.Utils.murmur2, kafka-clients 4.3.0 */
	static const struct
	{
		const char *key;
		int			len;
		int32		hash;
		int32		of_10;		/* partition of 10 */
	}			vectors[] = {
		{"", 0, 275646681, 1},
		{"a", 1, -1563381124, 4},
		{"ab", 2, 316155434, 4},
		{"abc", 3, 479470107, 7},
		{"abcd", 4, -1323649548, 0},
		{"21", 2, -973932308, 0},
		{"foobar", 6, -790332482, 6},
		{"a-little-bit-long-string", 24, -985981536, 2},
		{"a-little-bit-longer-string", 26, -1486304829, 9},
		{"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", 48, -58897971, 7},
		{"\xff\x80\xfe\x00\x81\x90\xff", 7, -1836754566, 2},
	};
	KStickyPartition sticky = {0};
	int32		partition;

	for (size_t i = 0; i < lengthof(vectors); i++)
	{
		const uint8 *key = (const uint8 *) vectors[i].key;

		ok((int32) kpartitioner_hash(key, vectors[i].len) == vectors[i].hash &&
		   kpartitioner_for_key(key, vectors[i].len, 10) == vectors[i].of_10 &&
		   kpartitioner_for_key(key, vectors[i].len, 1) == 0,
		   "hash and partition of key %zu", i);
	}

	/* 16 records of 1 kB make up a run, whatever "random" says in between */
	partition = kpartitioner_without_key(&sticky, 7, 1024, 5);
	is_int(partition, 5, "the first choice is random");
	for (int i = 1; i < 16; i++)
		partition = kpartitioner_without_key(&sticky, 7, 1024, i) == 5 ? partition : -1;
	is_int(partition, 5, "and kept for 16 kB");
	is_int(kpartitioner_without_key(&sticky, 7, 1024, 13), 6, "then there is another one");
	is_int(kpartitioner_without_key(&sticky, 8, 1, 15), 7,
		   "and also when the number of partitions changes");
	is_int(kpartitioner_without_key(&sticky, 8, 1000000, 0), 7, "a large record goes there too");
	is_int(kpartitioner_without_key(&sticky, 8, 1, PG_UINT32_MAX), 7, "2^32-1 modulo 8");
	return done_testing();
}
