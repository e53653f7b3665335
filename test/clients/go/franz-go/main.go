// franz-go's client and admin client.
package main

import (
	"context"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	w "kafka_pg/clients/workload"
)

const (
	records = "franz-go-records"
	big     = "franz-go-big"
	auto    = "franz-go-auto"
	gaps    = "franz-go-gaps"
)

var (
	ctx    context.Context
	codecs = []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(),
		kgo.Lz4Compression(), kgo.ZstdCompression()}
)

func client(options ...kgo.Opt) *kgo.Client {
	options = append(options, kgo.SeedBrokers(os.Getenv("KAFKA_BOOTSTRAP")))
	cl, err := kgo.NewClient(options...)
	w.Must(err)
	return cl
}

// produce returns the offsets that were acknowledged.
func produce(topic string, partition int32, all []w.Record, options ...kgo.Opt) (offsets []int64) {
	cl := client(append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.AllowAutoTopicCreation())...)
	defer cl.Close()
	var todo []*kgo.Record
	for _, r := range all {
		k := &kgo.Record{Topic: topic, Partition: partition, Key: r.Key, Value: r.Value,
			Timestamp: time.UnixMilli(r.Timestamp)}
		for _, h := range r.Headers {
			k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		todo = append(todo, k)
	}
	for _, result := range cl.ProduceSync(ctx, todo...) {
		w.Must(result.Err)
		offsets = append(offsets, result.Record.Offset)
	}
	return offsets
}

func consumer(topic string, partition int32, from kgo.Offset) *kgo.Client {
	return client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: from}}),
		kgo.FetchMaxWait(100*time.Millisecond))
}

func poll(cl *kgo.Client, count int) (all []w.Record) {
	for len(all) < count && ctx.Err() == nil {
		fetches := cl.PollFetches(ctx)
		fetches.EachError(func(_ string, _ int32, err error) { w.Must(err) })
		fetches.EachRecord(func(r *kgo.Record) {
			record := w.Record{Offset: r.Offset, Key: r.Key, Value: r.Value, Timestamp: r.Timestamp.UnixMilli()}
			for _, h := range r.Headers {
				record.Headers = append(record.Headers, w.Header{Key: h.Key, Value: h.Value})
			}
			all = append(all, record)
		})
	}
	return all
}

func read(topic string, partition int32, from kgo.Offset, count int) []w.Record {
	cl := consumer(topic, partition, from)
	defer cl.Close()
	return poll(cl, count)
}

func offsetsOf(list kadm.ListedOffsets, err error) (offsets []int64) {
	w.Must(err)
	for p := range w.Codecs {
		o, _ := list.Lookup(records, int32(p))
		w.Must(o.Err)
		offsets = append(offsets, o.Offset)
	}
	return offsets
}

