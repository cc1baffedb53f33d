// Package entries is ingest's side of the broker: it publishes entries into their stream, makes room in it, and
// notices when it is lost.
package entries

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/bus"
	"bobosync/shared/pause"
	"bobosync/shared/topology"
)

// ErrLost means that a stream, a consumer or the bucket is gone: the session ends, and the next one recreates it.
var ErrLost = errors.New("the broker's store is not what it was")

// identified are the streams that may hold something under way, which is lost with them.
var identified = []string{topology.StreamEntries, topology.StreamAcks, topology.StreamUpdates}

// Config is what a Stream needs; all fields are required.
type Config struct {
	Conn *bus.Conn
	Log  *slog.Logger
	// MaxAge is how long entries are kept that the resolver has read.
	MaxAge time.Duration
	Now    func() time.Time
	// FirstPause and MaxPause are the first and the longest pause before a failed operation is tried again.
	FirstPause, MaxPause time.Duration
}

// Stream is the stream of entries, within one session with the broker. Send is for one goroutine at a time; the other
// methods are safe for concurrent use.
type Stream struct {
	// Identities says when each stream was created, as of the session's start; see topology.Identity.
	Identities map[string]string

	cfg Config
	pub *bus.Publisher

	fullSince time.Time // since when the stream is full; zero if it is not
	warned    time.Time
}

// Open returns the stream, which must exist. Close it after use.
func Open(ctx context.Context, cfg Config) (*Stream, error) {
	s := &Stream{Identities: map[string]string{}, cfg: cfg}
	for _, stream := range identified {
		identity, err := topology.Identity(ctx, cfg.Conn.JS, stream)
		if err != nil {
			return nil, err
		}

		s.Identities[stream] = identity
	}

	pub, err := bus.NewPublisher(cfg.Conn, bus.PublisherConfig{})
	if err != nil {
		return nil, err
	}

	s.pub = pub

	return s, nil
}

// Close closes the stream. No call should be under way any more; it waits for those that are.
func (s *Stream) Close() { _ = s.pub.Close() }

// Publisher returns the session's publisher, which serves other streams too.
func (s *Stream) Publisher() *bus.Publisher { return s.pub }

// CheckIdentities returns ErrLost if a stream was recreated since the session began.
func (s *Stream) CheckIdentities(ctx context.Context) error {
	for stream, want := range s.Identities {
		have, err := topology.Identity(ctx, s.cfg.Conn.JS, stream)
		if errors.Is(err, jetstream.ErrStreamNotFound) || err == nil && have != want {
			return fmt.Errorf("stream %s: %w", stream, ErrLost)
		}

		if err != nil {
			return err
		}
	}

	return nil
}

// SameStreams is CheckIdentities, but waits out an outage of the broker.
func (s *Stream) SameStreams(ctx context.Context) error {
	wait := s.cfg.FirstPause
	for {
		err := s.CheckIdentities(ctx)
		if err == nil || errors.Is(err, ErrLost) {
			return err
		}

		if err := s.rest(ctx, &wait); err != nil {
			return err
		}
	}
}

// rest waits for the given time, and doubles the next wait up to the longest pause.
func (s *Stream) rest(ctx context.Context, wait *time.Duration) error {
	now := *wait
	*wait = min(2*now, s.cfg.MaxPause)
	return pause.For(ctx, now)
}

// Send publishes messages, however long that takes. It returns an error only if ctx ends or the stream is gone.
func (s *Stream) Send(ctx context.Context, msgs []*message.Message) error {
	wait, warned := s.cfg.FirstPause, s.cfg.Now() // a short outage is not worth a log line
	for whole := true; ; whole = false {
		err := s.publish(ctx, msgs, whole)
		if errors.Is(err, bus.ErrStreamFull) {
			return s.sendIntoFull(ctx, msgs)
		}

		if err == nil || ctx.Err() != nil {
			return err
		}

		if errors.Is(err, bus.ErrNoStream) && s.cfg.Conn.Connected() {
			return errors.Join(ErrLost, err)
		}

		if now := s.cfg.Now(); now.Sub(warned) >= time.Minute {
			warned = now

			s.cfg.Log.Warn("entries cannot be published, trying again", "messages", len(msgs), "error", err)
		}

		if err := s.rest(ctx, &wait); err != nil {
			return err
		}
	}
}

// publish stores messages: if whole is set as one batch, which the broker syncs to disk once, and otherwise one by
// one. A batch that is too large for a slow connection still gets through one by one, since the broker recognizes the
// messages that it has already stored.
func (s *Stream) publish(ctx context.Context, msgs []*message.Message, whole bool) error {
	if whole && len(msgs) > 1 {
		_, err := s.pub.PublishBatch(ctx, msgs...)
		if !errors.Is(err, bus.ErrNoAtomicPublish) { // the stream was created by an earlier version
			return err
		}
	}

	return s.pub.PublishAll(ctx, msgs...)
}

// sendIntoFull publishes one message after the other, so that it knows which of them are stored, and waits for room.
// A file never fails because the stream is full.
func (s *Stream) sendIntoFull(ctx context.Context, msgs []*message.Message) error {
	wait := s.cfg.FirstPause
	for len(msgs) > 0 {
		err := s.pub.PublishAll(ctx, msgs[0])
		switch {
		case err == nil:
			msgs, wait = msgs[1:], s.cfg.FirstPause
			continue
		case ctx.Err() != nil:
			return err
		case !errors.Is(err, bus.ErrStreamFull):
			if err := s.Send(ctx, msgs); err != nil {
				return err
			}

			msgs = nil

			continue
		}

		purged, err := s.purgeRead(ctx)
		if err != nil {
			s.cfg.Log.Debug("cannot make room in the stream of entries", "error", err)
		}

		if purged > 0 {
			continue
		}

		s.warnFull()

		if err := s.rest(ctx, &wait); err != nil {
			return err
		}
	}

	if !s.fullSince.IsZero() {
		s.cfg.Log.Info("there is room for entries again", "seconds", s.cfg.Now().Sub(s.fullSince).Seconds())
		s.fullSince = time.Time{}
	}

	return nil
}

func (s *Stream) warnFull() {
	now := s.cfg.Now()
	if s.fullSince.IsZero() {
		s.fullSince, s.warned = now, time.Time{}
	}

	if now.Sub(s.warned) >= time.Minute {
		s.warned = now
		s.cfg.Log.Warn("the broker has no room for more entries, waiting until the resolver has read what is there: make sure that it runs, or raise ENTRIES_MAX_BYTES",
			"seconds", now.Sub(s.fullSince).Seconds())
	}
}
