package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrConsumerLost means that the stream or the consumer does not exist (any more) on the broker.
var ErrConsumerLost = errors.New("consumer does not exist")

// ConsumerRef names a durable pull consumer that somebody else has provisioned.
type ConsumerRef struct {
	Stream string
	Name   string
}

func (r ConsumerRef) String() string { return r.Stream + "/" + r.Name }

// Resolver maps a Watermill topic to its consumer.
type Resolver func(ctx context.Context, topic string) (ConsumerRef, error)

// Pulls end after pullWait, because one that is cut off may lose what the server sends at that moment until AckWait
// is over. It is therefore also how long closing an idle subscriber takes at most.
const (
	defaultPullWait = time.Second
	maxPullPause    = 5 * time.Second
)

// puller fetches from one consumer and finds it again after failures. It belongs to one goroutine.
type puller struct {
	conn   *Conn
	ref    ConsumerRef
	onLost func(error)
	logger *slog.Logger

	cons     jetstream.Consumer
	ackWait  time.Duration
	failures int
	lost     bool
}

func newPuller(conn *Conn, ref ConsumerRef, onLost func(error), logger *slog.Logger) *puller {
	if logger == nil {
		logger = slog.Default()
	}
	return &puller{conn: conn, ref: ref, onLost: onLost, logger: logger.With("component", "bus", "consumer", ref.String())}
}

// bind looks the consumer up. Its error wraps ErrConsumerLost if there is none.
func (p *puller) bind(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cons, err := p.conn.JS.Consumer(ctx, p.ref.Stream, p.ref.Name)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("%w: %s: provision it first: %w", ErrConsumerLost, p.ref, err)
	case err != nil:
		return fmt.Errorf("bind to consumer %s: %w", p.ref, err)
	}
	cfg := cons.CachedInfo().Config
	if cfg.AckPolicy != jetstream.AckExplicitPolicy {
		return fmt.Errorf("bind to consumer %s: ack policy is %s, need explicit", p.ref, cfg.AckPolicy)
	}
	p.cons, p.ackWait = cons, cfg.AckWait
	return nil
}

// worked resets the back-off.
func (p *puller) worked() { p.failures = 0 }

// failed takes a failed pull: it rests, longer each time, and looks the consumer up again. False means that there is
// nothing more to be had, because ctx ended or the connection was closed for good.
func (p *puller) failed(ctx context.Context, err error) bool {
	for ctx.Err() == nil {
		if p.conn.NC.IsClosed() {
			p.logger.Error("connection closed, stop consuming", "error", err)
			return false
		}
		if bindErr := p.bind(ctx); bindErr == nil {
			p.found(err)
			return p.rest(ctx)
		} else if errors.Is(bindErr, ErrConsumerLost) {
			p.missing(bindErr)
		}
		if !p.rest(ctx) {
			return false
		}
	}
	return false
}

func (p *puller) found(cause error) {
	if p.lost {
		p.lost = false
		p.logger.Info("consumer is back")
		return
	}
	p.logger.Debug("pull failed, trying again", "error", cause)
}

// missing reports a lost consumer once.
func (p *puller) missing(err error) {
	if p.lost {
		return
	}
	p.lost = true
	p.logger.Error("consumer is missing on the broker, waiting for it", "error", err)
	if p.onLost != nil {
		p.onLost(err)
	}
}

func (p *puller) rest(ctx context.Context) bool {
	p.failures++
	return pause(ctx, min(50*time.Millisecond<<min(p.failures, 8), maxPullPause))
}

// flush makes sure that acknowledgements have reached the server.
func (p *puller) flush() {
	if err := p.conn.NC.FlushTimeout(2 * time.Second); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		p.logger.Warn("last acknowledgements may not have arrived, their messages will come again", "error", err)
	}
}

// sessions owns the goroutines of a subscriber.
type sessions struct {
	mu     sync.Mutex
	closed bool
	stops  map[*context.CancelFunc]struct{}
	wg     sync.WaitGroup
}

// start runs fn until it returns; its context ends with ctx or with close.
func (s *sessions) start(ctx context.Context, fn func(ctx context.Context)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("subscribe: %w", ErrClosed)
	}
	if s.stops == nil {
		s.stops = map[*context.CancelFunc]struct{}{}
	}
	ctx, stop := context.WithCancel(ctx)
	s.stops[&stop] = struct{}{}
	s.wg.Go(func() {
		defer func() {
			stop()
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.stops, &stop)
		}()
		fn(ctx)
	})
	return nil
}

// close stops all sessions and waits for them.
func (s *sessions) close() {
	s.mu.Lock()
	s.closed = true
	for stop := range s.stops {
		(*stop)()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// finished returns a channel that is closed when wg is done.
func finished(wg *sync.WaitGroup) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		wg.Wait()
	}()
	return done
}

// waitOr waits for done; after limit it calls hurry, once, and goes on waiting.
func waitOr(done <-chan struct{}, limit time.Duration, hurry func()) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return
	case <-timer.C:
	}
	hurry()
	<-done
}
