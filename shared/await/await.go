// Package await is how tests wait for what must come: they look at once and then ever less often, so that they do not take the processor
// from what they wait for.
package await

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The first pause between two looks, and the longest.
const (
	shortest = 2 * time.Millisecond
	longest  = 100 * time.Millisecond
)

// True looks until a condition holds, and ends the test if it does not within the limit; message says what was awaited, as require's do. It
// looks in the test's own goroutine, so that the condition may end the test, too.
func True(tb testing.TB, holds func() bool, limit time.Duration, message ...any) {
	tb.Helper()

	if !poll(holds, limit) {
		require.Fail(tb, fmt.Sprintf("not so within %s", limit), message...)
	}
}

// NoFailure looks until all that is asserted of a Try is so, and ends the test with the last failures if it is not within the limit.
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

// Equal looks until got returns what is wanted, and ends the test with the last difference if it does not within the limit.
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

// Try is one look; it is what assertions are given.
type Try struct{ failures []string }

func (t *Try) look(with func(*Try)) {
	defer func() {
		if ended := recover(); ended != nil && ended != any(t) {
			panic(ended)
		}
	}()

	with(t)
}

// FailNow ends the look.
func (t *Try) FailNow() { panic(t) }

// Errorf notes what is not so.
func (t *Try) Errorf(format string, args ...any) {
	t.failures = append(t.failures, fmt.Sprintf(format, args...))
}
