package ingest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"bobosync/services/ingest/internal/failpoint"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/await"
	"bobosync/shared/bus"
	"bobosync/shared/bustest"
	"bobosync/shared/config"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/logging/logtest"
	"bobosync/shared/program"
	"bobosync/shared/telemetry"
	"bobosync/shared/topology"
)

// TestMain runs many tests at once: nearly all of a test's time is spent waiting for the broker or for files to settle.
func TestMain(m *testing.M) {
	flag.Parse()

	if err := flag.Set("test.parallel", strconv.Itoa(max(8, 4*runtime.GOMAXPROCS(0)))); err != nil {
		panic(err)
	}

	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction(bustest.LeftBehind))
}

// deadline is how long a test waits for something that must happen; a busy machine is slow.
const deadline = 4 * time.Minute

// harness runs ingest against a real broker of its own, with a resolver that settles every row at once.
type harness struct {
	t        *testing.T
	srv      *bustest.Server
	conn     *bus.Conn
	cfg      Config
	tune     tuning
	log      *logtest.Log
	resolver *fakeResolver
	ready    atomic.Bool
	seen     *telemetry.Telemetry

	cancel context.CancelFunc
	ended  chan error
}

// newHarness returns a harness, and makes the test run in parallel with others.
func newHarness(t *testing.T) *harness {
	t.Helper()
	t.Parallel()

	root := t.TempDir()
	h := &harness{
		t: t, srv: bustest.Start(t), log: &logtest.Log{},
		cfg: Config{
			CSVDirectory: filepath.Join(root, "in"), ProcessedDirectory: filepath.Join(root, "done"),
			FailedDirectory: filepath.Join(root, "failed"), Move: true,
			PollInterval: 100 * time.Millisecond, SettleTime: 30 * time.Millisecond, LateAfter: 2 * time.Minute, Zone: config.InZone(time.UTC),
			MaxClockSkew: 15 * time.Minute, MaxFileSize: 1 << 30,
			Broker:   config.Broker{Replicas: 1, AuditDays: 400, HistoryDays: 90, EntriesMaxBytes: 64 << 20, MaxAge: time.Hour},
			Calls:    config.Calls{RateLimit: 2, Timeout: 5 * time.Second},
			Lifetime: config.Lifetime{AutoCleanupHours: 24},
			Data:     config.Data{Directory: filepath.Join(root, "data")},
			Log:      config.Log{Level: "INFO", Format: "json"},
		},
		tune: defaultTuning(),
	}
	h.tune.retry, h.tune.maxRetry = 10*time.Millisecond, 100*time.Millisecond
	if err := os.Mkdir(h.cfg.CSVDirectory, 0o755); err != nil {
		t.Fatal(err)
	}

	h.conn = h.srv.Connect(t)
	t.Cleanup(func() {
		_ = h.stop() // it reports itself what is wrong
		if h.resolver != nil {
			h.resolver.stop()
		}

		if t.Failed() {
			t.Logf("log:\n%s", h.log)
		}
	})

	return h
}

// provision creates the streams, for tests that need them before ingest runs.
func (h *harness) provision() {
	h.t.Helper()
	eventually(h.t, "the streams are made", func() bool {
		err := topology.Provision(h.t.Context(), h.conn.JS, topology.From(h.cfg.Broker, h.cfg.Calls), topology.Everyone)
		if err != nil && !errors.Is(err, context.DeadlineExceeded) { // a timeout only means that the machine is busy
			h.t.Fatalf("provision: %v", err)
		}

		return err == nil
	})
}

// start runs ingest until stop is called.
func (h *harness) start() {
	h.t.Helper()

	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	h.cancel, h.ended = cancel, ended
	logger := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelInfo}))

	deps := program.Deps{Conn: h.conn, Log: logger, Telemetry: h.seen}
	cfg, tune := h.cfg, h.tune
	tune.onReady = h.ready.Store
	go func() { ended <- run(ctx, cfg, deps, tune) }()
}

// stop stops ingest and returns its error.
func (h *harness) stop() error {
	if h.cancel == nil {
		return nil
	}

	h.cancel()

	h.cancel = nil
	select {
	case err := <-h.ended:
		if err != nil && !errors.Is(err, failpoint.ErrCrash) {
			h.t.Errorf("ingest ended with %v", err)
		}
		return err
	case <-time.After(deadline):
		h.t.Fatal("ingest does not stop")
		return nil
	}
}

// end stops ingest, which must not have been killed.
func (h *harness) end() {
	h.t.Helper()

	if err := h.stop(); err != nil {
		h.t.Fatal(err)
	}
}

