package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go/jetstream"
)

// abandonGrace is what handlers get to answer the end of their context.
const abandonGrace = time.Second

// SubscriberConfig says how messages are consumed. Resolve is required.
type SubscriberConfig struct {
	// Resolve names the consumer of a topic.
	Resolve Resolver
	// MaxInFlight is the most messages handed out and not settled, for each subscription; default 64. No more than that
	// are fetched. With 1, messages arrive strictly one after the other. The Router starts a goroutine for each.
	MaxInFlight int
	// CloseTimeout is how long handlers may go on after Close or the end of the subscription's context; then their
	// contexts end. What they do not settle comes again after AckWait. Default 20 s.
	CloseTimeout time.Duration
	// PullWait is the longest pull, and so the longest that closing an idle subscription takes; default 1 s.
	PullWait time.Duration
	// Backoff is the delay after a Nack for which the handler named none; default DefaultBackoff.
	Backoff Backoff
	// Unmarshal makes the Watermill message; default Unmarshal. A message that it refuses is unreadable.
	Unmarshal func(jetstream.Msg) (*message.Message, error)
	// DeadLetter keeps an unreadable message before it is settled for good (Term). If it fails the message comes again.
	// Without it an unreadable message is logged and settled.
	DeadLetter func(ctx context.Context, m jetstream.Msg, cause error) error
	// OnLost is told, once per loss, that the consumer or its stream is gone; the error wraps ErrConsumerLost. The
	// subscription goes on when they are back. It may provision them; it must not close the subscriber.
	OnLost func(error)
	// Logger, default slog.Default.
	Logger *slog.Logger
}

func (c SubscriberConfig) withDefaults() SubscriberConfig {
	if c.MaxInFlight <= 0 {
		c.MaxInFlight = 64
	}
	if c.CloseTimeout <= 0 {
		c.CloseTimeout = 20 * time.Second
	}
	if c.PullWait <= 0 {
		c.PullWait = defaultPullWait
	}
	if c.Backoff == nil {
		c.Backoff = DefaultBackoff
	}
	if c.Unmarshal == nil {
		c.Unmarshal = Unmarshal
	}
	return c
}

// Subscriber is a message.Subscriber over durable pull consumers, several messages at a time. While a message is in a
// handler's hands its AckWait is extended, for as long as it takes: bound handlers with a timeout of their own.
//
// A message's context carries InfoFrom, NakAfter and Term; it ends when the message is settled, and outlives the end of
// the subscription's context by CloseTimeout. The output channel is closed last, when all acknowledgements are sent.
type Subscriber struct {
	conn     *Conn
	cfg      SubscriberConfig
	sessions sessions
}

// NewSubscriber returns a subscriber on conn.
func NewSubscriber(conn *Conn, cfg SubscriberConfig) (*Subscriber, error) {
	if cfg.Resolve == nil {
		return nil, errors.New("open subscriber: no resolver given")
	}
	return &Subscriber{conn: conn, cfg: cfg.withDefaults()}, nil
}

// Subscribe binds to the topic's consumer, which must exist (else ErrConsumerLost), and hands out its messages until
// ctx ends or Close is called.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	ref, err := s.cfg.Resolve(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", topic, err)
	}
	p := newPuller(s.conn, ref, s.cfg.OnLost, s.cfg.Logger)
	if err := p.bind(ctx); err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", topic, err)
	}
	ses := &session{
		cfg: s.cfg, puller: p, beat: newHeartbeat(),
		out:   make(chan *message.Message),
		slots: make(chan struct{}, s.cfg.MaxInFlight),
	}
	if err := s.sessions.start(ctx, ses.run); err != nil {
		return nil, err
	}
	return ses.out, nil
}

// Close stops fetching, waits for the messages handed out, within CloseTimeout, sends their acknowledgements and closes
// the output channels. It is safe to call twice.
func (s *Subscriber) Close() error {
	s.sessions.close()
	return nil
}

// session is one subscription.
type session struct {
	cfg    SubscriberConfig
	puller *puller
	beat   *heartbeat
	out    chan *message.Message
	slots  chan struct{} // holds one element per message fetched and not settled
	work   context.Context
	handed sync.WaitGroup
}

// parcel is a message on its way to a handler.
type parcel struct {
	raw    jetstream.Msg
	msg    *message.Message
	d      *delivery
	cancel context.CancelFunc
}

func (s *session) run(stop context.Context) {
	defer close(s.out)
	var abandon context.CancelFunc
	s.work, abandon = context.WithCancel(context.WithoutCancel(stop))
	defer abandon()

	beating, stopBeat := context.WithCancel(context.Background())
	var beat sync.WaitGroup
	ackWait := s.puller.ackWait // read here: the puller belongs to this goroutine
	beat.Go(func() { s.beat.run(beating, ackWait, s.puller.logger) })
	defer beat.Wait()
	defer stopBeat()

	for s.fetch(stop) {
	}
	waitOr(finished(&s.handed), s.cfg.CloseTimeout, abandon)
	s.puller.flush()
}

