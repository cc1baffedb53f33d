package history

// Links: each record names some of the records that its worker had before it, so that the record of any moment is found
// in a few steps. The broker knows the first and the last message of a subject; to find one in between it reads all
// messages that lie there, of all workers.

import (
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/event"
)

// linksHeader carries a record's links, in base 36: its number, the sequence of the record right before it, and, for
// each rank, the distance back from that record to the last one of the rank, and from there to each further one.
const linksHeader = "Bobo-Links"

const (
	// rankBase and rankSize say which records are named: rank i has the records whose number is divisible by
	// rankBase^i, and the last rankSize of each rank are named. Any record is then at most one step for each rank away:
	// three for 512 records.
	rankBase = 8
	rankSize = rankBase - 1
)

// links says where a record stands among those of its worker.
type links struct {
	// number is the record's number, counted from 1; 0 if the record is of a version that made no links.
	number uint64
	// back holds, for each rank, the sequences of its records before this one, the last one first. back[0][0] is the
	// record right before.
	back [][]uint64
}

// tail is the last record of a worker.
type tail struct {
	links
	sequence uint64
}

// next returns the links of the record that follows.
func (t tail) next() links {
	if t.sequence == 0 {
		return links{number: 1}
	}

	number := max(t.number, 1) // a record without links counts as the first
	l := links{number: number + 1}
	for rank, step := 0, uint64(1); step <= number; rank, step = rank+1, step*rankBase {
		var before []uint64
		if rank < len(t.back) {
			before = t.back[rank]
		}

		if number%step == 0 {
			before = append([]uint64{t.sequence}, before[:min(len(before), rankSize-1)]...)
		}

		l.back = append(l.back, before)
	}

	return l
}

// previous returns the sequence of the record right before; 0 if there is none.
func (l links) previous() uint64 {
	if len(l.back) == 0 {
		return 0
	}
	return l.back[0][0]
}

// farthest returns the earliest of the linked records after a sequence, and its number; 0 if there is none after it.
func (l links) farthest(place uint64) (found, number uint64) {
	step := uint64(1)
	for _, rank := range l.back {
		last := (l.number - 1) / step * step
		for n, seq := range rank {
			if seq > place && (found == 0 || seq < found) {
				found, number = seq, last-uint64(n)*step
			}
		}

		step *= rankBase
	}

	return found, number
}

func (l links) String() string {
	out := strconv.AppendUint(nil, l.number, 36)
	if len(l.back) > 0 {
		out = strconv.AppendUint(append(out, ';'), l.previous(), 36)
	}

	for _, rank := range l.back {
		from, separator := l.previous(), byte(';')
		for _, seq := range rank {
			out = strconv.AppendUint(append(out, separator), from-seq, 36)
			from, separator = seq, ','
		}
	}

	return string(out)
}

// parseLinks parses what String wrote, and returns the zero value for anything else.
func parseLinks(text string) links {
	fields := strings.Split(text, ";")
	number, err := strconv.ParseUint(fields[0], 36, 64)
	l := links{number: number}
	if err != nil || len(fields) == 1 {
		return l
	}

	previous, err := strconv.ParseUint(fields[1], 36, 64)
	if err != nil || len(fields) == 2 {
		return links{}
	}

	for _, field := range fields[2:] {
		var rank []uint64
		from := previous
		for distance := range strings.SplitSeq(field, ",") {
			d, err := strconv.ParseUint(distance, 36, 64)
			if err != nil || d >= from { // a sequence is never 0
				return links{}
			}

			from -= d
			rank = append(rank, from)
		}

		l.back = append(l.back, rank)
	}

	return l
}

// record is something that AtHoc was sent, as it is stored in the stream.
type record struct {
	stored
	links
	when time.Time // when the broker stored it
}

func newRecord(m *jetstream.RawStreamMsg) (*record, error) {
	r := &record{stored: stored{sequence: m.Sequence}, links: parseLinks(m.Header.Get(linksHeader)), when: m.Time}
	return r, event.Decode(m.Data, &r.Delivery)
}
