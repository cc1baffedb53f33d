package notice

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/services/janitor/internal/state/statetest"
	"bobosync/shared/await"
	"bobosync/shared/control"
	"bobosync/shared/verdict"
)

// box is a sink that can be down or hang.
type box struct {
	name string
	mu   sync.Mutex
	err  error
	hang bool
	got  []Notice
}

func (b *box) Name() string { return b.name }

func (b *box) Send(ctx context.Context, m Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()

	if b.hang {
		b.mu.Unlock()
		<-ctx.Done()
		b.mu.Lock()
		return errors.New("it does not answer in time")
	}

	if b.err == nil {
		b.got = append(b.got, m.Notice)
	}

	return b.err
}

func (b *box) set(err error, hang bool) {
	b.mu.Lock()
	defer b.mu.Unlock()

	b.err, b.hang = err, hang
}

func (b *box) kinds() (all []Kind) {
	b.mu.Lock()
	defer b.mu.Unlock()

	for _, n := range b.got {
		all = append(all, n.Kind)
	}

	return all
}

// whole is an installation whose publisher is alive or dead.
type whole struct {
	mu   sync.Mutex
	dead bool
	ills []control.JournalEntry
}

func (w *whole) record(e control.JournalEntry) error {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.ills = append(w.ills, e)

	return nil
}

// TestTheJournalKnowsWhenItWasNotWell checks that bad periods are recorded even if nobody is notified, and across a
// change of the leader.
func TestTheJournalKnowsWhenItWasNotWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, kept := &whole{}, &statetest.Fake{}
		_, stop := start(t, w, kept)

		time.Sleep(90 * time.Second)
		w.set(true)
		time.Sleep(5 * time.Minute)
		stop()
		_, stop = start(t, w, kept)

		time.Sleep(5 * time.Minute)
		w.set(false)
		time.Sleep(5 * time.Minute)
		stop()
		require.Len(t, w.ills, 1)
		require.Equal(t, "problem", w.ills[0].Outcome)
		require.NotEmpty(t, w.ills[0].Text)
		require.InDelta(t, 10*time.Minute, w.ills[0].Ended.Sub(w.ills[0].Started), float64(time.Minute))
	})
}

func (w *whole) set(dead bool) {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.dead = dead
}

func (w *whole) look(context.Context) verdict.Facts {
	w.mu.Lock()
	defer w.mu.Unlock()

	one := control.Instance{Name: "a/1", Version: "v1", Started: time.Now()}

	f := verdict.Facts{
		At: time.Now(), Ingest: []control.IngestState{{Instance: one, FreeBytes: 9 << 30, LastFile: time.Now()}},
		Resolver:  []control.ResolverState{{Instance: one, Recovered: true, Snapshot: "s"}},
		Publisher: []control.PublisherState{{Instance: one}}, Janitor: []control.JanitorState{{Instance: one, Leads: true}},
	}
	if w.dead {
		f.Publisher = nil
	}

	return f
}

// start runs a notifier until the returned function is called.
func start(t *testing.T, w *whole, kept *statetest.Fake, sinks ...Sink) (n *Notifier, stop func()) {
	t.Helper()

	n = &Notifier{
		Sinks: sinks, Collect: w.look, Lines: func(context.Context, string) ([]int, error) { return nil, nil }, Entry: kept, Record: w.record,
		CheckLeader: func() error { return nil }, Zone: time.UTC, DigestHour: -1, Every: 15 * time.Second, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()

	return n, func() {
		cancel()
		require.NoError(t, <-done)
	}
}

// TestASinkThatIsDown checks that the notices of a sink that is down are kept and sent in their order, while the other
// sinks get theirs at once, even if one of the sinks hangs.
func TestASinkThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, well, down, hanging := &whole{}, &box{name: "mail"}, &box{name: "webhook"}, &box{name: "teams"}
		down.set(errors.New("it cannot be reached"), false)
		hanging.set(nil, true)
		n, stop := start(t, w, &statetest.Fake{}, well, down, hanging)

		time.Sleep(time.Minute)
		w.set(true)
		time.Sleep(2 * time.Minute)
		w.set(false)
		time.Sleep(2 * time.Hour)
		require.Equal(t, []Kind{Worse, AllClear}, well.kinds())

		states := n.States()
		require.Equal(t, control.NotifyState{Sink: "mail"}, states[0])
		require.Equal(t, 2, states[1].Waiting)
		require.Equal(t, "it cannot be reached", states[1].Error)
		require.False(t, states[2].Failing.IsZero())

		down.set(nil, false)
		hanging.set(nil, false)
		time.Sleep(11 * time.Minute)

		for _, sink := range []*box{down, hanging} {
			require.Equal(t, []Kind{Worse, AllClear}, sink.kinds(), sink.name)
		}

		require.Equal(t, control.NotifyState{Sink: "webhook"}, n.States()[1])

		down.set(errors.New("it cannot be reached"), false)
		w.set(true)
		time.Sleep(25 * time.Hour)
		require.Zero(t, n.States()[1].Waiting, "after a day it is news no more")
		down.set(nil, false)
		time.Sleep(time.Hour)
		require.Len(t, down.kinds(), 2)
		stop()
	})
}

