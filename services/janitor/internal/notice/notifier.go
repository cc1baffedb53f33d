package notice

// The notifier: it checks the status by the clock, persists the decisions, and runs one goroutine for each sink, so
// that a sink that hangs delays nothing else.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"bobosync/services/janitor/internal/state"
	"bobosync/shared/control"
	"bobosync/shared/pause"
	"bobosync/shared/verdict"
)

// Key is the key of the state in the state bucket.
const Key = "janitor.notices"

const (
	// heartbeatEvery is the time between two calls of the heartbeat's address, heartbeatTimeout how long a call may
	// take.
	heartbeatEvery, heartbeatTimeout = time.Minute, 10 * time.Second
	// SendTimeout is how long a sink may take to send a notice.
	SendTimeout = 20 * time.Second
	// retryFirst and maxRetryPause are the shortest and the longest pause after a failure.
	retryFirst, maxRetryPause = 30 * time.Second, 10 * time.Minute
	// recordEvery is the shortest time between two checks when there is no sink and no heartbeat, so that they only
	// serve the journal.
	recordEvery = time.Minute
)

// Notifier notifies people of the status while this instance leads.
type Notifier struct {
	Sinks []Sink
	// Heartbeat is the address that is called each minute while the verdict is no PROBLEM, and with /fail appended
	// while it is one; empty for none.
	Heartbeat string
	// Web makes the heartbeat's calls.
	Web *http.Client
	// Collect gathers the facts. Lines returns the lines of a file that somebody may have to take care of.
	Collect func(ctx context.Context) verdict.Facts
	Lines   func(ctx context.Context, file string) ([]int, error)
	// Record records a bad period in the journal.
	Record func(control.JournalEntry) error
	Entry  state.Entry
	// CheckLeader returns an error if another instance may lead by now.
	CheckLeader func() error
	Zone        *time.Location
	DigestHour  int
	// Every is the time between two checks of the status.
	Every time.Duration
	Now   func() time.Time
	Log   *slog.Logger

	mu       sync.Mutex
	state    State
	revision uint64
	kept     []byte
	// seen is the verdict and the facts of the last check, and looked reports whether there was one: until then,
	// seen's verdict is the zero value, OK.
	seen   Message
	looked bool
	health map[string]control.NotifyState
	wake   map[string]chan struct{}
}

// Run works until ctx ends or another instance leads. Without sinks it only records bad periods in the journal and
// calls the heartbeat, if one is set.
func (n *Notifier) Run(ctx context.Context) error {
	if err := n.load(ctx); err != nil {
		return err
	}

	group, ctx := errgroup.WithContext(ctx)
	for _, sink := range n.Sinks {
		group.Go(func() error { return n.serve(ctx, sink) })
	}

	beats := make(chan verdict.Level, 1)
	if n.Heartbeat != "" {
		group.Go(func() error { return n.beat(ctx, beats) })
	}

	group.Go(func() error { return n.watch(ctx, beats) })

	return group.Wait()
}

// load reads the state of previous leaders.
func (n *Notifier) load(ctx context.Context) error {
	value, revision, err := n.Entry.Load(ctx)
	if err != nil {
		return err
	}

	n.mu.Lock()
	defer n.mu.Unlock()

	if n.revision = revision; revision > 0 {
		if err := json.Unmarshal(value, &n.state); err != nil {
			n.Log.Warn("the state of notices cannot be read and starts over", "error", err)
			n.state = State{}
		}
	}

	n.health, n.wake = map[string]control.NotifyState{}, map[string]chan struct{}{}
	for _, s := range n.Sinks {
		n.health[s.Name()], n.wake[s.Name()] = control.NotifyState{Sink: s.Name()}, make(chan struct{}, 1)
	}

	return nil
}

// update changes the state and persists it. If the change cannot be persisted, the state stays as it was.
func (n *Notifier) update(ctx context.Context, change func(State) State) error {
	n.mu.Lock()
	defer n.mu.Unlock()

	if err := n.CheckLeader(); err != nil {
		return err
	}

	next := change(n.state)

	value, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("write the state of notices: %w", err)
	}

	if bytes.Equal(value, n.kept) {
		n.state = next
		return nil // a check that finds nothing new costs the broker nothing
	}

	revision, err := n.Entry.Save(ctx, value, n.revision)
	if err != nil {
		return fmt.Errorf("keep the state of notices: %w", err)
	}

	n.state, n.revision, n.kept = next, revision, value

	return nil
}

