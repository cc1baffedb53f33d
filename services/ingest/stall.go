package ingest

// Outcomes that do not arrive, and when the files that wait for them are read again.

import (
	"context"
	"time"

	"bobosync/services/ingest/internal/ledger"
)

// maxStallTimeout is the longest time between two readings of a file that nobody settles.
const maxStallTimeout = time.Hour

// stall means that files wait for outcomes that may never arrive.
type stall struct {
	// waited is the least time that a file must have waited to be read again.
	waited time.Duration
	// idle reports that nothing is under way, so that nothing will settle a file of which no copy is left.
	idle bool
}

// stallDetector measures for how long files have waited with nothing under way, and for how long something always
// was.
type stallDetector struct {
	since   time.Time // when something was last settled or under way
	settled uint64
	timeout time.Duration
	checked time.Time // when files that had waited for maxStallTimeout were last read again, whatever was under way
}

func newStallDetector(now time.Time, settled uint64, timeout time.Duration) stallDetector {
	return stallDetector{since: now, settled: settled, timeout: timeout, checked: now}
}

// detect reports whether files should be read again, and which. There are two cases:
//
//   - Files wait, and for d.timeout nothing was settled and nothing was under way. Each time in a row, d.timeout
//     doubles, up to maxStallTimeout.
//   - Once every maxStallTimeout, the files that have waited for that long. Where files arrive all the time, something
//     is always under way, and without this a lost outcome would never be noticed.
func (d *stallDetector) detect(now time.Time, settled uint64, busy bool, timeout time.Duration) (stall, bool) {
	switch {
	case now.Sub(d.checked) >= maxStallTimeout:
		d.checked = now
		return stall{waited: maxStallTimeout}, true
	case settled != d.settled:
		d.since, d.settled, d.timeout = now, settled, timeout
	case busy:
		d.since = now
	case now.Sub(d.since) >= d.timeout:
		d.since, d.timeout = now, min(2*d.timeout, maxStallTimeout)
		return stall{waited: timeout, idle: true}, true
	}

	return stall{}, false
}

// detectStall has files read again that wait for an outcome that was lost or is among the dead letters.
func (w *work) detectStall(ctx context.Context) error {
	waiting, err := w.ledger.Unsettled()
	if err != nil {
		return err
	}

	busy := len(waiting) == 0
	if !busy {
		if busy, err = w.stream.UnderWay(ctx); err != nil {
			return err
		}
	}

	if found, ok := w.stalls.detect(w.now(), w.settled.Load(), busy, w.stallTimeout); ok {
		select {
		case w.resend <- found:
		default:
		}
	}

	return nil
}

// resendWaiting publishes again the entries of files that have waited long enough. It costs AtHoc nothing: what AtHoc
// has taken is recorded.
func (w *work) resendWaiting(ctx context.Context, found stall) error {
	waiting, err := w.ledger.Unsettled()
	if err != nil {
		return err
	}

	before := w.now().Add(-found.waited)
	var old []*ledger.File
	for _, f := range waiting {
		if f.Published.Before(before) {
			old = append(old, f)
		}
	}

	switch {
	case len(old) == 0:
		return nil
	case !found.idle:
		w.log.Info("files have waited for very long, reading them again", "files", len(old), "first", old[0].Name)
		return w.recovery.Republish(ctx, old, "an outcome may be missing")
	}

	w.log.Warn("files wait although nothing is under way, reading them again", "files", len(old), "first", old[0].Name)

	return w.recovery.RepublishOrGiveUp(ctx, old, "outcomes are missing")
}