func main() {
	if len(os.Args) > 1 {
		member(os.Args[2:])
	}
	var cancel context.CancelFunc
	ctx, cancel = context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cl := client()
	admin := kadm.NewClient(cl)

	_, err := admin.CreateTopic(ctx, int32(len(w.Codecs)), 1, nil, records)
	w.Must(err)
	limit := "10485760"
	_, err = admin.CreateTopic(ctx, 1, 1, map[string]*string{"max.message.bytes": &limit}, big)
	w.Must(err)
	topics, err := admin.ListTopics(ctx, records, big)
	w.Must(err)
	w.Same([]int{len(topics[records].Partitions), len(topics[big].Partitions)}, []int{5, 1}, "create topics")
	_, err = admin.CreateTopic(ctx, 1, 1, nil, big)
	w.OK(err == kerr.TopicAlreadyExists, "create a topic twice")
	configs, err := admin.DescribeTopicConfigs(ctx, big)
	w.Must(err)
	value := ""
	for _, c := range configs[0].Configs {
		if c.Key == "max.message.bytes" {
			value = c.MaybeValue()
		}
	}
	w.Same(value, limit, "describe a topic's configs")

	var numbers []int64
	for i := range w.Records {
		numbers = append(numbers, int64(i))
	}
	for p, codec := range w.Codecs {
		got := produce(records, int32(p), w.Wanted(0), kgo.ProducerBatchCompression(codecs[p]))
		w.Same(got, numbers, "produce with "+codec)
	}
	for i, r := range w.WantedBig() {
		produce(big, 0, []w.Record{r}, kgo.ProducerBatchCompression(codecs[w.BigCodecs[i]]),
			kgo.ProducerBatchMaxBytes(10000000), kgo.DisableIdempotentWrite())
	}

	for p, codec := range w.Codecs {
		w.SameRecords(read(records, int32(p), kgo.NewOffset().AtStart(), w.Records), w.Wanted(0),
			"consume from the beginning, "+codec)
	}
	w.SameRecords(read(big, 0, kgo.NewOffset().AtStart(), len(w.BigSizes)), w.WantedBig(), "values up to 5 MB")
	w.SameRecords(read(records, 3, kgo.NewOffset().At(100), w.Records-100), w.Wanted(100), "consume from an offset")
	w.SameRecords(read(records, 2, kgo.NewOffset().AfterMilli(w.Timestamp(50)-500), w.Records-50), w.Wanted(50),
		"consume from a timestamp")
	w.SameRecords(read(records, 2, kgo.NewOffset().AtEnd().Relative(-3), 3), w.Wanted(w.Records-3),
		"consume the last three")
	w.Same(offsetsOf(admin.ListOffsetsAfterMilli(ctx, w.Timestamp(50)-500, records)), []int64{50, 50, 50, 50, 50},
		"offsets of a timestamp")
	w.Same(offsetsOf(admin.ListStartOffsets(ctx, records)), []int64{0, 0, 0, 0, 0}, "first offsets")
	w.Same(offsetsOf(admin.ListEndOffsets(ctx, records)), []int64{120, 120, 120, 120, 120}, "end offsets")
	w.Same(offsetsOf(admin.ListMaxTimestampOffsets(ctx, records)), []int64{119, 119, 119, 119, 119},
		"offsets of the greatest timestamps")

	first, second := w.One(2), w.One(3)
	first.Offset, second.Offset = 0, 1
	produce(auto, 0, []w.Record{first}, kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck()))
	w.SameRecords(read(auto, 0, kgo.NewOffset().AtStart(), 1), []w.Record{first}, "a topic that was created on its own")
	end := consumer(auto, 0, kgo.NewOffset().AtEnd())
	short, stop := context.WithTimeout(ctx, time.Second)
	w.Same(end.PollFetches(short).NumRecords(), 0, "consume from the end: nothing yet")
	stop()
	produce(auto, 0, []w.Record{second}, kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.NoAck()))
	w.SameRecords(poll(end, 1), []w.Record{second}, "consume from the end")
	end.Close()

	live := consumer(gaps, 0, kgo.NewOffset().AtStart())
	var found []int64
	for _, r := range poll(live, 4) {
		found = append(found, r.Offset)
	}
	w.Same(found, []int64{0, 1, 102, 103}, "step over gaps")
	w.Same(produce(gaps, 0, []w.Record{second}), []int64{204}, "write after a gap")
	second.Offset = 204
	w.SameRecords(poll(live, 1), []w.Record{second}, "read on after a gap")
	live.Close()
	w.Same(len(read(gaps, 0, kgo.NewOffset().At(50), 3)), 3, "start in a gap")

	_, err = admin.DeleteTopic(ctx, auto)
	w.Must(err)
	topics, err = admin.ListTopics(ctx)
	w.Must(err)
	w.OK(topics.Has(big) && !topics.Has(auto), "delete a topic")
	_, err = admin.DeleteTopic(ctx, auto)
	w.OK(err == kerr.UnknownTopicOrPartition, "delete a topic twice")
	cl.Close()
	w.Exit()
}