// watch checks the status by the clock, and passes each level to beats.
func (n *Notifier) watch(ctx context.Context, beats chan verdict.Level) error {
	every := n.Every
	if len(n.Sinks) == 0 && n.Heartbeat == "" {
		every = max(every, recordEvery)
	}

	ticker := time.NewTicker(every)
	defer ticker.Stop()

	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}

		facts := n.Collect(ctx)
		if ctx.Err() != nil {
			return nil
		}

		seen := Message{Verdict: verdict.Judge(facts, verdict.Limits{SilentAfter: verdict.DefaultSilentAfter}), Facts: facts}

		select {
		case <-beats: // drop the previous level, which was not taken
		default:
		}

		beats <- seen.Verdict.Level

		if err := n.decide(ctx, seen); err != nil {
			return err
		}
	}
}

// decide decides what is sent, persists it, and wakes the sinks.
func (n *Notifier) decide(ctx context.Context, seen Message) error {
	n.mu.Lock()
	n.seen, n.looked = seen, true
	due := Unfinished(n.state, seen.Facts.Files, n.Now())
	n.mu.Unlock()

	in := Seen{Verdict: seen.Verdict, Facts: seen.Facts, Lines: map[string][]int{}, Zone: n.Zone, DigestHour: n.DigestHour}
	for _, f := range due[max(0, len(due)-maxFiles):] {
		lines, err := n.Lines(ctx, f.ID)
		if err != nil {
			n.Log.Debug("the lines of a file cannot be had for a notice", "error", err)
		}

		in.Lines[f.ID] = lines
	}

	in.Sinks = n.names()
	var made []Notice
	var ended *control.JournalEntry

	err := n.update(ctx, func(s State) State {
		now := n.Now()
		ended = Ended(s, in, now)
		made, s = Decide(s, in, now)
		return s
	})
	if err != nil {
		return err
	}

	if ended != nil {
		if err := n.Record(*ended); err != nil {
			n.Log.Warn("the journal has no note of a time that was not well", "from", ended.Started, "to", ended.Ended, "error", err)
		}
	}

	for _, notice := range made {
		n.Log.Info("people are notified", "notice", notice.Kind)
	}

	n.wakeAll()

	return nil
}

func (n *Notifier) wakeAll() {
	for _, wake := range n.wake {
		select {
		case wake <- struct{}{}:
		default: // it is already awake
		}
	}
}

// Login notifies people of an emergency login to the console, if there is a sink.
func (n *Notifier) Login(ctx context.Context, login control.EmergencyLoginRequest) (control.Nothing, error) {
	n.Log.Warn("somebody came into the console by a password for emergencies", "by", login.By, "role", login.Role)

	seen := Seen{Zone: n.Zone, Sinks: n.names()}
	if len(seen.Sinks) == 0 {
		return control.Nothing{}, nil
	}

	err := n.update(ctx, func(s State) State { return NotifyLogin(s, seen, login, n.Now()) })
	n.wakeAll()

	return control.Nothing{}, err
}

// names returns the names of the sinks.
func (n *Notifier) names() (all []string) {
	for _, s := range n.Sinks {
		all = append(all, s.Name())
	}
	return all
}

// serve sends the notices that wait for a sink, one after the other.
func (n *Notifier) serve(ctx context.Context, sink Sink) error {
	for failures := 0; ; {
		next, found := n.next(sink.Name())
		if !found {
			select {
			case <-ctx.Done():
				return nil
			case <-n.wake[sink.Name()]:
			}

			continue
		}

		err := n.send(ctx, sink, next)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it is sent again
		}

		n.report(sink.Name(), err)

		if err == nil {
			failures = 0

			if err := n.update(ctx, func(s State) State { return s.without(next.ID, sink.Name()) }); err != nil {
				return err
			}

			continue
		}

		_ = pause.For(ctx, min(retryFirst<<min(failures, 10), maxRetryPause)) // the loop checks ctx
		failures++
	}
}

// next returns the oldest notice that waits for a sink. Each notice carries the status, so there is none before the
// first check.
func (n *Notifier) next(sink string) (Message, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()

	if !n.looked {
		return Message{}, false
	}

	for _, p := range n.state.Outbox {
		if slices.Contains(p.To, sink) && n.Now().Sub(p.At) < keptFor {
			m := n.seen
			m.Notice = p.Notice
			return m, true
		}
	}

	return Message{}, false
}

