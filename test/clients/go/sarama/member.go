package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"

	w "kafka_pg/clients/workload"
)

type handler struct {
	*w.Member
	lock    sync.Mutex
	session sarama.ConsumerGroupSession
}

func (h *handler) Setup(session sarama.ConsumerGroupSession) error {
	h.lock.Lock()
	h.session = session
	h.lock.Unlock()
	h.Assigned(session.Claims()[h.Topic])
	return nil
}

func (h *handler) Cleanup(session sarama.ConsumerGroupSession) error {
	session.Commit()
	h.Revoked(session.Claims()[h.Topic])
	return nil
}

func (h *handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for m := range claim.Messages() {
		session.MarkMessage(m, "")
		fmt.Printf("record %d %d %s\n", m.Partition, m.Offset, m.Value)
	}
	return nil
}

// member is a member of a group; see ../../member.py.
func member(args []string) {
	h := &handler{Member: w.NewMember(args)}
	c := config()
	c.Consumer.Group.Session.Timeout = h.Session
	c.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	c.Consumer.Group.InstanceId = h.Instance
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	group, err := sarama.NewConsumerGroup(servers, h.Group, c)
	w.Must(err)
	ctx, stop := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Add(1)
	go func() {
		defer ended.Done()
		for ctx.Err() == nil {
			if err := group.Consume(ctx, []string{h.Topic}, h); err != nil && ctx.Err() == nil {
				w.Must(err)
			}
		}
	}()

	for {
		time.Sleep(20 * time.Millisecond)
		what, p, _ := h.Command()
		one := map[string][]int32{h.Topic: {p}}
		switch what {
		case "":
			continue
		case "commit":
			h.lock.Lock()
			h.session.Commit()
			h.lock.Unlock()
		case "pause":
			group.Pause(one)
			time.Sleep(time.Second) // a Fetch that is on its way brings what it brings
		case "resume":
			group.Resume(one)
		case "close":
			stop()
			ended.Wait()
			w.Must(group.Close())
		}
		h.Obeyed(what)
	}
}
