package workload

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Member is what members of groups share; see ../../member.py for what they read and write.
type Member struct {
	Topic, Group, Protocol, Instance string
	Session                          time.Duration
	commands                         chan []string
	lock                             sync.Mutex
	owned                            map[int32]bool
}

// NewMember takes the program's arguments.
func NewMember(args []string) *Member {
	ms, err := strconv.Atoi(args[3])
	Must(err)
	m := &Member{Topic: args[0], Group: args[1], Protocol: args[2], Session: time.Duration(ms) * time.Millisecond,
		commands: make(chan []string, 100), owned: map[int32]bool{}}
	if len(args) > 4 {
		m.Instance = args[4]
	}
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			m.commands <- strings.Fields(lines.Text())
		}
		m.commands <- []string{"close"}
	}()
	return m
}

func say(what string, partitions []int32) {
	slices.Sort(partitions)
	text := strings.ReplaceAll(strings.Trim(fmt.Sprint(partitions), "[]"), " ", ",")
	if text == "" {
		text = "-"
	}
	fmt.Println(what, text)
}

// Assigned tells of more partitions.
func (m *Member) Assigned(more []int32) {
	m.lock.Lock()
	defer m.lock.Unlock()
	for _, p := range more {
		m.owned[p] = true
	}
	var all []int32
	for p := range m.owned {
		all = append(all, p)
	}
	say("assigned", all)
}

// Revoked tells of partitions that were taken away.
func (m *Member) Revoked(gone []int32) {
	m.lock.Lock()
	defer m.lock.Unlock()
	for _, p := range gone {
		delete(m.owned, p)
	}
	if len(gone) > 0 {
		say("revoked", slices.Clone(gone))
	}
}

// Record writes the line for a record.
func (m *Member) Record(out *strings.Builder, partition int32, offset int64, value []byte) {
	fmt.Fprintf(out, "record %d %d %s\n", partition, offset, value)
}

// Command is the next one, or "".
func (m *Member) Command() (what string, partition int32, offset int64) {
	select {
	case words := <-m.commands:
		var numbers [2]int64
		for i, word := range words[1:] {
			var err error
			numbers[i], err = strconv.ParseInt(word, 10, 64)
			Must(err)
		}
		return words[0], int32(numbers[0]), numbers[1]
	default:
		return "", 0, 0
	}
}

// Obeyed says so, and ends the program after "close".
func (m *Member) Obeyed(what string) {
	fmt.Println("ok")
	if what == "close" {
		os.Exit(0)
	}
}
