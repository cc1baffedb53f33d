// Package await makes tests wait for a condition. It checks the condition at once and then ever less often, so that it
// does not take the processor from what the test waits for.
package await

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The first pause between two checks, and the longest.
const (
	shortest = 2 * time.Millisecond
	longest  = 100 * time.Millisecond
)

// True checks a condition until it holds, and ends the test if it does not within the limit. The message says what was
// awaited, as in the functions of require. The condition runs in the test's own goroutine, so it may end the test, too.
func True(tb testing.TB, holds func() bool, limit time.Duration, message ...any) {
	tb.Helper()

	if !poll(holds, limit) {
		require.Fail(tb, fmt.Sprintf("not so within %s", limit), message...)
	}
}

// NoFailure repeats look until all assertions of a Try hold, and ends the test with the last failures if they do not
// within the limit.
func NoFailure(tb testing.TB, look func(*Try), limit time.Duration, message ...any) {
	tb.Helper()

	var last Try
	if !poll(func() bool { last = Try{}; last.look(look); return len(last.failures) == 0 }, limit) {
		for _, failure := range last.failures {
			tb.Errorf("%s", failure)
		}

		require.Fail(tb, fmt.Sprintf("not so within %s", limit), message...)
	}
}

// Equal calls got until it returns what is wanted, and ends the test with the last difference if it does not within the
// limit.
func Equal(tb testing.TB, want any, got func() any, limit time.Duration, message ...any) {
	tb.Helper()

	var last any
	if !poll(func() bool { last = got(); return assert.ObjectsAreEqual(want, last) }, limit) {
		require.Equal(tb, want, last, message...)
	}
}

func poll(holds func() bool, limit time.Duration) bool {
	end := time.Now().Add(limit)
	for pause := shortest; ; pause = min(pause+pause/4, longest) {
		late := time.Now().After(end)

		if holds() {
			return true
		}

		if late {
			return false
		}

		time.Sleep(pause)
	}
}

// Try is one attempt of NoFailure; assertions take it in place of a testing.TB.
type Try struct{ failures []string }

func (t *Try) look(with func(*Try)) {
	defer func() {
		if ended := recover(); ended != nil && ended != any(t) {
			panic(ended)
		}
	}()

	with(t)
}

// FailNow ends the attempt.
func (t *Try) FailNow() { panic(t) }

// Errorf records an assertion that does not hold.
func (t *Try) Errorf(format string, args ...any) {
	t.failures = append(t.failures, fmt.Sprintf(format, args...))
}