// died waits until ingest has ended by itself.
func (h *harness) died() {
	h.t.Helper()

	select {
	case err := <-h.ended:
		h.cancel()

		h.cancel = nil
		if !errors.Is(err, failpoint.ErrCrash) {
			h.t.Fatalf("ingest ended with %v, wanted a kill", err)
		}
	case <-time.After(deadline):
		h.t.Fatal("ingest was not killed")
	}
}

// resolve starts the resolver.
func (h *harness) resolve() *fakeResolver {
	h.t.Helper()
	h.provision()
	h.resolver = &fakeResolver{t: h.t, conn: h.conn, answer: true, entries: map[string]map[int]event.Entry{}, sequences: map[string]int64{}, feeds: map[string]string{}}
	h.resolver.start()

	return h.resolver
}

func (h *harness) in(name string) string   { return filepath.Join(h.cfg.CSVDirectory, name) }
func (h *harness) done(name string) string { return filepath.Join(h.cfg.ProcessedDirectory, name) }

// put writes a file into the input directory in one step, as a rename does.
func (h *harness) put(name, text string) {
	h.t.Helper()
	write(h.t, h.in(name), text)
}

func write(t *testing.T, path, text string) {
	t.Helper()

	temp := path + ".tmp"
	if err := os.WriteFile(temp, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}

	if err := os.Rename(temp, path); err != nil {
		t.Fatal(err)
	}
}

// rows returns n rows, each for another employee.
func rows(prefix string, n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(row(fmt.Sprintf("%s%d", prefix, i)))
	}

	return b.String()
}

func row(employee string) string {
	at := time.Now().UTC().Add(-time.Hour)
	return fmt.Sprintf("BON,%s,P,%s,%s,%s,1,2,3,4\n", employee, at.Format("20060102"), at.Format("150405"), at.Format("20060102150405"))
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	await.True(t, holds, deadline, what)
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func names(t *testing.T, dir string) []string {
	t.Helper()

	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}

	var list []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), probe) {
			continue // ingest's test whether it can write here
		}

		list = append(list, e.Name())
	}

	return list
}

// book opens the ledger of an ingest that was stopped.
func (h *harness) book(look func(*ledger.Ledger)) {
	h.t.Helper()

	l, err := OpenLedger(h.cfg, bustest.Logger())
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			h.t.Error(err)
		}
	}()

	look(l)
}

// files waits until no finished file is waiting to be moved any more, and stops ingest. It returns the records by
// name, after checking the promise for each file that is done.
func (h *harness) files() map[string]*ledger.File {
	h.t.Helper()
	h.arrived()
	h.end()

	byName := map[string]*ledger.File{}
	h.book(func(l *ledger.Ledger) {
		files, err := l.Files()
		if err != nil {
			h.t.Fatal(err)
		}

		for _, f := range files {
			byName[f.Name] = f
			if (f.Status == ledger.Done || f.Status == ledger.Moved) && f.Rows != f.Rejected+f.Codes.Settled() {
				h.t.Errorf("%s: %d rows, %d rejected, %d settled", f.Name, f.Rows, f.Rejected, f.Codes.Settled())
			}
		}
	})

	return byName
}

// arrived waits until the ledger records all finished files as moved: the move of a file that already lies where it
// belongs may not be recorded yet.
func (h *harness) arrived() {
	h.t.Helper()

	if h.cancel == nil || !h.cfg.Move {
		return
	}

	eventually(h.t, "all finished files are moved", func() bool {
		open, err := control.Ask[control.FilesAnswer](h.t.Context(), h.conn.NC, topology.Ingest, control.Files, control.FilesRequest{Open: true})
		return err == nil && !slices.ContainsFunc(open.Files, func(f control.FileState) bool { return f.Status == string(ledger.Done) })
	})
}

// fakeResolver reads entries as the resolver does, and settles them.
type fakeResolver struct {
	t      *testing.T
	conn   *bus.Conn
	cancel context.CancelFunc
	ended  sync.WaitGroup

	mu        sync.Mutex
	answer    bool
	entries   map[string]map[int]event.Entry // by file and row
	sequences map[string]int64
	feeds     map[string]string // by file
	sequence  []string          // "settled <file>", "open <file>", "recovered <epoch>", in the order of arrival
	messages  int
	discarded int
}

func (r *fakeResolver) start() {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.ended.Go(func() { r.run(ctx) })
}

func (r *fakeResolver) stop() {
	r.cancel()
	r.ended.Wait()
}

// run consumes entries until ctx ends, through losses of the broker and its store.
func (r *fakeResolver) run(ctx context.Context) {
	for ctx.Err() == nil {
		cons, err := r.conn.JS.Consumer(ctx, topology.StreamEntries, topology.ConsumerResolverEntries)
		if err != nil {
			rest(ctx)
			continue
		}

		batch, err := cons.Fetch(500, jetstream.FetchMaxWait(50*time.Millisecond))
		if err != nil {
			rest(ctx)
			continue
		}

		var got []jetstream.Msg
		for m := range batch.Messages() {
			got = append(got, m)
		}

		r.handle(ctx, got)
	}
}

