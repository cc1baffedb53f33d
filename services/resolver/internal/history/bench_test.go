//go:build unix

package history

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/broker"
	"bobosync/shared/bus"
	"bobosync/shared/bustest"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

var (
	records = flag.Int("history-records", 100_000, "how many `records` BenchmarkHistory keeps: 7200000 are those of 20,000 workers in 90 days")
	kept    = flag.String("history-store", "", "keep them in this `directory`, or ask what an earlier run kept there")
)

// BenchmarkHistory asks a history of the given size about one worker, and about all workers, at random moments. What
// takes 90 days takes minutes here, and lateness is shortened in proportion.
func BenchmarkHistory(b *testing.B) {
	const timeout = 10 * time.Millisecond
	server := bustest.Start(b, func(o *broker.Options) { o.StoreDir = cmp.Or(*kept, o.StoreDir) })
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
	began, ended := stocked(b, k, conn)
	b.Logf("%d records of %s, %d bytes of store for each, %d MiB of memory, broker and test", *records, ended.Sub(began).Round(time.Second),
		size(b, server.Dir())/int64(*records), (heap()-empty)>>20)
	learn(b, k)

	rng := rand.New(rand.NewPCG(3, 4))
	moment := func() time.Time { return began.Add(time.Duration(rng.Int64N(int64(ended.Sub(began))))) }
	b.Run("worker", func(b *testing.B) {
		measure(b, func() {
			n := rng.IntN(benchWorkers)
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

// stocked makes sure that the history has its records, and returns when the first and the last of them were stored.
func stocked(b *testing.B, k *Keeper, conn *bus.Conn) (began, ended time.Time) {
	stream, err := conn.JS.Stream(b.Context(), topology.StreamHistory)
	require.NoError(b, err)

	if held := int(stream.CachedInfo().State.Msgs); held < *records {
		require.LessOrEqual(b, held, 2, "what was kept is of another size, or was not finished: delete it")
		newFiller(b, k, conn).fill(*records)
	} else {
		require.Less(b, held, *records+*records/100+10, "what was kept is of another size: delete it")
	}

	info, err := stream.Info(b.Context())
	require.NoError(b, err)

	return info.State.FirstTime, info.State.LastTime
}

// learn fills a keeper's cache with the last records of all workers, as it is after some days of work.
func learn(b *testing.B, k *Keeper) {
	subjects := make([]string, benchWorkers)
	for n := range subjects {
		subjects[n] = topology.HistorySubject(fmt.Sprint(n), "")
	}

	require.NoError(b, k.writer.learn(b.Context(), subjects))
}

// measure reports how long asking takes, how much processor time it takes, including the broker's (on a busy machine
// that says more), and how much the broker reads from its files for it.
func measure(b *testing.B, ask func()) {
	units := []string{"ms", "cpu-ms", "MiB"}

	all := make([][]float64, len(units))
	for b.Loop() {
		began, used, read := time.Now(), processor(), fileBytes()

		ask()

		took, cpu := time.Since(began), processor()-used
		for i, v := range []float64{took.Seconds() * 1000, cpu.Seconds() * 1000, float64(fileBytes()-read) / (1 << 20)} {
			all[i] = append(all[i], v)
		}
	}

	for i, unit := range units {
		slices.Sort(all[i])
		b.ReportMetric(all[i][len(all[i])/2], unit+"-median")
		b.ReportMetric(all[i][len(all[i])-1], unit+"-worst")
	}
}

// fileBytes returns how many bytes this process has read from files so far, from memory or from disk; 0 if the system
// does not report it. What goes over sockets counts, too.
func fileBytes() (n int64) {
	text, err := os.ReadFile("/proc/self/io")
	if err == nil {
		_, _ = fmt.Sscanf(string(text), "rchar: %d", &n)
	}

	return n
}

func processor() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

const (
	benchWorkers = 20_000
	benchShifts  = 4 // changes of each worker's status a day
)

// filler fills a history with what a keeper would have written, including marks, with many messages in flight. Nothing
// else writes to the stream.
type filler struct {
	b     *testing.B
	rng   *rand.Rand
	js    jetstream.JetStream
	info  event.HistoryInfo
	last  uint64
	tails []tail
	open  map[int]uint64
}

func newFiller(b *testing.B, k *Keeper, conn *bus.Conn) *filler {
	info, known, err := k.reader.loadInfo(b.Context())
	require.NoError(b, err)
	require.True(b, known)

	js, err := jetstream.New(conn.NC, jetstream.WithPublishAsyncMaxPending(2000))
	require.NoError(b, err)
	stream, err := js.Stream(b.Context(), topology.StreamHistory)
	require.NoError(b, err)

	return &filler{
		b: b, rng: rand.New(rand.NewPCG(1, 2)), js: js, info: info, last: stream.CachedInfo().State.LastSeq,
		tails: make([]tail, benchWorkers), open: map[int]uint64{},
	}
}

// fill lets days pass, on each of which each worker books on and off twice, except for those who are away for a long
// time.
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
	deliveries := deliveriesIn(&a, 0)[0]
	deliveries.File = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	next := f.tails[w].next()
	f.publish(&nats.Msg{Subject: topology.HistorySubject(deliveries.Employee, deliveries.User), Data: event.Encode(&deliveries), Header: nats.Header{
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

	f.publish(&nats.Msg{Subject: topology.SubjectHistoryInfo, Data: event.Encode(&f.info)})
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

// size returns the size of all files below a directory.
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
