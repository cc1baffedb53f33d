package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrAbandoned is what OnSettled is told when a batch's handler did not finish in time: it may still be at work.
var ErrAbandoned = errors.New("handler did not finish in time")

// Item is one JetStream message of a batch. Its verdict methods may be called from any goroutine until the batch's
// Watermill message is acked or nacked; the last call wins.
type Item struct {
	Info
	Data []byte

	msg     jetstream.Msg
	mu      sync.Mutex
	verdict verdict
}

// Ack settles the item as done. It is the default when the batch is acked.
func (i *Item) Ack() { i.set(verdict{kind: acked}) }

// Nak lets the item come again after delay. Items without a verdict in a nacked batch come again after a back-off.
func (i *Item) Nak(delay time.Duration) { i.set(verdict{kind: nakked, delay: delay}) }

// Term settles the item for good, as one that cannot be processed.
func (i *Item) Term(reason string) { i.set(verdict{kind: termed, reason: reason}) }

func (i *Item) set(v verdict) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.verdict = v
}

// Decided says whether the item has a verdict.
func (i *Item) Decided() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.verdict.kind != undecided
}

func (i *Item) final(ack bool, backoff Backoff) verdict {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.verdict.kind != undecided:
		return i.verdict
	case ack:
		return verdict{kind: acked}
	default:
		return verdict{kind: nakked, delay: backoff(i.NumDelivered)}
	}
}

// Batch is a number of messages that are handled together. From Add until it is settled, each is kept from being
// delivered again. A Source builds it; then it belongs to the handler.
type Batch struct {
	// Items in the order of their arrival.
	Items []*Item
	// Bytes is the size of all payloads.
	Bytes int
	// OnSettled, if set by the Source, is called once when the batch is over. A nil error means that the server has
	// confirmed all acknowledgements. After ErrAbandoned the handler may still be working.
	OnSettled func(ctx context.Context, err error)

	// places are the items by what tells messages apart.
	places   map[place]*Item
	ackWait  time.Duration
	logger   *slog.Logger
	beat     *heartbeat
	stopBeat context.CancelFunc
	beating  sync.WaitGroup
}

// place tells messages apart.
type place struct {
	stream, consumer, subject string
	sequence                  uint64
}

// NewBatch returns an empty batch for messages of consumers with the given AckWait (the shortest, if there are several).
func NewBatch(ackWait time.Duration, logger *slog.Logger) *Batch {
	return &Batch{ackWait: ackWait, logger: logger, beat: newHeartbeat(), places: map[place]*Item{}}
}

// Add takes a message in and starts to keep it alive. It is for the goroutine that builds the batch. A message that the batch
// holds already, and that a broker which was killed meanwhile has delivered once more, stays one item: were it two, a
// handler could take one for the other's successor and let go of both.
func (b *Batch) Add(m jetstream.Msg) error {
	info, err := infoOf(m)
	if err != nil {
		return err
	}
	if b.stopBeat == nil {
		ctx, cancel := context.WithCancel(context.Background())
		b.stopBeat = cancel
		b.beating.Go(func() { b.beat.run(ctx, b.ackWait, b.logger) })
	}
	b.beat.add(m)
	at := place{info.Stream, info.Consumer, info.Subject, info.Sequence}
	if again := b.places[at]; again != nil {
		b.replace(again, info, m)
		return nil
	}
	item := &Item{Info: info, Data: m.Data(), msg: m}
	b.places[at] = item
	b.Items = append(b.Items, item)
	b.Bytes += len(m.Data())
	return nil
}

// replace puts a later delivery into an item: the last one is the one that counts for the broker. It is another message, and
// the latest to come, if the stream was lost meanwhile and has got as far as that again.
func (b *Batch) replace(item *Item, info Info, m jetstream.Msg) {
	if !info.Time.Equal(item.Time) {
		at := slices.Index(b.Items, item)
		b.Items = append(slices.Delete(b.Items, at, at+1), item)
	}
	b.Bytes += len(m.Data()) - len(item.Data)
	item.Info, item.Data, item.msg = info, m.Data(), m
}

