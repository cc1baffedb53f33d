// Package check goes from a configuration to a verdict: it tries, one after the other and as far as they are independent at
// the same time, the things that the services need, and says of each in plain words how it is and what to do about it.
//
// It changes nothing. Nobody's status is written, no stream is made. What it leaves behind is at most an access token in the
// place where the services share theirs: AtHoc has one token for each organisation, so that one of the check's own would
// revoke that of running services.
//
// Each check is a step: a function of the facts that the steps before it have found. A step whose ground is missing is not
// tried, and says which ground that is. The judgements are functions of values, so that tables can test them.
package check

import (
	"context"
	"fmt"
	"slices"
	"time"

	"bobosync/shared/config"
	"bobosync/shared/topology"
)

// Level is how grave a result is.
type Level string

// The levels.
const (
	// OK: it is as it should be.
	OK Level = "ok"
	// Skipped: it was not tried, since what it needs failed, or is not there by intention.
	Skipped Level = "skipped"
	// Warning: the services work, but not as well or as safely as they should, or something could not be found out.
	Warning Level = "warning"
	// Problem: the services cannot work like this.
	Problem Level = "problem"
)

// Result is the verdict of a check.
type Result struct {
	// Service is who checked, if a running service did.
	Service topology.Service `json:"service,omitempty"`
	// Check is what was checked: a name of a few words, or of a variable.
	Check string `json:"check"`
	Level Level  `json:"level"`
	// Message says how it is, Advice what to do about it; there is none where there is nothing to do. They hold no secrets
	// and no names of persons.
	Message string `json:"message"`
	Advice  string `json:"advice,omitempty"`
	// Milliseconds is how long it took to find out, without the wait for other checks.
	Milliseconds int64 `json:"milliseconds"`
}

// Status is the exit status for the results: 2 if one is a problem, else 1 if one is a warning, else 0.
func Status(results []Result) int {
	status := 0
	for _, r := range results {
		switch r.Level {
		case Problem:
			return 2
		case Warning:
			status = 1
		}
	}

	return status
}

func good(format string, args ...any) []Result {
	return []Result{{Level: OK, Message: fmt.Sprintf(format, args...)}}
}

func skipped(format string, args ...any) []Result {
	return []Result{{Level: Skipped, Message: fmt.Sprintf(format, args...)}}
}

func warn(advice, format string, args ...any) []Result {
	return []Result{{Level: Warning, Message: fmt.Sprintf(format, args...), Advice: advice}}
}

func bad(advice, format string, args ...any) []Result {
	return []Result{{Level: Problem, Message: fmt.Sprintf(format, args...), Advice: advice}}
}

// named gives results a name of their own beside that of their step.
func named(name string, results []Result) []Result {
	for i := range results {
		results[i].Check = name
	}
	return results
}

// Files are the directories of ingest.
type Files struct {
	CSV, Processed, Failed string
	// Feeds are the input directories instead of CSV, if there are several, by what messages call them.
	Feeds []Feed
	// Move reports whether finished files are moved out of CSV.
	Move bool
}

// Feed is one of several input directories.
type Feed struct{ Name, Dir string }

// Monitor is where to read what a broker does not report to its clients. Both are optional.
type Monitor struct {
	// SysCreds is a file with credentials for the broker's system account.
	SysCreds string `env:"NATS_SYS_CREDS"`
	// URL is the address of the broker's monitoring pages, such as http://localhost:8222.
	URL string `env:"NATS_MONITOR_URL"`
}

// Settings are what is to be checked. What the service does not read is nil.
type Settings struct {
	// Service is whose settings these are; [topology.Everyone] is the all-in-one program.
	Service topology.Service
	Broker  config.Broker
	Calls   config.Calls
	Log     config.Log
	Data    *config.Data
	Files   *Files
	// BoboZone is the zone of the files.
	BoboZone *config.Zone
	AtHoc    *config.AtHoc
	// CollarField and UserAttributes are what is searched for by the janitor; none if the field is empty.
	CollarField    string
	UserAttributes []string
	Monitor        Monitor

	// Findings is what is wrong with the settings themselves, a line each, as [config.Load] says it.
	Findings error
	// Unread says that the settings could not be read at all, which Findings explains.
	Unread bool
	// Known are the names of all variables that a program of this project reads.
	Known []string
	// EnvFile is the file that settings were read from, besides the environment; it need not be there.
	EnvFile string
	// InsideAddress is a file with the address of the broker inside a running all-in-one program.
	InsideAddress string
	// Running says that the service which runs with these settings checks them itself, so that they were read well, and of the broker it
	// sees what its key lets it see.
	Running bool
}

// DefaultTimeout is how long everything together may take.
const DefaultTimeout = 10 * time.Second

// Options are what a run needs beside the settings.
type Options struct {
	Settings
	// Timeout is how long everything together may take; 0 means [DefaultTimeout].
	Timeout time.Duration
	// Version is the program's, as AtHoc's logs show it.
	Version string

	// Now and Space replace the clock and the look at the disk in tests.
	Now   func() time.Time
	Space func(path string) (Space, error)
	// Getenv replaces the look at the environment in tests.
	Getenv func(string) string
}

