/*
 * kapi_epoch.h
 *		Where a leader epoch's batches end.  For src/api only.
 */
#ifndef KAPI_EPOCH_H
#define KAPI_EPOCH_H

#include "api/kapi_request.h"
#include "log/klog.h"

/*
 * As Kafka's leaders answer: the epoch asked for or the greatest one before it that the partition
 * has, and where the next one begins; both -1 when no leader had that epoch yet.  KLOG_COLD: pages
 * are on their way, which sets this process' latch.
 */
extern KLogResult kapi_epoch_end(Relation rel, KLogPartition *part, int32 epoch,
								 KLogEpochEnd *end, KColdPages *last);

#endif							/* KAPI_EPOCH_H */