// TestATakeOverRepeatsNothing checks that a new leader sends only what still waited.
func TestATakeOverRepeatsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, kept, sink, slow := &whole{}, &statetest.Fake{}, &box{name: "mail"}, &box{name: "teams"}
		slow.set(errors.New("down"), false)
		_, stop := start(t, w, kept, sink, slow)

		time.Sleep(time.Minute)
		w.set(true)
		time.Sleep(5 * time.Minute)
		stop()
		slow.set(nil, false)

		for range 3 {
			_, stop = start(t, w, kept, sink, slow)

			time.Sleep(5 * time.Minute)
			stop()
		}

		require.Equal(t, []Kind{Worse}, sink.kinds())
		require.Equal(t, []Kind{Worse}, slow.kinds())
	})
}

// TestNothingIsSentThatCouldNotBeKept checks that a notice is sent only after it was persisted; otherwise a new leader
// would send it again.
func TestNothingIsSentThatCouldNotBeKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, kept, sink := &whole{dead: true}, &statetest.Fake{}, &box{name: "mail"}
		n, stop := start(t, w, kept, sink)

		time.Sleep(time.Minute)
		stop()
		time.Sleep(time.Minute)

		kept.Err = errors.New("the broker is away")

		require.Error(t, n.decide(t.Context(), Message{Verdict: verdict.Verdict{Level: verdict.Problem}}))
		require.Zero(t, n.States()[0].Waiting)
		require.Empty(t, sink.kinds())
	})
}

// TestTheHeartbeat checks that the heartbeat is called each minute, with /fail while the verdict is PROBLEM, and that
// it stops with the janitor and goes on with the next one. An address that hangs must not delay notices.
func TestTheHeartbeat(t *testing.T) {
	t.Parallel()

	paths := make(chan string, 100)
	release := make(chan struct{})
	var hang sync.Once

	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		hang.Do(func() { <-release })

		paths <- r.URL.String()
	}))
	defer srv.Close()

	w, sink, began := &whole{}, &box{name: "mail"}, time.Now()
	n := &Notifier{
		Record: w.record, Sinks: []Sink{sink}, Heartbeat: srv.URL + "/ping/1?rid=2", Web: web(t), Collect: w.look, Lines: func(context.Context, string) ([]int, error) { return nil, nil },
		CheckLeader: func() error { return nil }, Zone: time.UTC, DigestHour: -1, Every: 10 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return began.Add(100 * time.Since(began)) }, // a minute takes 0.6 s
	}
	run := func() (stop func()) {
		n.Entry = &statetest.Fake{}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- n.Run(ctx) }()

		return func() {
			cancel()
			require.NoError(t, <-done)
		}
	}
	beats := func(want string) {
		t.Helper()

		deadline := time.After(timeout)
		for {
			select {
			case got := <-paths:
				if got == want {
					return
				}
			case <-deadline:
				t.Fatalf("no heartbeat at %s", want)
			}
		}
	}
	stop := run()

	w.set(true)
	await.True(t, func() bool { return len(sink.kinds()) > 0 }, timeout, "the heartbeat hangs, the notice does not")
	close(release)
	beats("/ping/1/fail?rid=2")
	w.set(false)
	beats("/ping/1?rid=2")
	stop()

	for len(paths) > 0 {
		<-paths
	}

	require.Empty(t, paths, "it stops")

	defer run()()

	beats("/ping/1?rid=2")
}

func TestWhereTheHeartbeatGoes(t *testing.T) {
	t.Parallel()

	for address, fails := range map[string]string{
		"https://hc.example/ping/1": "https://hc.example/ping/1/fail", "https://hc.example/ping/1/": "https://hc.example/ping/1/fail",
		"https://hc.example/p?a=b": "https://hc.example/p/fail?a=b",
	} {
		require.Equal(t, address, heartbeatAddress(address, verdict.Warning))
		require.Equal(t, fails, heartbeatAddress(address, verdict.Problem))
	}
}

// levels is a sink that records the verdicts in its messages.
type levels struct {
	mu  sync.Mutex
	got []verdict.Level
}

func (*levels) Name() string { return "webhook" }

func (l *levels) Send(_ context.Context, m Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.got = append(l.got, m.Verdict.Level)

	return nil
}

// TestNoVerdictBeforeTheFirstLook checks that notices that a former leader left, and a login right after the start,
// are sent with the actual status. Formerly, a webhook got "ok" with both, whatever was wrong, because the status had
// not been checked yet.
func TestNoVerdictBeforeTheFirstLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, kept, down := &whole{dead: true}, &statetest.Fake{}, &box{name: "webhook"}
		down.set(errors.New("it cannot be reached"), false)
		_, stop := start(t, w, kept, down)

		time.Sleep(5 * time.Minute)
		stop()

		sink := &levels{}

		n, stop := start(t, w, kept, sink)
		defer stop()

		synctest.Wait()

		_, err := n.Login(t.Context(), control.EmergencyLoginRequest{By: "ann", Role: "operator", At: time.Now()})
		require.NoError(t, err)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, []verdict.Level{verdict.Problem, verdict.Problem}, sink.got)
	})
}