func rest(ctx context.Context) {
	timer := time.NewTimer(20 * time.Millisecond)
	defer timer.Stop()

	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (r *fakeResolver) handle(ctx context.Context, got []jetstream.Msg) {
	var acks event.Acks
	for _, m := range got {
		if m.Subject() == topology.SubjectRecovered {
			var e event.Recovered
			if err := event.Decode(m.Data(), &e); err != nil {
				r.t.Errorf("recovered: %v", err)
			}

			r.mu.Lock()
			r.sequence = append(r.sequence, "recovered "+e.Epoch)
			r.mu.Unlock()

			continue
		}

		var e event.Entries
		if err := event.Decode(m.Data(), &e); err != nil {
			r.t.Errorf("entries: %v", err)
			continue
		}

		if m.Subject() != topology.EntriesSubject(e.File) || m.Headers().Get(topology.HeaderFile) != e.File || len(e.Entries) > 500 {
			r.t.Errorf("message on %s with header %q and %d entries", m.Subject(), m.Headers().Get(topology.HeaderFile), len(e.Entries))
		}

		r.learn(&e, &acks)
	}

	if len(acks.Rows)+len(acks.Answers) > 0 {
		r.publish(ctx, &acks)
	}

	for _, m := range got {
		_ = m.Ack() // if the broker loses it, the message is delivered again
	}
}

func (r *fakeResolver) publish(ctx context.Context, acks *event.Acks) {
	acks.From = "test"

	data := event.Encode(acks)
	for ctx.Err() == nil {
		if _, err := r.conn.JS.Publish(ctx, topology.SubjectAcks, data); err == nil {
			return
		}

		rest(ctx)
	}
}

func (r *fakeResolver) learn(e *event.Entries, acks *event.Acks) {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.messages++

	r.feeds[e.File] = e.Feed
	kind := "open "
	if e.Settled {
		kind = "settled "
	}

	if n := len(r.sequence); n == 0 || r.sequence[n-1] != kind+e.File {
		r.sequence = append(r.sequence, kind+e.File)
	}

	if r.entries[e.File] == nil {
		r.entries[e.File] = map[int]event.Entry{}
	}

	if before, known := r.sequences[e.File]; known && before != e.Sequence {
		r.t.Errorf("file %s has order %d, had %d", ledger.Short(e.File), e.Sequence, before)
	}

	r.sequences[e.File] = e.Sequence
	var applied event.RowSet
	for _, entry := range e.Entries {
		if before, known := r.entries[e.File][entry.Row]; known && before != entry {
			r.t.Errorf("row %d came out as %+v, was %+v", entry.Row, entry, before)
		}

		r.entries[e.File][entry.Row] = entry
		if strings.HasPrefix(entry.Employee, "dead") {
			acks.Answers = append(acks.Answers, event.Answer{
				File: e.File, Version: entry.Version(e.Sequence), Outcome: event.Dead, Detail: "refused",
			})
			continue
		}

		applied.Add(entry.Row)
	}

	switch {
	case e.Settled:
	case !r.answer:
		r.discarded++
		acks.Answers = nil
	case applied.Len() > 0:
		acks.Rows = append(acks.Rows, event.FileRows{File: e.File, Outcome: event.Applied, Rows: applied})
	}
}

// entriesOf returns the entries that were received of a file, by row; nil if there are none.
func (r *fakeResolver) entriesOf(id string) map[int]event.Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.entries[id])
}

// fileCount returns of how many files entries were received.
func (r *fakeResolver) fileCount() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.entries)
}

func (r *fakeResolver) messageCount() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.messages
}

// mute makes the resolver read everything and lose it, or answer again.
func (r *fakeResolver) mute(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.answer = !on
}

func (r *fakeResolver) history() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.sequence)
}

func (r *fakeResolver) lost() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.discarded
}

// forget makes the resolver forget a file, as if it had never seen it.
func (r *fakeResolver) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()

	delete(r.entries, id)
	delete(r.sequences, id)
}

// setEpoch announces the epoch of the resolver's state store.
func (r *fakeResolver) setEpoch(t *testing.T, epoch string) {
	t.Helper()

	kv, err := r.conn.JS.KeyValue(t.Context(), topology.BucketState)
	if err != nil {
		t.Fatal(err)
	}

	if _, err := kv.Put(t.Context(), topology.KeyResolverEpoch, event.Encode(&event.StoreEpoch{Epoch: epoch, Since: time.Now()})); err != nil {
		t.Fatal(err)
	}
}

// feedOf returns the feed that the entries of a file name.
func (r *fakeResolver) feedOf(id string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.feeds[id]
}
