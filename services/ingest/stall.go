package ingest

// Outcomes that do not come: when files are read again that wait for them.

import (
	"context"
	"time"

	"bobosync/services/ingest/internal/ledger"
)

// maxStallTimeout bounds how rarely a file is read again that nobody settles.
const maxStallTimeout = time.Hour

// stall is that files wait for outcomes that may never come.
type stall struct {
	// waited is how long a file has waited at least that is read again.
	waited time.Duration
	// idle: nothing is under way, so that nothing will settle a file of which no copy is left.
	idle bool
}

// stallDetector measures how long files have waited although nothing is under way, and for how long something always was.
type stallDetector struct {
	since   time.Time // when something was settled or under way last
	settled uint64
	timeout time.Duration
	checked time.Time // when all was read again last that had waited for long, whatever was under way
}

func newStallDetector(now time.Time, settled uint64, timeout time.Duration) stallDetector {
	return stallDetector{since: now, settled: settled, timeout: timeout, checked: now}
}

// detect reports whether files are to be read again, and which: those that wait although nothing was settled, and nothing under way, for
// long enough, where each time in a row takes twice as long; and every hour those that have waited for one: where files come all the time
// something always is under way, and an outcome that was lost would never be missed.
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

// detectStall makes files be read again that wait for an outcome that was lost, or is among the dead letters.
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

// resendWaiting publishes the entries of the files again that have waited for long enough. It costs AtHoc nothing: what it has taken is known.
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