// Fill adds up to n messages of a consumer and returns how many came. It waits for them for at most wait, but not less
// than a few milliseconds: a pull that asks not to wait at all sometimes comes back empty although messages are there.
// maxBytes, if not 0, limits their size on the wire; a message larger than that is then not fetched. A wait cannot be
// cut short without risking a delay of AckWait for a message, so keep it short.
func (b *Batch) Fill(cons jetstream.Consumer, n, maxBytes int, wait time.Duration) (int, error) {
	opts := []jetstream.FetchOpt{jetstream.FetchMaxWait(max(wait, minPull))}
	if maxBytes > 0 {
		opts = append(opts, jetstream.FetchMaxBytes(maxBytes))
	}
	msgs, err := cons.Fetch(n, opts...)
	if err != nil {
		return 0, fmt.Errorf("fetch: %w", err)
	}
	before := len(b.Items)
	for m := range msgs.Messages() {
		if addErr := b.Add(m); addErr != nil {
			err = addErr
		}
	}
	if err = errors.Join(err, msgs.Error()); err != nil {
		err = fmt.Errorf("fetch: %w", err)
	}
	return len(b.Items) - before, err
}

// minPull is the shortest pull, long enough for a server under load to look what it has.
const minPull = 10 * time.Millisecond

// morePull is for rounds that More has asked for, so there should be something: an empty one ends the batch.
const morePull = 50 * time.Millisecond

// Return gives all messages back, to be delivered again at once. It is for a batch that no handler has seen.
func (b *Batch) Return(ctx context.Context) {
	for _, i := range b.Items {
		i.Nak(0)
	}
	b.settle(ctx, false, DefaultBackoff)
}

// settle sends all verdicts. Plain acknowledgements are not confirmed by the server, but the confirmed one that comes
// last for each consumer stands for those before it.
func (b *Batch) settle(ctx context.Context, ack bool, backoff Backoff) {
	b.stop()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	var errs failures
	barriers := map[string]jetstream.Msg{}
	for _, i := range b.Items {
		v := i.final(ack, backoff)
		m := i.msg
		if v.kind == acked {
			key := i.Stream + "/" + i.Consumer
			m, barriers[key] = barriers[key], m
		}
		if m == nil {
			continue
		}
		if err := v.apply(m); err != nil {
			errs.add("", err)
		}
	}
	for _, m := range barriers {
		if err := m.DoubleAck(ctx); err != nil {
			errs.add("", err)
		}
	}
	err := errs.causes()
	if err != nil {
		b.logger.Warn("batch not settled completely, some of it comes again", "items", len(b.Items), "error", err)
	}
	b.over(ctx, err)
}

// abandon lets go of a batch whose handler is late: no verdicts, no more heartbeats.
func (b *Batch) abandon(ctx context.Context) {
	b.stop()
	b.logger.Warn("handler did not finish in time, its batch comes again after ack wait", "items", len(b.Items))
	b.over(context.WithoutCancel(ctx), ErrAbandoned)
}

func (b *Batch) stop() {
	if b.stopBeat != nil {
		b.stopBeat()
		b.beating.Wait()
	}
}

func (b *Batch) over(ctx context.Context, err error) {
	if b.OnSettled != nil {
		b.OnSettled(ctx, err)
	}
}

type batchKey struct{}

// BatchFrom returns the batch of a BatchSubscriber's message, nil for any other context.
func BatchFrom(ctx context.Context) *Batch {
	b, _ := ctx.Value(batchKey{}).(*Batch)
	return b
}

// Source yields batches. PullSource is one; a service may have its own, say over several consumers under leases.
type Source interface {
	// Fetch waits for a batch with at least one item, or until ctx ends; then its error is reported nowhere. After any
	// other error it is called again, with a back-off. With several Workers it is called concurrently.
	Fetch(ctx context.Context) (*Batch, error)
}