func (o *Options) setDefaults() {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}

	if o.Now == nil {
		o.Now = time.Now
	}

	if o.Space == nil {
		o.Space = diskSpace
	}

	if o.Getenv == nil {
		o.Getenv = getenv
	}
}

// step is one check.
type step struct {
	name string
	// needs are steps that must have found no problem, after those that must only be over. Both stand before this one.
	needs, after []string
	run          func(ctx context.Context, f *facts) []Result
}

// outcome is what became of a step. It is complete when done is closed.
type outcome struct {
	done    chan struct{}
	results []Result
	// ground is why steps that need this one are not tried; "" if they can be.
	ground string
	// silent says that this is by intention, so that they need not be named one by one.
	silent bool
}

// grace is how long steps have to return after the time is over. One that does not, as a look at a network share that is
// gone, is left behind: nothing can end a system call.
const grace = 300 * time.Millisecond

// Run makes all checks and returns their results in a fixed order. It returns after the timeout at the latest, and a little.
func Run(ctx context.Context, o Options) []Result {
	o.setDefaults()

	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()

	f := &facts{Options: o}
	steps := steps(o.Settings)
	outcomes := start(ctx, f, steps)
	results := collect(ctx, o.Timeout, steps, outcomes)
	f.close(steps, outcomes)

	return results
}

// steps are the checks that fit the settings, in the order of their results.
func steps(s Settings) []step {
	all := []step{{name: "settings", run: checkSettings}}
	if s.Unread {
		return all
	}

	all = append(all, directorySteps(s)...)
	if s.BoboZone != nil || s.AtHoc != nil {
		all = append(all, step{name: "time zones", run: checkZones})
	}

	all = append(all, brokerSteps(s)...)
	if s.AtHoc != nil {
		all = append(all, athocSteps(s)...)
	}

	return all
}

func start(ctx context.Context, f *facts, steps []step) map[string]*outcome {
	outcomes := make(map[string]*outcome, len(steps))
	for _, t := range steps {
		outcomes[t.name] = &outcome{done: make(chan struct{})}
	}

	for _, t := range steps {
		go func() {
			out := outcomes[t.name]
			defer close(out.done)

			for _, name := range slices.Concat(t.needs, t.after) {
				if before := outcomes[name]; before != nil && !settled(ctx, before) {
					out.ground = name + " hangs"
					out.results = notTried(t.name, out.ground)
					return
				}
			}

			out.attempt(ctx, f, t, outcomes)
		}()
	}

	return outcomes
}

// settled waits until a step is over; it is false if the time is over first.
func settled(ctx context.Context, o *outcome) bool {
	select {
	case <-o.done:
		return true
	case <-ctx.Done():
	}

	select { // a step that ended with the time still says more than the time
	case <-o.done:
		return true
	case <-time.After(grace / 2):
		return false
	}
}

// attempt makes one check, if its ground is there.
func (out *outcome) attempt(ctx context.Context, f *facts, t step, outcomes map[string]*outcome) {
	for _, name := range t.needs {
		if before := outcomes[name]; before != nil && before.ground != "" {
			out.ground, out.silent = before.ground, before.silent
			if !out.silent {
				out.results = notTried(t.name, out.ground)
			}

			return
		}
	}

	began := time.Now()

	out.results = t.run(ctx, f)
	took := time.Since(began).Milliseconds()
	for i := range out.results {
		r := &out.results[i]
		if r.Check == "" {
			r.Check = t.name
		}

		r.Milliseconds = took
		switch {
		case r.Level == Problem:
			out.ground, out.silent = groundOf(t.name, *r), false
		case r.Level == Skipped && out.ground == "":
			out.ground, out.silent = r.Message, true
		}
	}
}

func notTried(name, ground string) []Result {
	return named(name, skipped("not tried: %s", ground))
}

// groundOf says why a check is not tried that builds on a failed one.
func groundOf(step string, r Result) string {
	if r.Check != step {
		return fmt.Sprintf("%s has a problem (%s)", step, r.Check)
	}
	return step + " has a problem"
}

// collect gathers the results in the order of the steps.
func collect(ctx context.Context, timeout time.Duration, steps []step, outcomes map[string]*outcome) []Result {
	var results []Result
	for _, t := range steps {
		out := outcomes[t.name]
		if over(ctx, out) {
			results = append(results, out.results...)
			continue
		}

		results = append(results, Result{
			Check: t.name, Level: Problem, Milliseconds: timeout.Milliseconds(),
			Message: fmt.Sprintf("it hangs: nothing was found out within %s", timeout),
			Advice:  "a network share that is gone hangs like this; or give the check more time with --timeout",
		})
	}

	return results
}

// over waits for a step until the time is over, and the grace.
func over(ctx context.Context, o *outcome) bool {
	select {
	case <-o.done:
		return true
	case <-ctx.Done():
	}

	select {
	case <-o.done:
		return true
	case <-time.After(grace):
		return false
	}
}
