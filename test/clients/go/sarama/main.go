// Sarama's producers, consumer and cluster admin.
package main

import (
	"errors"
	"os"
	"time"

	"github.com/IBM/sarama"

	w "kafka_pg/clients/workload"
)

const (
	records = "sarama-records"
	big     = "sarama-big"
	auto    = "sarama-auto"
	gaps    = "sarama-gaps"
)

var servers = []string{os.Getenv("KAFKA_BOOTSTRAP")}

func config() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.Consumer.MaxWaitTime = 100 * time.Millisecond
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.Return.Successes = true
	c.Producer.MaxMessageBytes = 10000000
	return c
}

func idempotent(c *sarama.Config) {
	c.Producer.Idempotent = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Net.MaxOpenRequests = 1
}

func encoder(b []byte) sarama.Encoder {
	if b == nil {
		return nil
	}
	return sarama.ByteEncoder(b)
}

// produce returns the offsets that were acknowledged.
func produce(topic string, partition int32, all []w.Record, c *sarama.Config) (offsets []int64) {
	producer, err := sarama.NewSyncProducer(servers, c)
	w.Must(err)
	defer producer.Close()
	var todo []*sarama.ProducerMessage
	for _, r := range all {
		m := &sarama.ProducerMessage{Topic: topic, Partition: partition, Key: encoder(r.Key), Value: encoder(r.Value),
			Timestamp: time.UnixMilli(r.Timestamp)}
		for _, h := range r.Headers {
			m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
		}
		todo = append(todo, m)
	}
	w.Must(producer.SendMessages(todo))
	for _, m := range todo {
		offsets = append(offsets, m.Offset)
	}
	return offsets
}

func consumer(client sarama.Client, topic string, partition int32, from int64) (sarama.Consumer, sarama.PartitionConsumer) {
	c, err := sarama.NewConsumerFromClient(client)
	w.Must(err)
	p, err := c.ConsumePartition(topic, partition, from)
	w.Must(err)
	return c, p
}

func poll(p sarama.PartitionConsumer, count int, wait time.Duration) (all []w.Record) {
	timeout := time.After(wait)
	for len(all) < count {
		select {
		case m := <-p.Messages():
			r := w.Record{Offset: m.Offset, Key: m.Key, Value: m.Value, Timestamp: m.Timestamp.UnixMilli()}
			for _, h := range m.Headers {
				r.Headers = append(r.Headers, w.Header{Key: string(h.Key), Value: h.Value})
			}
			all = append(all, r)
		case err := <-p.Errors():
			w.Must(err)
		case <-timeout:
			return all
		}
	}
	return all
}

func read(client sarama.Client, topic string, partition int32, from int64, count int) []w.Record {
	c, p := consumer(client, topic, partition, from)
	defer c.Close()
	defer p.Close()
	return poll(p, count, time.Minute)
}

func main() {
	if len(os.Args) > 1 {
		member(os.Args[2:])
	}
	client, err := sarama.NewClient(servers, config())
	w.Must(err)
	admin, err := sarama.NewClusterAdmin(servers, config())
	w.Must(err)

	limit := "10485760"
	w.Must(admin.CreateTopic(records, &sarama.TopicDetail{NumPartitions: int32(len(w.Codecs)), ReplicationFactor: 1}, false))
	w.Must(admin.CreateTopic(big, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1,
		ConfigEntries: map[string]*string{"max.message.bytes": &limit}}, false))
	topics, err := admin.ListTopics()
	w.Must(err)
	w.Same([]int32{topics[records].NumPartitions, topics[big].NumPartitions}, []int32{5, 1}, "create topics")
	w.Same(*topics[big].ConfigEntries["max.message.bytes"], limit, "describe a topic's configs")
	err = admin.CreateTopic(big, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false)
	w.OK(errors.Is(err, sarama.ErrTopicAlreadyExists), "create a topic twice")

	var numbers []int64
	for i := range w.Records {
		numbers = append(numbers, int64(i))
	}
	for p, codec := range w.Codecs {
		c := config()
		idempotent(c)
		c.Producer.Compression = sarama.CompressionCodec(p)
		c.Producer.Flush.Frequency = 20 * time.Millisecond
		c.Producer.MaxMessageBytes = 1000000
		w.Same(produce(records, int32(p), w.Wanted(0), c), numbers, "produce with "+codec)
	}
	for i, r := range w.WantedBig() {
		c := config()
		c.Producer.Compression = sarama.CompressionCodec(w.BigCodecs[i])
		c.Producer.RequiredAcks = sarama.WaitForAll
		produce(big, 0, []w.Record{r}, c)
	}

	w.Must(client.RefreshMetadata())
	for p, codec := range w.Codecs {
		w.SameRecords(read(client, records, int32(p), sarama.OffsetOldest, w.Records), w.Wanted(0),
			"consume from the beginning, "+codec)
	}
	w.SameRecords(read(client, big, 0, sarama.OffsetOldest, len(w.BigSizes)), w.WantedBig(), "values up to 5 MB")
	w.SameRecords(read(client, records, 3, 100, w.Records-100), w.Wanted(100), "consume from an offset")
	offset, err := client.GetOffset(records, 2, w.Timestamp(50)-500)
	w.Must(err)
	w.Same(offset, int64(50), "offset of a timestamp")
	w.SameRecords(read(client, records, 2, offset, w.Records-50), w.Wanted(50), "consume from a timestamp")
	offset, err = client.GetOffset(records, 2, w.Timestamp(w.Records))
	w.Must(err)
	w.Same(offset, int64(-1), "no offset after the last timestamp")
	var ends []int64
	for _, which := range []int64{sarama.OffsetOldest, sarama.OffsetNewest} {
		offset, err = client.GetOffset(records, 4, which)
		w.Must(err)
		ends = append(ends, offset)
	}
	w.Same(ends, []int64{0, w.Records}, "first and last offset")

	first, second := w.One(2), w.One(3)
	first.Offset, second.Offset = 0, 1
	c := config()
	c.Producer.RequiredAcks = sarama.WaitForLocal
	produce(auto, 0, []w.Record{first}, c)
	w.SameRecords(read(client, auto, 0, sarama.OffsetOldest, 1), []w.Record{first}, "a topic that was created on its own")
	end, p := consumer(client, auto, 0, sarama.OffsetNewest)
	w.Same(len(poll(p, 1, time.Second)), 0, "consume from the end: nothing yet")
	produce(auto, 0, []w.Record{second}, c)
	w.SameRecords(poll(p, 1, time.Minute), []w.Record{second}, "consume from the end")
	p.Close()
	end.Close()

	end, p = consumer(client, gaps, 0, sarama.OffsetOldest)
	var found []int64
	for _, r := range poll(p, 4, time.Minute) {
		found = append(found, r.Offset)
	}
	w.Same(found, []int64{0, 1, 102, 103}, "step over gaps")
	w.Same(produce(gaps, 0, []w.Record{second}, c), []int64{204}, "write after a gap")
	second.Offset = 204
	w.SameRecords(poll(p, 1, time.Minute), []w.Record{second}, "read on after a gap")
	p.Close()
	end.Close()
	w.Same(len(read(client, gaps, 0, 50, 3)), 3, "start in a gap")

	w.Must(admin.DeleteTopic(auto))
	topics, err = admin.ListTopics()
	w.Must(err)
	_, there := topics[auto]
	w.OK(!there && len(topics) >= 2, "delete a topic")
	w.OK(errors.Is(admin.DeleteTopic(auto), sarama.ErrUnknownTopicOrPartition), "delete a topic twice")
	admin.Close()
	client.Close()
	w.Exit()
}