// without returns the state after a notice has reached a sink.
func (s State) without(id, sink string) State {
	var left []Pending
	for _, p := range s.Outbox {
		if p.ID == id {
			p.To = slices.DeleteFunc(slices.Clone(p.To), func(to string) bool { return to == sink })
		}

		if len(p.To) > 0 {
			left = append(left, p)
		}
	}

	s.Outbox = left

	return s
}

func (n *Notifier) send(ctx context.Context, sink Sink, m Message) error {
	ctx, cancel := context.WithTimeout(ctx, SendTimeout)
	defer cancel()

	if err := n.CheckLeader(); err != nil {
		return err
	}

	return sink.Send(ctx, m)
}

// report records how sending went, and logs when a sink starts to fail and when it works again.
func (n *Notifier) report(sink string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()

	h := n.health[sink]
	switch {
	case err == nil && !h.Failing.IsZero():
		n.Log.Info("notices are taken again", "sink", sink)

		h.Failing, h.Error = time.Time{}, ""
	case err != nil && h.Failing.IsZero():
		n.Log.Warn("notices are not taken; they are kept for a day and tried again", "sink", sink, "error", err)
		h.Failing = n.Now().UTC()
		fallthrough
	case err != nil:
		h.Error = err.Error()
	}

	n.health[sink] = h
}

// States returns the state of each sink.
func (n *Notifier) States() (all []control.NotifyState) {
	n.mu.Lock()
	defer n.mu.Unlock()

	for _, s := range n.Sinks {
		h := n.health[s.Name()]
		h.Sink = s.Name()
		for _, p := range n.state.Outbox {
			if slices.Contains(p.To, s.Name()) {
				h.Waiting++
			}
		}

		all = append(all, h)
	}

	return all
}

// Try sends a test notice to each sink at once, without regard to the notices that wait, and returns the results.
func (n *Notifier) Try(ctx context.Context, req control.RunRequest) (control.NotifyTest, error) {
	if len(n.Sinks) == 0 {
		return control.NotifyTest{}, control.Refuse("nobody is notified of anything: set NOTIFY_SMTP_HOST, NOTIFY_WEBHOOK_URL or NOTIFY_TEAMS_URL for the janitor")
	}

	facts := n.Collect(ctx)
	now := n.Now()
	m := Message{
		Notice: Notice{
			ID: fmt.Sprintf("%s-%d", Test, now.UnixNano()), Kind: Test, At: now, Title: "A test: notices of BOBO Sync arrive",
			Text: "Ordered by " + req.By + ". Nothing need be done.",
		},
		Verdict: verdict.Judge(facts, verdict.Limits{SilentAfter: verdict.DefaultSilentAfter}), Facts: facts,
	}
	answer := control.NotifyTest{Results: make([]control.NotifyResult, len(n.Sinks))}
	var group errgroup.Group
	for i, sink := range n.Sinks {
		group.Go(func() error {
			answer.Results[i].Sink = sink.Name()
			if err := n.send(ctx, sink, m); err != nil {
				answer.Results[i].Error = err.Error()
			}

			return nil
		})
	}

	return answer, group.Wait()
}

// beat calls the heartbeat's address each minute. If there is no new verdict, it makes no call.
func (n *Notifier) beat(ctx context.Context, levels <-chan verdict.Level) error {
	var last time.Time
	failing := false
	for {
		var level verdict.Level
		select {
		case <-ctx.Done():
			return nil
		case level = <-levels:
		}

		now := n.Now()
		if now.Sub(last) < heartbeatEvery {
			continue
		}

		last = now

		err := n.call(ctx, heartbeatAddress(n.Heartbeat, level))
		if err != nil && !failing && ctx.Err() == nil {
			n.Log.Warn("the heartbeat is not taken", "error", err)
		}

		failing = err != nil
	}
}

// heartbeatAddress returns the address to call for a level.
func heartbeatAddress(address string, level verdict.Level) string {
	if level < verdict.Problem {
		return address
	}

	path, query, has := strings.Cut(address, "?")
	path = strings.TrimSuffix(path, "/") + "/fail"
	if has {
		return path + "?" + query
	}

	return path
}

func (n *Notifier) call(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, heartbeatTimeout)
	defer cancel()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return harmless(err)
	}

	return post(n.Web, req)
}
