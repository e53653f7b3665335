// Package workload is the common workload (see workload.py), and how a client reports.
package workload

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
)

// Codecs by number, which is also the partition that they go to.
var Codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// Records in each partition of topic "records".
const Records = 120

// BigSizes and BigCodecs describe topic "big".
var (
	BigSizes  = []int{1, 1000000, 5242880, 5242880, 5242880, 5242880, 5242880}
	BigCodecs = []int{0, 0, 0, 1, 2, 3, 4}
	sizes     = []int{1, 2, 10, 100, 1000, 20000, 300000}
)

// Header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Record as it is sent and must be read.
type Record struct {
	Offset     int64
	Key, Value []byte
	Headers    []Header
	Timestamp  int64
}

func contents(i, size int) []byte {
	b := make([]byte, size)
	for j := range b {
		b[j] = byte(7*i + 13*j + j>>8)
	}
	return b
}

// Timestamp of record i in milliseconds.
func Timestamp(i int) int64 { return 1700000000000 + 1000*int64(i) }

func headers(i int) []Header {
	all := []Header{{"h0", fmt.Appendf(nil, "v%d", i)}, {"h0", []byte{}}, {"h2", []byte{0, 255, byte(i)}}}
	return all[:i%4]
}

// One is record i of topic "records".
func One(i int) Record {
	r := Record{Offset: int64(i), Headers: headers(i), Timestamp: Timestamp(i)}
	switch i % 5 {
	case 0:
	case 1:
		r.Key = []byte{}
	default:
		r.Key = fmt.Appendf(nil, "key-%d", i)
	}
	if i%11 != 7 || i%5 == 0 {
		r.Value = contents(i, sizes[i%len(sizes)])
	}
	return r
}

// Big is record i of topic "big".
func Big(i int) Record {
	return Record{int64(i), fmt.Appendf(nil, "big-%d", i), contents(i, BigSizes[i]), headers(i), Timestamp(i)}
}

// Wanted is what a reader of topic "records" finds from an offset on.
func Wanted(first int) (all []Record) {
	for i := first; i < Records; i++ {
		all = append(all, One(i))
	}
	return all
}

// WantedBig is what a reader of topic "big" finds.
func WantedBig() (all []Record) {
	for i := range BigSizes {
		all = append(all, Big(i))
	}
	return all
}

var failed int

// OK reports a test.
func OK(good bool, what string) bool {
	word := "ok"
	if !good {
		failed++
		word = "not ok"
	}
	fmt.Printf("%s - %s\n", word, what)
	return good
}

// Same reports whether two values are equal.
func Same(got, wanted any, what string) {
	if !OK(reflect.DeepEqual(got, wanted), what) {
		fmt.Printf("# got %v\n# not %v\n", got, wanted)
	}
}

func equal(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

func difference(got, wanted Record) string {
	switch {
	case got.Offset != wanted.Offset:
		return fmt.Sprintf("offset %d", got.Offset)
	case !equal(got.Key, wanted.Key):
		return "key"
	case !equal(got.Value, wanted.Value):
		return "value"
	case got.Timestamp != wanted.Timestamp:
		return fmt.Sprintf("timestamp %d", got.Timestamp)
	case len(got.Headers) != len(wanted.Headers):
		return "number of headers"
	}
	for i, h := range got.Headers {
		if h.Key != wanted.Headers[i].Key || !bytes.Equal(h.Value, wanted.Headers[i].Value) {
			return "header"
		}
	}
	return ""
}

// SameRecords compares what was read with what was sent.
func SameRecords(got, wanted []Record, what string) {
	problem := ""
	if len(got) != len(wanted) {
		problem = fmt.Sprintf("%d records, not %d", len(got), len(wanted))
	}
	for i := 0; problem == "" && i < len(got); i++ {
		if d := difference(got[i], wanted[i]); d != "" {
			problem = fmt.Sprintf("offset %d: wrong %s", wanted[i].Offset, d)
		}
	}
	if !OK(problem == "", what) {
		fmt.Println("# " + problem)
	}
}

// Must ends the program on an error.
func Must(err error) {
	if err != nil {
		OK(false, "no error: "+err.Error())
		os.Exit(1)
	}
}

// Exit ends the program.
func Exit() {
	if failed > 0 {
		os.Exit(1)
	}
	os.Exit(0)
}
