// Package duty does what has to be done by the clock, and at once if somebody asks for it: when that is, is decided by pure
// functions in schedule.go.
package duty

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"bobosync/shared/control"
)

// Order is one run of a duty.
type Order struct {
	// Asked says that an operator asked for it, and By who; otherwise the clock did.
	Asked bool
	By    string
	// Why says why it comes out of turn, if it does.
	Why string
	// Entry is the id of its journal entry; empty if it has none yet.
	Entry string
	// Again says that the run before has failed.
	Again bool
	// Apply and Force are what a comparison may do.
	Apply, Force bool

	// shared says that somebody was told to look at Entry.
	shared bool
}

// Settings are what a duty is.
type Settings struct {
	// Name is one of control's names of duties.
	Name string
	// Off says that the clock never asks for it.
	Off  bool
	Plan Plan
	// OrdersCount says that a run by order does the same as one by the clock, so that the schedule takes it into account.
	OrdersCount bool
	// Trouble is what is logged of a failure, and Level how, by the number of failures so far, this one included; Level may be
	// nil. Of a duty that is not daily the same failure is told twice in a row, and then at DEBUG.
	Trouble string
	Level   func(err error, failures int) slog.Level
	Now     func() time.Time
	// Look is how often the clock is looked at, since timers stand still while a machine sleeps.
	Look time.Duration
	Log  *slog.Logger
}

// Ways are how a duty is done for as long as its Serve lasts.
type Ways struct {
	// Last returns the end of the last run that counts, or the zero time if there was none. It may be nil: then only what this
	// process has done counts. Its errors end Serve.
	Last func(context.Context) (time.Time, error)
	// Do does it. It returns soon after its ctx has ended.
	Do func(context.Context, *Order) error
}

// Duty is something that is done by the clock. It outlives the sessions with the broker, so that a broker that comes and goes
// does not make AtHoc be asked more often. It is safe for concurrent use.
type Duty struct {
	Settings

	wake chan struct{}

	mu      sync.Mutex
	history History
	// serving is true while there is somebody to do it.
	serving          bool
	running, pending *Order
	since            time.Time
	failure          string
	// told is the moment that was logged as that of the next run.
	told time.Time
}

// New returns a duty that was never done.
func New(s Settings) *Duty { return &Duty{Settings: s, wake: make(chan struct{}, 1)} }

// Serve does the duty whenever it is due, until ctx ends, and then returns nil. Its errors are those of Last.
func (d *Duty) Serve(ctx context.Context, w Ways) error {
	d.attend(true)
	defer d.attend(false)
	for ctx.Err() == nil {
		if err := d.learn(ctx, w); err != nil {
			if ctx.Err() == nil {
				return err
			}
			return nil // whatever failed did so since ctx has ended
		}
		o, wait := d.choose()
		if o == nil {
			d.rest(ctx, wait)
			continue
		}
		err := w.Do(ctx, o)
		d.note(o, err, ctx.Err() != nil)
	}
	return nil
}

func (d *Duty) attend(serving bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.serving, d.pending = serving, nil
}

// learn finds out when the duty was done last.
func (d *Duty) learn(ctx context.Context, w Ways) error {
	if w.Last == nil || d.Off {
		return nil
	}
	last, err := w.Last(ctx)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.history.Done = last
	return nil
}

// choose returns the run that is due, or how long nothing is.
func (d *Duty) choose() (*Order, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	o, wait := d.pending, d.Look
	if o == nil && !d.Off {
		now := d.Now()
		at := Next(now, d.history, d.Plan)
		if wait = at.Sub(now); wait <= 0 {
			o = &Order{}
		} else {
			d.tell(at)
		}
	}
	if o != nil {
		o.Again = d.history.Failures > 0
		d.running, d.pending, d.since = o, nil, d.Now()
	}
	return o, min(wait, d.Look)
}

// tell logs when a daily duty runs next.
func (d *Duty) tell(at time.Time) {
	if d.Plan.Every == 0 && !at.Equal(d.told) {
		d.told = at
		d.Log.Info("next run of a duty", "duty", d.Name, "at", at, "last", d.history.Done)
	}
}

func (d *Duty) rest(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-d.wake:
	case <-ctx.Done():
	}
}

// note takes the end of a run into account, and logs a failure. A run that was cut off counts as none.
func (d *Duty) note(o *Order, err error, cut bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running, d.since = nil, time.Time{}
	if cut || o.Asked && !d.OrdersCount && err == nil {
		return
	}
	if err != nil {
		d.failed(o, err)
		return
	}
	now := d.Now()
	d.history = History{Done: now, Attempted: now}
	d.failure = ""
}

func (d *Duty) failed(o *Order, err error) {
	level := slog.LevelWarn
	if d.Level != nil {
		level = d.Level(err, d.history.Failures+1)
	}
	attrs := []any{"duty", d.Name, "error", err}
	if !o.Asked || d.OrdersCount {
		if d.Plan.Every > 0 && d.failure == err.Error() && d.history.Failures >= 2 {
			level = slog.LevelDebug
		}
		d.failure = err.Error()
		d.history.Attempted = d.Now()
		d.history.Failures++
		d.history.Jitter = rand.Float64() //nolint:gosec // nothing secret about it
		attrs = append(attrs, "failures", d.history.Failures)
		if !d.Off {
			attrs = append(attrs, "retry_in", d.history.RetryWait(d.Plan).Round(time.Second).String())
		}
	}
	d.Log.Log(context.Background(), level, d.Trouble, attrs...)
}

// Ask has the duty done soon, and returns the journal entry of the run that does it: o, or one that stands for it. One that
// waits for its turn stands for o if alike says so; one that is under way does if alike says so and it has an entry. A nil alike
// never does. Begin makes the entry of o. Ask refuses if nobody is there to do it, or another order waits.
func (d *Duty) Ask(o *Order, alike func(other *Order, running bool) bool, begin func(*Order) (string, error)) (entry string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.serving {
		return "", control.Refuse("the janitor is just stopping; try again when it is back")
	}
	for _, other := range []*Order{d.pending, d.running} {
		if other != nil && other.Entry != "" && alike != nil && alike(other, other == d.running) {
			other.shared = true
			return other.Entry, nil
		}
	}
	if d.pending != nil {
		return "", control.Refuse("another order for this waits to begin; try again when it has ended")
	}
	if o.Entry, err = begin(o); err != nil {
		return "", err
	}
	o.shared = o.Asked
	d.pending = o
	select {
	case d.wake <- struct{}{}:
	default: // it is awake
	}
	return o.Entry, nil
}

// Began notes the journal entry of a run that is under way.
func (d *Duty) Began(o *Order, entry string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	o.Entry = entry
}

// Shared says whether somebody was told to look at the journal entry of a run.
func (d *Duty) Shared(o *Order) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return o.shared
}

// Resume tells a duty whose last try, by another process, failed at the given moment that it did.
func (d *Duty) Resume(attempted time.Time, failure string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.history.Failures == 0 {
		d.history.Failures, d.history.Attempted, d.failure = 1, attempted, failure
	}
}

// Attempted is the end of the last run in this process, also of one that failed; zero if there was none.
func (d *Duty) Attempted() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.history.Attempted
}

// State tells how the duty stands. LastSuccess is what this process knows of.
func (d *Duty) State() control.Duty {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := control.Duty{
		Name: d.Name, Off: d.Off, LastSuccess: utc(d.history.Done), Running: utc(d.since), Failures: d.history.Failures, Error: d.failure,
	}
	if !d.Off {
		s.Next = utc(Next(d.Now(), d.history, d.Plan))
	}
	return s
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}
