// Package failpoint names the moments at which tests stop ingest as a crash would.
package failpoint

import "errors"

// Point is a moment between two steps at which a crash may happen.
type Point string

// The points. Their values say what is done when the crash happens, and what is not.
const (
	Stored         Point = "entries stored in the ledger, not published"
	Published      Point = "entries published, not marked"
	Settled        Point = "outcomes noted, not acknowledged"
	Moved          Point = "files moved, not noted"
	Rebuilt        Point = "ledger rebuilt, not marked"
	FinishedReplay Point = "finished files published again, those that wait not yet"
	Recovered      Point = "state store recovered, not noted"
	Marked         Point = "old files marked, not deleted"
	Deleted        Point = "old files deleted, not noted"
)

// ErrCrash is wrapped by the errors that a test's Hit returns.
var ErrCrash = errors.New("crashed at a failpoint")

// Hit is called at each point. If it returns an error, ingest ends on the spot.
type Hit func(Point) error

// None is the Hit that is used in production.
func None(Point) error { return nil }