// BatchConfig says how batches are handed out. NewSource is required.
type BatchConfig struct {
	// NewSource opens the source of a topic; see PullSource.
	NewSource func(ctx context.Context, topic string) (Source, error)
	// OnLost is told if the source cannot be opened. Set it where a Router subscribes.
	OnLost func(error)
	// Workers is the number of batches at a time, for each subscription; default 1. The next batch is not fetched
	// before a worker is free.
	Workers int
	// CloseTimeout as in SubscriberConfig; default 20 s.
	CloseTimeout time.Duration
	// Backoff is the delay of items without a verdict in a nacked batch; default DefaultBackoff.
	Backoff Backoff
	// Logger, default slog.Default.
	Logger *slog.Logger
}

// BatchSubscriber is a message.Subscriber that yields one Watermill message, without payload, for a whole batch; the
// handler finds it with BatchFrom. So Watermill's middlewares act on a unit of work, such as a call of a remote API.
type BatchSubscriber struct {
	conn     *Conn
	cfg      BatchConfig
	sessions sessions
}

// NewBatchSubscriber returns a subscriber on conn.
func NewBatchSubscriber(conn *Conn, cfg BatchConfig) (*BatchSubscriber, error) {
	if cfg.NewSource == nil {
		return nil, errors.New("open batch subscriber: no source given")
	}
	cfg.Workers = max(cfg.Workers, 1)
	if cfg.CloseTimeout <= 0 {
		cfg.CloseTimeout = 20 * time.Second
	}
	if cfg.Backoff == nil {
		cfg.Backoff = DefaultBackoff
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	cfg.Logger = cfg.Logger.With("component", "bus")
	return &BatchSubscriber{conn: conn, cfg: cfg}, nil
}

// Subscribe opens the topic's source and hands out its batches until ctx ends or Close is called. If the source cannot be
// opened, that is an error, or told to OnLost and the channel is closed: to a Router, an error here would leave the handlers
// that run already without an end.
func (s *BatchSubscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	out := make(chan *message.Message)
	src, err := s.cfg.NewSource(ctx, topic)
	if err != nil {
		err = fmt.Errorf("subscribe to %s: %w", topic, err)
		if s.cfg.OnLost == nil {
			return nil, err
		}
		if ctx.Err() == nil {
			s.cfg.OnLost(err)
		}
		close(out)
		return out, nil
	}
	err = s.sessions.start(ctx, func(stop context.Context) { s.run(stop, src, out) })
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Close stops fetching, waits for the batches handed out, within CloseTimeout, settles them and closes the output
// channels. It is safe to call twice.
func (s *BatchSubscriber) Close() error {
	s.sessions.close()
	return nil
}

func (s *BatchSubscriber) run(stop context.Context, src Source, out chan<- *message.Message) {
	defer close(out)
	work, abandon := context.WithCancel(context.WithoutCancel(stop))
	defer abandon()
	var workers sync.WaitGroup
	for range s.cfg.Workers {
		workers.Go(func() {
			for s.next(stop, work, src, out) {
			}
		})
	}
	done := finished(&workers)
	select {
	case <-done: // the connection was closed
		return
	case <-stop.Done():
	}
	waitOr(done, s.cfg.CloseTimeout, abandon)
}

// next takes one batch through. False means the end.
func (s *BatchSubscriber) next(stop, work context.Context, src Source, out chan<- *message.Message) bool {
	b, ok := s.fetch(stop, src)
	if !ok {
		return false
	}
	ctx, cancel := context.WithCancel(context.WithValue(work, batchKey{}, b))
	defer cancel()
	msg := message.NewMessage(watermill.NewUUID(), nil)
	msg.SetContext(ctx)
	select {
	case out <- msg:
	case <-stop.Done():
		b.Return(work)
		return false
	}
	if ack, ok := awaitVerdict(work, msg); ok {
		b.settle(work, ack, s.cfg.Backoff)
	} else {
		b.abandon(work)
	}
	return true
}

// fetch gets a batch with at least one item. Failures are logged when they begin and retried with a back-off.
func (s *BatchSubscriber) fetch(stop context.Context, src Source) (*Batch, bool) {
	for n := uint64(1); stop.Err() == nil; n++ {
		b, err := src.Fetch(stop)
		switch {
		case err == nil && b != nil && len(b.Items) > 0:
			return b, true
		case stop.Err() != nil:
			return nil, false
		case err != nil && n == 1:
			s.cfg.Logger.Error("no batch to be had, trying again", "error", err)
		}
		if !pause(stop, min(DefaultBackoff(n), maxPullPause)) || s.conn.NC.IsClosed() {
			return nil, false
		}
	}
	return nil, false
}

// PullConfig says how PullSource builds a batch.
type PullConfig struct {
	// Resolve names the consumer of a topic.
	Resolve Resolver
	// MaxItems is the most messages of one round; default 1000. The consumer's MaxAckPending must be at least the size
	// of a batch, or the batch stays smaller.
	MaxItems int
	// MaxBytes is the most bytes of one round, as on the wire; 0 means no limit. The first message is exempt.
	MaxBytes int
	// Linger is how long to wait for more after the first message; 0 takes what is there.
	Linger time.Duration
	// More is asked after each round that brought something: true takes another round of what is there, into the same
	// batch. Bound it by the batch's size. Nil means one round.
	More func(*Batch) bool
	// PullWait as in SubscriberConfig; default 1 s.
	PullWait time.Duration
	// OnLost as in SubscriberConfig.
	OnLost func(error)
	// Logger, default slog.Default.
	Logger *slog.Logger
}

// PullSource makes, for BatchConfig.NewSource, sources that each take from the one consumer of their topic. It must
// exist (else ErrConsumerLost); when it is lost later the source waits until it is back. Such a source serves one
// worker at a time.
func PullSource(conn *Conn, cfg PullConfig) func(ctx context.Context, topic string) (Source, error) {
	if cfg.MaxItems <= 0 {
		cfg.MaxItems = 1000
	}
	if cfg.PullWait <= 0 {
		cfg.PullWait = defaultPullWait
	}
	return func(ctx context.Context, topic string) (Source, error) {
		ref, err := cfg.Resolve(ctx, topic)
		if err != nil {
			return nil, err
		}
		s := &pullSource{cfg: cfg, puller: newPuller(conn, ref, cfg.OnLost, cfg.Logger)}
		return s, s.puller.bind(ctx)
	}
}

type pullSource struct {
	cfg    PullConfig
	mu     sync.Mutex // one Fetch at a time, whatever the number of workers
	puller *puller
}

// Fetch implements Source.
func (s *pullSource) Fetch(ctx context.Context) (*Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ctx.Err() == nil {
		b := NewBatch(s.puller.ackWait, s.puller.logger)
		_, err := b.Fill(s.puller.cons, 1, 0, s.cfg.PullWait)
		if len(b.Items) > 0 {
			s.puller.worked()
			s.accumulate(ctx, b)
			return b, nil
		}
		if err != nil && !s.puller.failed(ctx, err) {
			return nil, err
		}
	}
	return nil, ctx.Err()
}

// accumulate adds to a batch that has its first item. A failure only ends it: what is there can be worked on.
func (s *pullSource) accumulate(ctx context.Context, b *Batch) {
	wait := s.cfg.Linger
	for size := s.cfg.MaxItems - 1; ; size = s.cfg.MaxItems {
		if size > 0 {
			n, err := s.round(ctx, b, size, wait)
			if err != nil || n == 0 {
				return
			}
		}
		wait = morePull
		if s.cfg.More == nil || ctx.Err() != nil || !s.cfg.More(b) {
			return
		}
	}
}

// round fetches up to size messages. A long wait is cut into pieces, so that a shutdown need not sit it out.
func (s *pullSource) round(ctx context.Context, b *Batch, size int, wait time.Duration) (int, error) {
	total, end := 0, time.Now().Add(wait)
	for {
		piece := min(time.Until(end), s.cfg.PullWait)
		started := time.Now()
		n, err := b.Fill(s.puller.cons, size-total, s.cfg.MaxBytes, max(piece, 0))
		total += n
		// A pull that ends before its time has met the limit of bytes.
		full := total >= size || time.Since(started) < piece
		if err != nil || full || ctx.Err() != nil || !time.Now().Before(end) {
			return total, err
		}
	}
}
