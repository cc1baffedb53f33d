// Package check turns a configuration into a verdict. It tries the things that the services need (independent ones at
// the same time), and says in plain words of each how it is and what to do about it.
//
// It changes nothing: it writes nobody's status and makes no stream. It leaves behind at most an access token in the
// place where the services share theirs: AtHoc has one token for each organisation, so a token of the check's own would
// revoke that of running services.
//
// Each check is a step: a function of the facts that earlier steps have found. A step whose ground is missing is not
// tried, and its result says which ground that is. The judgements are functions of values, so that tables can test
// them.
package check

import (
	"context"
	"fmt"
	"slices"
	"time"

	"bobosync/shared/config"
	"bobosync/shared/topology"
)

// Level is how serious a result is.
type Level string

// The levels.
const (
	// OK: it is as it should be.
	OK Level = "ok"
	// Skipped: it was not tried, because what it needs failed or is absent by intention.
	Skipped Level = "skipped"
	// Warning: the services work, but not as well or as safely as they should; or something could not be determined.
	Warning Level = "warning"
	// Problem: the services cannot work like this.
	Problem Level = "problem"
)

// Result is the verdict of one check.
type Result struct {
	// Service is the running service that made the check, if one did.
	Service topology.Service `json:"service,omitempty"`
	// Check names what was checked, in a few words or by a variable's name.
	Check string `json:"check"`
	Level Level  `json:"level"`
	// Message says how it is. Advice says what to do about it, and is empty if there is nothing to do. Neither contains
	// secrets or names of persons.
	Message string `json:"message"`
	Advice  string `json:"advice,omitempty"`
	// Milliseconds is how long the check took, without waiting for other checks.
	Milliseconds int64 `json:"milliseconds"`
}

// Status returns the exit status for the results: 2 if any is a problem, else 1 if any is a warning, else 0.
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

// named gives results their own name instead of that of their step.
func named(name string, results []Result) []Result {
	for i := range results {
		results[i].Check = name
	}
	return results
}

// Files holds the directories of ingest.
type Files struct {
	CSV, Processed, Failed string
	// Feeds are the input directories that replace CSV if there are several, with the names that messages use for them.
	Feeds []Feed
	// Move reports whether finished files are moved out of the input directories.
	Move bool
}

// Feed is one of several input directories.
type Feed struct{ Name, Dir string }

// Monitor says where to read what a broker does not report to its clients. Both fields are optional.
type Monitor struct {
	// SysCreds is a file with credentials for the broker's system account.
	SysCreds string `env:"NATS_SYS_CREDS"`
	// URL is the address of the broker's monitoring pages, such as http://localhost:8222.
	URL string `env:"NATS_MONITOR_URL"`
}

// Settings is what to check. Settings that the service does not read are nil.
type Settings struct {
	// Service is the service whose settings these are; [topology.Everyone] is the all-in-one program.
	Service topology.Service
	Broker  config.Broker
	Calls   config.Calls
	Log     config.Log
	Data    *config.Data
	Files   *Files
	// BoboZone is the time zone of the files.
	BoboZone *config.Zone
	AtHoc    *config.AtHoc
	// CollarField and UserAttributes are what the janitor searches for; if CollarField is empty, nothing.
	CollarField    string
	UserAttributes []string
	Monitor        Monitor

	// Findings lists what is wrong with the settings themselves, one per line, in the form of [config.Load]'s error.
	Findings error
	// Unread reports whether the settings could not be read at all; Findings explains why.
	Unread bool
	// Known are the names of all variables that a program of this project reads.
	Known []string
	// EnvFile is the file that settings are read from in addition to the environment; it need not exist.
	EnvFile string
	// InsideAddress is a file that holds the address of the broker inside a running all-in-one program.
	InsideAddress string
	// Running reports whether a running service checks its own settings. The settings were valid then, and the service
	// sees of the broker only what its key permits.
	Running bool
}

// DefaultTimeout limits the whole run.
const DefaultTimeout = 10 * time.Second

// Options is what a run needs besides the settings.
type Options struct {
	Settings
	// Timeout limits the whole run; 0 means [DefaultTimeout].
	Timeout time.Duration
	// Version is the program's version, which AtHoc's logs show.
	Version string

	// Now and Space replace the clock and the query for disk space in tests.
	Now   func() time.Time
	Space func(path string) (Space, error)
	// Getenv replaces reading the environment in tests.
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
	// needs are steps that must have found no problem; after are steps that need only have finished. Both precede this
	// one.
	needs, after []string
	run          func(ctx context.Context, f *facts) []Result
}

// outcome is the result of a step. It is complete when done is closed.
type outcome struct {
	done    chan struct{}
	results []Result
	// ground is why steps that need this one are not tried; empty if they can be.
	ground string
	// silent reports whether that is by intention, so that steps not tried need not be listed one by one.
	silent bool
}

// grace is how long steps have to return after the timeout. A step that does not, such as one that reads a network
// share that is gone, is left behind: nothing can end a system call.
const grace = 300 * time.Millisecond

// Run makes all checks and returns their results in a fixed order. It returns at the latest a little after the timeout.
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

// steps returns the checks that apply to the settings, in the order of their results.
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

// settled waits until a step has finished; it returns false if the time runs out first.
func settled(ctx context.Context, o *outcome) bool {
	select {
	case <-o.done:
		return true
	case <-ctx.Done():
	}

	select { // a result that arrives with the timeout still says more than the timeout
	case <-o.done:
		return true
	case <-time.After(grace / 2):
		return false
	}
}

// attempt makes one check if everything it needs succeeded.
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

// groundOf says why a check that depends on a failed one is not tried.
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

// over waits until a step has finished, but no longer than the timeout and the grace; it reports whether the step has
// finished.
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
