package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"bobosync/services/ingest/internal/entries"
	"bobosync/services/ingest/internal/intake"
	"bobosync/services/ingest/internal/recovery"
	"bobosync/shared/check"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/pause"
	"bobosync/shared/telemetry"
	"bobosync/shared/topology"
)

// work is one session with the broker: from provisioning until something in the broker's store is lost.
type work struct {
	*service
	stream   *entries.Stream
	inbox    *intake.Inbox
	recovery *recovery.Session

	epochs chan string // new epochs of the resolver's state store; holds only the latest
	resend chan stall  // stalls for which the reader publishes waiting files again
	stalls stallDetector
}

// session runs one session.
func (s *service) session(ctx context.Context, _ func(error)) error {
	if err := s.recovery.ForgetHalfRead(); err != nil { // files that the previous session did not finish reading
		return err
	}

	js := s.deps.Conn.JS
	if err := topology.Provision(ctx, js, topology.From(s.cfg.Broker, s.cfg.Calls), topology.Ingest, topology.WithLog(s.log)); err != nil {
		return err
	}

	if err := s.feeds.open(ctx, js); err != nil {
		return err
	}

	stream, err := entries.Open(ctx, s.streamConfig())
	if err != nil {
		return err
	}
	defer stream.Close()

	w := &work{service: s, stream: stream, epochs: make(chan string, 1), resend: make(chan stall, 1)}
	w.inbox = s.intake.NewInbox(s.found, s.cfg.Inputs(), s.cfg.MaxFileSize, stream.Send)
	w.recovery = s.recovery.NewSession(stream, w.inbox, s.found)
	w.stalls = newStallDetector(s.now(), s.settled.Load(), s.stallTimeout)

	stop, err := control.Serve(ctx, s.deps.Conn.NC, topology.Ingest, s.deps.Version, append(s.operators.endpoints(), check.Endpoint(s.cfg.Checked(), s.deps))...)
	if err != nil {
		return err
	}
	defer stop()

	epoch, err := w.readEpoch(ctx)
	if err != nil {
		return err
	}

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.followEpoch(ctx, epoch) })
	g.Go(func() error { return w.settle(ctx) })
	g.Go(func() error { return w.keepHouse(ctx) })
	g.Go(func() error { return w.followHolds(ctx) })
	g.Go(func() error { return w.read(ctx, epoch) })

	defer telemetry.NewBacklog(s.deps.Telemetry).WatchConsumers(js, topology.Ingest)()
	defer s.component.InSession()()

	s.onReady(true)
	defer s.onReady(false)

	return g.Wait()
}

// epochPollInterval is how often ingest reads the epoch of the resolver's state store. While there is none, ingest
// reads it every firstEpochPollInterval, because files that are read before the epoch is known are read again for it.
// A watch would need a consumer, and no service may create one at a broker that keeps its users apart.
const (
	epochPollInterval      = time.Second
	firstEpochPollInterval = 50 * time.Millisecond
)

// readEpoch returns the epoch of the resolver's state store, or "" if the resolver has not announced one.
func (w *work) readEpoch(ctx context.Context) (string, error) {
	bucket, err := w.deps.Conn.JS.KeyValue(ctx, topology.BucketState)
	if err != nil {
		return "", fmt.Errorf("open bucket %s: %w", topology.BucketState, err)
	}

	entry, err := bucket.Get(ctx, topology.KeyResolverEpoch)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return "", nil
	}

	if err != nil {
		return "", fmt.Errorf("read the epoch of the resolver's state store: %w", err)
	}

	epoch, _ := w.epochOf(entry)

	return epoch, nil
}

func (w *work) epochOf(entry jetstream.KeyValueEntry) (string, bool) {
	if entry.Operation() != jetstream.KeyValuePut {
		return "", false
	}

	var m event.StoreEpoch
	if err := event.Decode(entry.Value(), &m); err != nil {
		w.log.Error("cannot read the epoch of the resolver's state store, ignoring it: run the same version of all services", "error", err)
		return "", false
	}

	return m.Epoch, true
}

// followEpoch passes on the epoch that the resolver announces whenever it differs from the known one.
func (w *work) followEpoch(ctx context.Context, known string) error {
	for {
		interval := epochPollInterval
		if known == "" {
			interval = firstEpochPollInterval
		}

		if err := pause.For(ctx, interval); err != nil {
			return nil //nolint:nilerr // the session ends
		}

		epoch, err := w.readEpoch(ctx)
		switch {
		case errors.Is(err, jetstream.ErrBucketNotFound) && w.deps.Conn.Connected():
			return errors.Join(entries.ErrLost, err)
		case err != nil || epoch == "" || epoch == known:
			continue // the broker may be away for a moment
		}

		known = epoch

		select {
		case <-w.epochs: // drop an older epoch that was not handled yet
		default:
		}

		w.epochs <- epoch
	}
}

// read is the session's reader. Only it publishes entries, and it does one thing at a time.
func (w *work) read(ctx context.Context, epoch string) error {
	w.found.Again() // files that an earlier session took but did not read

	if err := w.recovery.Begin(ctx, epoch); err != nil {
		return err
	}

	for {
		if err := w.inbox.Read(ctx); err != nil {
			return err
		}

		w.onIdle()

		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-w.found.Ready():
		case epoch := <-w.epochs:
			err = w.recovery.Recover(ctx, epoch)
		case stalled := <-w.resend:
			err = w.resendWaiting(ctx, stalled)
		}

		if err != nil {
			return err
		}
	}
}

// keepHouse makes room in the stream of entries and detects stalls until ctx ends. It returns entries.ErrLost when a
// stream was recreated since the session began.
func (w *work) keepHouse(ctx context.Context) error {
	return pause.Every(ctx, w.check, func() error {
		if err := w.stream.CheckIdentities(ctx); errors.Is(err, entries.ErrLost) {
			return err
		}

		// The rest is tried again at the next tick. An outage of the broker is reported by the connection.
		if err := errors.Join(w.stream.Tidy(ctx), w.detectStall(ctx), w.feeds.save(ctx)); err != nil && ctx.Err() == nil {
			w.log.Debug("housekeeping failed, trying again", "error", err)
		}

		return nil
	})
}
