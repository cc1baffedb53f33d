package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/topology"
)

// fullPart is the part of the stream's limit from which on what was read is purged, whatever its age.
const fullPart = 0.8

// look runs the watchdog and the housekeeping until ctx ends. It returns errLost when a stream is another one than at the
// session's start.
func (x *session) look(ctx context.Context) error {
	tick := time.NewTicker(x.check)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := x.checkIdentities(ctx); errors.Is(err, errLost) {
			return err
		}
		// The rest is tried again at the next tick; an outage of the broker is reported by the connection.
		if err := errors.Join(x.tidyEntries(ctx), x.watchdog(ctx)); err != nil && ctx.Err() == nil {
			x.log.Debug("housekeeping failed, trying again", "error", err)
		}
	}
}

// checkIdentities notices a store that was lost while nothing was read or written.
func (x *session) checkIdentities(ctx context.Context) error {
	for stream, want := range x.identities {
		have, err := topology.Identity(ctx, x.js, stream)
		if errors.Is(err, jetstream.ErrStreamNotFound) || err == nil && have != want {
			return fmt.Errorf("stream %s: %w", stream, errLost)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tidyEntries purges entries that the resolver has read: those older than the age that they are kept for, or all of them if
// the stream is nearly full. The stream itself has no age limit, since that would drop entries that nobody has read.
func (x *session) tidyEntries(ctx context.Context) error {
	stream, err := x.js.Stream(ctx, topology.StreamEntries)
	if err != nil {
		return fmt.Errorf("look at the stream of entries: %w", err)
	}
	info := stream.CachedInfo()
	if limit := info.Config.MaxBytes; limit > 0 && float64(info.State.Bytes) > fullPart*float64(limit) {
		_, err := x.purgeRead(ctx)
		return err
	}
	oldest := x.now().Add(-x.cfg.Broker.MaxAge)
	if info.State.Msgs == 0 || info.State.FirstTime.After(oldest) {
		return nil
	}
	read, err := x.readUpTo(ctx)
	if err != nil {
		return err
	}
	sequence, err := firstAfter(ctx, stream, info.State.FirstSeq, min(read, info.State.LastSeq)+1, oldest)
	if err != nil || sequence <= info.State.FirstSeq {
		return err
	}
	return purge(ctx, stream, sequence)
}

// firstAfter finds, between two sequences, the first message that was stored after a moment; the second sequence if none was.
func firstAfter(ctx context.Context, stream jetstream.Stream, low, high uint64, moment time.Time) (uint64, error) {
	for low < high {
		middle := low + (high-low)/2
		m, err := stream.GetMsg(ctx, middle)
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return 0, fmt.Errorf("look at the age of entries: %w", err)
		}
		if err == nil && m.Time.After(moment) {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low, nil
}

// readUpTo returns the last sequence up to which the resolver has acknowledged everything.
func (x *session) readUpTo(ctx context.Context) (uint64, error) {
	c, err := x.js.Consumer(ctx, topology.StreamEntries, topology.ConsumerResolverEntries)
	if err != nil {
		return 0, fmt.Errorf("look at what the resolver has read: %w", err)
	}
	return c.CachedInfo().AckFloor.Stream, nil
}

// purgeRead removes the entries that the resolver has read and returns how many there were.
func (x *session) purgeRead(ctx context.Context) (uint64, error) {
	stream, err := x.js.Stream(ctx, topology.StreamEntries)
	if err != nil {
		return 0, fmt.Errorf("look at the stream of entries: %w", err)
	}
	read, err := x.readUpTo(ctx)
	if err != nil {
		return 0, err
	}
	first := stream.CachedInfo().State.FirstSeq
	if read < first || stream.CachedInfo().State.Msgs == 0 {
		return 0, nil
	}
	return read + 1 - first, purge(ctx, stream, read+1)
}

func purge(ctx context.Context, stream jetstream.Stream, before uint64) error {
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(before)); err != nil {
		return fmt.Errorf("purge entries that were read: %w", err)
	}
	return nil
}

// standstill measures how long files have waited although nothing is under way.
type standstill struct {
	since    time.Time
	progress uint64
	patience time.Duration
}

func (s *standstill) reset(now time.Time, progress uint64, patience time.Duration) {
	*s = standstill{since: now, progress: progress, patience: patience}
}

// maxPatience bounds how rarely a file is read again that nobody settles.
const maxPatience = time.Hour

// watchdog has files read again that wait although nothing is under way: an outcome was lost, or is among the dead letters.
func (x *session) watchdog(ctx context.Context) error {
	now, progress := x.now(), x.settled.get()
	if progress != x.standstill.progress {
		x.standstill.reset(now, progress, x.patience)
		return nil
	}
	files, err := x.unsettled()
	if err != nil {
		return err
	}
	busy := len(files) == 0
	if !busy {
		if busy, err = x.underWay(ctx); err != nil {
			return err
		}
	}
	if busy {
		x.standstill.since = now
		return nil
	}
	if now.Sub(x.standstill.since) < x.standstill.patience {
		return nil
	}
	x.standstill.since, x.standstill.patience = now, min(2*x.standstill.patience, maxPatience)
	select {
	case x.stuck <- struct{}{}:
	default:
	}
	return nil
}

// underWay says whether anything is still to be processed by anyone.
func (x *session) underWay(ctx context.Context) (bool, error) {
	consumers := map[string]string{
		topology.ConsumerResolverEntries: topology.StreamEntries,
		topology.ConsumerIngestAcks:      topology.StreamAcks,
	}
	for lane := range topology.Lanes {
		consumers[topology.LaneConsumer(lane)] = topology.StreamUpdates
	}
	for name, stream := range consumers {
		c, err := x.js.Consumer(ctx, stream, name)
		if err != nil {
			return false, fmt.Errorf("look at consumer %s: %w", name, err)
		}
		if info := c.CachedInfo(); info.NumPending > 0 || info.NumAckPending > 0 {
			return true, nil
		}
	}
	return false, nil
}

// unstick publishes the entries of the files again that have waited since before the standstill.
func (x *session) unstick(ctx context.Context) error {
	files, err := x.unsettled()
	if err != nil {
		return err
	}
	before := x.now().Add(-x.patience)
	var old []*ledger.File
	for _, f := range files {
		if f.Published.Before(before) {
			old = append(old, f)
		}
	}
	if len(old) == 0 {
		return nil
	}
	x.log.Warn("files wait although nothing is under way, reading them again", "files", len(old), "first", old[0].Name)
	return x.publishAgain(ctx, old, "outcomes are missing", x.giveUpGone)
}