// fetch pulls as many messages as there are free slots, and hands them out. False means the end.
func (s *session) fetch(stop context.Context) bool {
	n := s.reserve(stop)
	if n == 0 {
		return false
	}
	used := 0
	defer func() { s.release(n - used) }()
	batch, err := s.puller.cons.Fetch(n, jetstream.FetchMaxWait(s.cfg.PullWait))
	if err == nil {
		used = s.handOut(stop, batch.Messages())
		err = batch.Error()
	}
	switch {
	case stop.Err() != nil:
		return false
	case err != nil:
		return s.puller.failed(stop, err)
	default:
		s.puller.worked()
		return true
	}
}

// reserve waits for a free slot and takes all that are free. 0 means that stop ended.
func (s *session) reserve(stop context.Context) int {
	if stop.Err() != nil {
		return 0
	}
	select {
	case s.slots <- struct{}{}:
	case <-stop.Done():
		return 0
	}
	n := 1
	for ; n < cap(s.slots); n++ {
		select {
		case s.slots <- struct{}{}:
			continue
		default:
		}
		break
	}
	return n
}

func (s *session) release(n int) {
	for range n {
		<-s.slots
	}
}

// handOut passes messages on in their order and returns how many there were. It takes each in as soon as it arrives,
// since only then it is kept alive. After stop it gives back what nobody has taken, at once and without delay.
func (s *session) handOut(stop context.Context, in <-chan jetstream.Msg) (count int) {
	var queue []*parcel
	done := stop.Done()
	for in != nil || len(queue) > 0 {
		var out chan<- *message.Message
		var next *message.Message
		if len(queue) > 0 {
			out, next = s.out, queue[0].msg
		}
		select {
		case m, ok := <-in:
			if !ok {
				in = nil
				continue
			}
			count++
			if p := s.receive(m); p != nil {
				queue = append(queue, p)
			}
		case out <- next:
			p := queue[0]
			queue = queue[1:]
			s.handed.Go(func() { s.await(p) })
		case <-done:
			done = nil
		}
		if done == nil {
			for _, p := range queue {
				s.settle(p.raw, verdict{kind: nakked})
				p.cancel()
			}
			queue = nil
		}
	}
	return count
}

// receive starts the heartbeat of m and makes a Watermill message of it; nil if it is unreadable.
func (s *session) receive(m jetstream.Msg) *parcel {
	s.beat.add(m)
	info, err := infoOf(m)
	var msg *message.Message
	if err == nil {
		msg, err = s.unmarshal(m)
	}
	if err != nil {
		s.handed.Go(func() { s.unreadable(m, info, err) })
		return nil
	}
	d := &delivery{info: info}
	ctx, cancel := context.WithCancel(context.WithValue(s.work, deliveryKey{}, d))
	msg.SetContext(ctx)
	return &parcel{raw: m, msg: msg, d: d, cancel: cancel}
}

func (s *session) unmarshal(m jetstream.Msg) (msg *message.Message, err error) {
	defer recovered(&err)
	if msg, err = s.cfg.Unmarshal(m); err == nil && msg == nil {
		err = errors.New("unmarshaler returned no message")
	}
	return msg, err
}

// unreadable keeps a message that no handler can be given.
func (s *session) unreadable(m jetstream.Msg, info Info, cause error) {
	logger := s.puller.logger.With("sequence", info.Sequence)
	v := verdict{kind: termed, reason: "unreadable"}
	if err := s.deadLetter(m, cause); err != nil {
		logger.Error("unreadable message could not be dead-lettered, it will come again", "error", err, "cause", cause)
		v = verdict{kind: nakked, delay: s.cfg.Backoff(info.NumDelivered)}
	} else {
		logger.Error("unreadable message settled", "error", cause, "dead_lettered", s.cfg.DeadLetter != nil)
	}
	s.settle(m, v)
}

func (s *session) deadLetter(m jetstream.Msg, cause error) (err error) {
	if s.cfg.DeadLetter == nil {
		return nil
	}
	defer recovered(&err)
	return s.cfg.DeadLetter(s.work, m, cause)
}

// recovered turns a panic into *err.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
	}
}

// await settles a message as its handler says.
func (s *session) await(p *parcel) {
	defer p.cancel()
	ack, ok := awaitVerdict(s.work, p.msg)
	if !ok {
		s.puller.logger.Warn("handler did not finish in time, message comes again after ack wait", "sequence", p.d.info.Sequence)
		s.beat.remove(p.raw)
		s.release(1)
		return
	}
	s.settle(p.raw, p.d.final(ack, s.cfg.Backoff))
}

// awaitVerdict waits for Ack (true) or Nack. When work ends it waits a little longer; then ok is false.
func awaitVerdict(work context.Context, msg *message.Message) (ack, ok bool) {
	select {
	case <-msg.Acked():
		return true, true
	case <-msg.Nacked():
		return false, true
	case <-work.Done():
	}
	grace := time.NewTimer(abandonGrace)
	defer grace.Stop()
	select {
	case <-msg.Acked():
		return true, true
	case <-msg.Nacked():
		return false, true
	case <-grace.C:
		return false, false
	}
}

// settle ends the heartbeat of m, sends the verdict and frees the slot, in this order: a heartbeat after a Nak would
// undo its delay.
func (s *session) settle(m jetstream.Msg, v verdict) {
	s.beat.remove(m)
	if err := v.apply(m); err != nil {
		s.puller.logger.Warn("verdict not sent, message comes again after ack wait", "error", err)
	}
	s.release(1)
}
