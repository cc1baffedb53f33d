//go:build unix

package history

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/bus"
	"bobosync/shared/bustest"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

var records = flag.Int("history-records", 100_000, "how many `records` BenchmarkHistory keeps: 7200000 are those of 20,000 workers in 90 days")

// BenchmarkHistory asks a history of that size about one worker, and about all, at random moments. What takes 90 days takes minutes here,
// and what is late is as much less late.
func BenchmarkHistory(b *testing.B) {
	const timeout = 10 * time.Millisecond
	server := bustest.Start(b)
	conn := server.Connect(b)
	require.NoError(b, topology.Provision(b.Context(), conn.JS, topology.Settings{
		Replicas: 1, EntriesMaxBytes: 1 << 20, HistoryMaxBytes: 5 << 30, CallTimeout: timeout,
	}, topology.Everyone))
	k, err := New(conn, timeout, bustest.Logger(), time.Now)
	require.NoError(b, err)
	defer k.Close()
	k.lateness = 100 * time.Millisecond
	require.NoError(b, k.Begin(b.Context()))

	empty := heap()
	began := time.Now()
	f := newFiller(b, conn)
	f.fill(*records)
	ended := time.Now()
	b.Logf("%d records in %s, %d bytes of store for each, %d MiB of memory, broker and test", *records, ended.Sub(began).Round(time.Second),
		size(b, server.Dir())/int64(*records), (heap()-empty)>>20)
	moment := func() time.Time { return began.Add(time.Duration(f.rng.Int64N(int64(ended.Sub(began))))) }
	b.Run("worker", func(b *testing.B) {
		measure(b, func() {
			n := f.rng.IntN(benchWorkers)
			_, err := k.Past(b.Context(), fmt.Sprint(n), fmt.Sprintf("User%d", n), control.PastRequest{At: moment(), Most: 3})
			require.NoError(b, err)
		})
	})
	b.Run("onduty", func(b *testing.B) {
		measure(b, func() {
			req := control.OnDutyRequest{At: moment()}
			for more := true; more; {
				a, err := k.OnDuty(b.Context(), req)
				require.NoError(b, err)
				if more = a.More; more {
					req.After = a.Workers[len(a.Workers)-1].User
				}
				b.ReportMetric(float64(a.Total), "on-duty")
			}
		})
	})
	b.Logf("%d MiB of memory after that", (heap()-empty)>>20)
}

// measure reports how long asking takes, and how much of the processor's time, with the broker's: on a busy machine that says more.
func measure(b *testing.B, ask func()) {
	var took, cpu []time.Duration
	for b.Loop() {
		began, used := time.Now(), processor()
		ask()
		took, cpu = append(took, time.Since(began)), append(cpu, processor()-used)
	}
	for unit, all := range map[string][]time.Duration{"ms": took, "cpu-ms": cpu} {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Milliseconds()), unit+"-median")
		b.ReportMetric(float64(all[len(all)-1].Milliseconds()), unit+"-worst")
	}
}

func processor() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

const (
	benchWorkers = 20_000
	benchShifts  = 4 // changes of a worker's a day
)

// filler fills a history with what a keeper would have written, marks too, many messages in flight. It alone writes to the stream.
type filler struct {
	b     *testing.B
	rng   *rand.Rand
	js    jetstream.JetStream
	last  uint64
	tails []tail
	open  map[int]uint64
}

func newFiller(b *testing.B, conn *bus.Conn) *filler {
	js, err := jetstream.New(conn.NC, jetstream.WithPublishAsyncMaxPending(2000))
	require.NoError(b, err)
	stream, err := js.Stream(b.Context(), topology.StreamHistory)
	require.NoError(b, err)
	return &filler{
		b: b, rng: rand.New(rand.NewPCG(1, 2)), js: js, last: stream.CachedInfo().State.LastSeq, tails: make([]tail, benchWorkers), open: map[int]uint64{},
	}
}

// fill lets days pass in which each worker comes, unless he is away for a long time, and goes, twice.
func (f *filler) fill(records int) {
	for day, n := 0, 0; n < records; day++ {
		for shift := range benchShifts {
			for _, w := range f.rng.Perm(benchWorkers) {
				if away := (day + w) % 90; w%10 == 0 && away > 1 || w%3 == 0 && away < 30 {
					continue
				}
				if f.record(w, shift%2 == 0, n); n%markAfter == 0 {
					f.mark()
				}
				if n++; n == records {
					break
				}
			}
		}
	}
	<-f.js.PublishAsyncComplete()
	stream, err := f.js.Stream(f.b.Context(), topology.StreamHistory)
	require.NoError(f.b, err)
	require.Equal(f.b, f.last, stream.CachedInfo().State.LastSeq, "each message lies where it is thought to be")
}

func (f *filler) record(w int, on bool, n int) {
	a := answers(fmt.Sprintf("0193d0e2-0000-7000-8000-%012d", n/500), w, 1, on, time.Now())
	a.Calls[0].Users, a.Calls[0].Publisher, a.Calls[0].Answered = 500, "publisher-1-7f6d9c-17", a.Calls[0].Sent
	told := toldBy(&a, 0)[0]
	told.File = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	next := f.tails[w].next()
	f.publish(&nats.Msg{Subject: topology.HistorySubject(told.Employee, told.User), Data: event.Encode(&told), Header: nats.Header{
		bus.MsgIDKey: {fmt.Sprintf("%d-%x-%d", n/500, time.Now().UnixNano(), n%500)}, linksHeader: {next.String()},
	}})
	f.tails[w] = tail{links: next, sequence: f.last}
	delete(f.open, w)
	if on {
		f.open[w] = f.last
	}
}

func (f *filler) mark() {
	mark := event.Mark{At: time.Now().UnixMilli(), Through: f.last, Open: slices.Sorted(maps.Values(f.open))}
	for _, m := range parts(mark) {
		f.publish(&nats.Msg{Subject: topology.SubjectHistoryMark, Data: m.Payload})
	}
}

func (f *filler) publish(m *nats.Msg) {
	for {
		_, err := f.js.PublishMsgAsync(m)
		if errors.Is(err, jetstream.ErrTooManyStalledMsgs) {
			continue
		}
		require.NoError(f.b, err)
		f.last++
		return
	}
}

// size is that of all files below a directory.
func size(tb testing.TB, dir string) (sum int64) {
	tb.Helper()
	require.NoError(tb, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		sum += info.Size()
		return err
	}))
	return sum
}
