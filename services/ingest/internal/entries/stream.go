// Package entries is ingest's side of the broker: it puts entries into their stream, makes room in it, and notices when it is lost.
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

// ErrLost means that a stream, a consumer or the bucket is not there any more: the session ends and the next one recreates it.
var ErrLost = errors.New("the broker's store is not what it was")

// identified are the streams whose loss takes something along that was under way.
var identified = []string{topology.StreamEntries, topology.StreamAcks, topology.StreamUpdates}

// Config is what a Stream needs; all fields are required.
type Config struct {
	Conn *bus.Conn
	Log  *slog.Logger
	// MaxAge is how long entries are kept that were read.
	MaxAge time.Duration
	Now    func() time.Time
	// FirstPause and MaxPause are the pauses before what failed is tried again.
	FirstPause, MaxPause time.Duration
}

// Stream is the stream of entries, within one session with the broker. Send is for one goroutine at a time, the rest for several.
type Stream struct {
	// Identities are when each stream was made, as of the session's start; see topology.Identity.
	Identities map[string]string

	cfg Config
	pub *bus.Publisher

	fullSince time.Time // since when it is full
	warned    time.Time
}

// Open returns the stream, which must be there. Close it after use.
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

// Close waits for calls that are under way; there must be none any more.
func (s *Stream) Close() { _ = s.pub.Close() }

// Publisher returns the publisher of the session, for other streams.
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

// SameStreams is CheckIdentities, and waits for the end of an outage.
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

// rest waits, and doubles the next wait.
func (s *Stream) rest(ctx context.Context, wait *time.Duration) error {
	now := *wait
	*wait = min(2*now, s.cfg.MaxPause)
	return pause.For(ctx, now)
}

// Send publishes messages, however long it takes. It returns an error only when the context ends or the stream is gone.
func (s *Stream) Send(ctx context.Context, msgs []*message.Message) error {
	wait, warned := s.cfg.FirstPause, s.cfg.Now() // a short outage is not worth a line
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

// publish stores messages: whole, with one sync of the broker's for all of them, or one by one. What is too large in one piece for a
// slow way to the broker gets there one by one, since the broker recognizes those that it has stored.
func (s *Stream) publish(ctx context.Context, msgs []*message.Message, whole bool) error {
	if whole && len(msgs) > 1 {
		_, err := s.pub.PublishBatch(ctx, msgs...)
		if !errors.Is(err, bus.ErrNoAtomicPublish) { // the stream is as an earlier version has made it
			return err
		}
	}

	return s.pub.PublishAll(ctx, msgs...)
}

// sendIntoFull publishes one message after the other, so that it is known which of them are stored, and waits for room.
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
