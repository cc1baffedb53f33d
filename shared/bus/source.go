package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/pause"
)

// ErrConsumerLost means that the stream or the consumer does not exist (any more) on the broker, or is not one that
// this package can use.
var ErrConsumerLost = errors.New("consumer does not exist")

// Source yields batches. PullSource returns one that reads a single consumer; a service may have its own, say over
// several consumers under leases.
type Source interface {
	// Fetch waits for a batch with at least one item, or until ctx ends; in that case its error is not reported. After
	// any other error it is called again, with a back-off.
	Fetch(ctx context.Context) (*Batch, error)
}

// Waits of a PullSource. A pull is left to end by itself, after defaultPullWait: if it were cut off, what the server
// sends at that moment could be lost until AckWait is over. Closing an idle subscriber therefore takes at most that
// long.
const (
	defaultPullWait      = time.Second
	firstRest, longRest  = 50 * time.Millisecond, 5 * time.Second
	bindTimeout          = 5 * time.Second
	defaultItemsPerBatch = 1000
)

// PullConfig says how PullSource builds a batch. Stream and Consumer are required.
type PullConfig struct {
	// Stream and Consumer name a durable pull consumer that somebody else has provisioned.
	Stream, Consumer string
	// MaxItems is the most messages of a batch; default 1000. The consumer's MaxAckPending must be at least that, or the
	// batch stays smaller.
	MaxItems int
	// MaxBytes is the most bytes of a batch, as on the wire; 0 means no limit. The first message is exempt.
	MaxBytes int
	// Linger is how long to wait for more messages after the first one; 0 takes what is there.
	Linger time.Duration
	// Gather makes it wait for more for as long as the previous batch was worked on, but at most this long. Where a
	// batch costs much whatever its size, this makes fewer batches, and those who work alongside have time to bring
	// more.
	Gather time.Duration
	// PullWait is the longest pull, and so the longest that closing an idle subscription takes; default 1 s.
	PullWait time.Duration
	// OnLost is called once per loss, when the consumer or its stream is gone; the error wraps ErrConsumerLost. The
	// source goes on when they are back. OnLost may provision them; it must not close the subscriber.
	OnLost func(error)
	// Logger, default slog.Default.
	Logger *slog.Logger
}

// PullSource returns a source that reads one consumer, which it looks up at the first Fetch. If the consumer is
// missing, then or later, the source waits until it is there.
func PullSource(conn *Conn, cfg PullConfig) Source {
	if cfg.MaxItems <= 0 {
		cfg.MaxItems = defaultItemsPerBatch
	}

	if cfg.PullWait <= 0 {
		cfg.PullWait = defaultPullWait
	}

	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}

	logger := cfg.Logger.With("component", "bus", "consumer", cfg.Stream+"/"+cfg.Consumer)

	return &pullSource{conn: conn, cfg: cfg, logger: logger, rest: pause.Doubling(firstRest, longRest)}
}

type pullSource struct {
	conn   *Conn
	cfg    PullConfig
	logger *slog.Logger
	rest   *pause.Backoff

	cons    jetstream.Consumer // nil until it is found, and again when it is lost
	ackWait time.Duration
	lost    bool
	// given is when the previous batch was handed out, and worked how long it was worked on.
	given  time.Time
	worked time.Duration
}

// Fetch implements Source.
func (s *pullSource) Fetch(ctx context.Context) (*Batch, error) {
	if !s.given.IsZero() {
		s.worked = time.Since(s.given)
	}

	for ctx.Err() == nil {
		b, err := s.pull(ctx)
		if b != nil && len(b.Items) > 0 {
			s.rest.Reset()
			s.given = time.Now()
			return b, nil
		}

		if err == nil {
			continue
		}

		if s.conn.NC.IsClosed() {
			return nil, err
		}

		s.cons = nil // it is looked up again
		s.logger.Debug("pull failed, trying again", "error", err)

		if err := s.rest.Wait(ctx); err != nil {
			return nil, err
		}
	}

	return nil, ctx.Err()
}

// pull makes a batch of the messages that are there, or that arrive within a pull.
func (s *pullSource) pull(ctx context.Context) (*Batch, error) {
	if s.cons == nil {
		if err := s.bind(ctx); err != nil {
			return nil, err
		}
	}

	b := NewBatch(s.ackWait, s.logger)
	_, err := b.Fill(s.cons, 1, 0, s.cfg.PullWait)
	if len(b.Items) > 0 {
		s.linger(ctx, b)
	}

	return b, err
}

// bind looks the consumer up. A missing one is reported once.
func (s *pullSource) bind(ctx context.Context) error {
	cons, err := s.lookUp(ctx)
	switch {
	case errors.Is(err, ErrConsumerLost) && !s.lost:
		s.lost = true
		s.logger.Error("consumer is missing on the broker, waiting for it", "error", err)

		if s.cfg.OnLost != nil {
			s.cfg.OnLost(err)
		}
	case err == nil && s.lost:
		s.lost = false
		s.logger.Info("consumer is back")
	}

	if err != nil {
		return err
	}

	s.cons, s.ackWait = cons, cons.CachedInfo().Config.AckWait

	return nil
}

func (s *pullSource) lookUp(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, bindTimeout)
	defer cancel()

	cons, err := s.conn.JS.Consumer(ctx, s.cfg.Stream, s.cfg.Consumer)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, fmt.Errorf("%w: %s/%s: provision it first: %w", ErrConsumerLost, s.cfg.Stream, s.cfg.Consumer, err)
	case err != nil:
		return nil, fmt.Errorf("bind to consumer %s/%s: %w", s.cfg.Stream, s.cfg.Consumer, err)
	}

	if policy := cons.CachedInfo().Config.AckPolicy; policy != jetstream.AckExplicitPolicy {
		return nil, fmt.Errorf("%w: the ack policy of %s/%s is %s, need explicit", ErrConsumerLost, s.cfg.Stream, s.cfg.Consumer, policy)
	}

	return cons, nil
}

// linger adds to a batch that has its first item what is there and what arrives within Linger or Gather. A failure only
// ends the wait, since the batch can be worked on as it is. A long wait is cut into pieces, so that a shutdown need not
// sit it out.
func (s *pullSource) linger(ctx context.Context, b *Batch) {
	end := time.Now().Add(max(s.cfg.Linger, min(s.worked, s.cfg.Gather)))
	for len(b.Items) < s.cfg.MaxItems {
		piece := min(time.Until(end), s.cfg.PullWait)
		started := time.Now()
		_, err := b.Fill(s.cons, s.cfg.MaxItems-len(b.Items), s.cfg.MaxBytes, piece)
		// A pull that ends before its time has reached the limit of bytes.
		if err != nil || time.Since(started) < piece || ctx.Err() != nil || !time.Now().Before(end) {
			return
		}
	}
}
