package main

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	w "kafka_pg/clients/workload"
)

// member is a member of a group; see ../../member.py.
func member(args []string) {
	m := w.NewMember(args)
	told := func(what func([]int32)) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			what(partitions[m.Topic])
		}
	}
	options := []kgo.Opt{kgo.ConsumerGroup(m.Group), kgo.ConsumeTopics(m.Topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.SessionTimeout(m.Session), kgo.HeartbeatInterval(500 * time.Millisecond), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(told(m.Assigned)), kgo.OnPartitionsLost(told(m.Revoked)),
		kgo.OnPartitionsRevoked(func(ctx context.Context, cl *kgo.Client, partitions map[string][]int32) {
			if len(partitions[m.Topic]) > 0 {
				w.Must(cl.CommitUncommittedOffsets(ctx))
			}
			m.Revoked(partitions[m.Topic])
		})}
	if m.Protocol == "eager" {
		options = append(options, kgo.Balancers(kgo.RangeBalancer()))
	}
	if m.Instance != "" {
		options = append(options, kgo.InstanceID(m.Instance))
	}
	ctx := context.Background()
	if m.Protocol == "consumer" {
		ctx = context.WithValue(ctx, "opt_in_kafka_next_gen_balancer_beta", true)
	}
	cl := client(append(options, kgo.WithContext(ctx))...)

	for {
		short, stop := context.WithTimeout(ctx, 100*time.Millisecond)
		fetches := cl.PollFetches(short)
		stop()
		var out strings.Builder
		fetches.EachRecord(func(r *kgo.Record) { m.Record(&out, r.Partition, r.Offset, r.Value) })
		os.Stdout.WriteString(out.String())
		cl.AllowRebalance()
		what, p, offset := m.Command()
		one := map[string][]int32{m.Topic: {p}}
		switch what {
		case "":
			continue
		case "commit":
			w.Must(cl.CommitUncommittedOffsets(ctx))
		case "pause":
			cl.PauseFetchPartitions(one)
		case "resume":
			cl.ResumeFetchPartitions(one)
		case "seek":
			cl.SetOffsets(map[string]map[int32]kgo.EpochOffset{m.Topic: {p: {Epoch: -1, Offset: offset}}})
		case "close":
			cl.Close()
		}
		m.Obeyed(what)
	}
}
