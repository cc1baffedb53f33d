package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"golang.org/x/sync/semaphore"

	"bobosync/shared/cas"
)

// MaxBatch is the most messages that a server takes in one atomic batch.
const MaxBatch = 1000

// Errors of publishing, for use with errors.Is.
var (
	// ErrStreamFull means that the stream or the broker has reached its storage limit: wait, then publish again.
	ErrStreamFull = errors.New("stream is full")
	// ErrNoStream means that no stream takes the subject, or that JetStream is not available.
	ErrNoStream = errors.New("no stream takes this subject")
	// ErrWrongSequence means that an expected last sequence did not hold: somebody else wrote first.
	ErrWrongSequence = errors.New("expected last sequence did not match")
	// ErrNoAtomicPublish means that the stream was made without AllowAtomicPublish.
	ErrNoAtomicPublish = errors.New("stream does not allow atomic batches")
	// ErrClosed means that the publisher or subscriber was closed.
	ErrClosed = errors.New("closed")
)

// PublisherConfig sets the limits of a Publisher. The zero value works.
type PublisherConfig struct {
	// Window is the most messages in flight, over all calls; default 256.
	Window int
	// Timeout limits a call whose context has no deadline; default 30 s.
	Timeout time.Duration
}

// Publisher is a message.Publisher whose topics are subjects. When a call returns nil, every message is stored, and
// synced to disk if the broker is set so. After an error the outcome of each message is unknown; publish them all
// again, and give them message ids if storing one twice would hurt. It may be used from several goroutines.
type Publisher struct {
	conn   *Conn
	js     jetstream.JetStream // its own, so that Close ends only this publisher's acknowledgements
	cfg    PublisherConfig
	window *semaphore.Weighted
	closed atomic.Bool
	calls  sync.WaitGroup
	mu     sync.Mutex // orders begin against Close
}

// NewPublisher returns a publisher on conn.
func NewPublisher(conn *Conn, cfg PublisherConfig) (*Publisher, error) {
	if cfg.Window <= 0 {
		cfg.Window = 256
	}

	if cfg.Timeout <= 0 {
		cfg.Timeout = 30 * time.Second
	}

	js, err := jetstream.New(conn.NC,
		jetstream.WithPublishAsyncMaxPending(math.MaxInt32), // the window bounds it, and can be waited for with a context
		jetstream.WithDefaultTimeout(cfg.Timeout))
	if err != nil {
		return nil, fmt.Errorf("open publisher: %w", err)
	}

	return &Publisher{conn: conn, js: js, cfg: cfg, window: semaphore.NewWeighted(int64(cfg.Window))}, nil
}

// Publish stores messages under the subject topic, in order unless one fails. The context of the first message limits
// the call. Metadata become headers; see MsgIDKey.
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	if len(messages) == 0 {
		return nil
	}
	return p.publish(messages[0].Context(), topic, messages)
}

// PublishAll stores messages made by NewMessage, each under its own subject, one by one, with many in flight. Its error
// counts the failures and joins their causes.
func (p *Publisher) PublishAll(ctx context.Context, messages ...*message.Message) error {
	if len(messages) == 0 {
		return nil
	}
	return p.publish(ctx, "", messages)
}

func (p *Publisher) publish(ctx context.Context, topic string, messages []*message.Message) error {
	msgs, err := marshal(topic, messages)
	if err != nil {
		return fmt.Errorf("publish to %s: %w", family(subjectOf(messages[0], topic)), err)
	}

	ctx, done, err := p.begin(ctx)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	defer done()

	_, err = p.publishEach(ctx, msgs)

	return err
}

// begin registers a call, so that Close can wait for it, and sets its deadline.
func (p *Publisher) begin(ctx context.Context) (context.Context, func(), error) {
	p.mu.Lock()
	defer p.mu.Unlock()

	if p.closed.Load() {
		return nil, nil, ErrClosed
	}

	p.calls.Add(1)

	cancel := func() {}
	if _, ok := ctx.Deadline(); !ok {
		ctx, cancel = context.WithTimeout(ctx, p.cfg.Timeout)
	}

	return ctx, func() { cancel(); p.calls.Done() }, nil
}

// flight is one call's messages under way.
type flight struct {
	p       *Publisher
	futures []jetstream.PubAckFuture // oldest first
	stored  int                      // messages that are in the stream now
	last    uint64                   // the highest sequence of those that this call stored
	errs    failures
	attempt *attempt
}

// publishEach returns the highest sequence of the messages that it has stored.
func (p *Publisher) publishEach(ctx context.Context, msgs []*nats.Msg) (uint64, error) {
	f := flight{p: p, futures: make([]jetstream.PubAckFuture, 0, min(len(msgs), p.cfg.Window)), attempt: p.conn.unstored.begin(family(msgs[0].Subject))}
	for _, m := range msgs {
		if err := f.send(ctx, m); err != nil {
			f.errs.add(m.Subject, err)
		}

		if ctx.Err() != nil {
			break
		}
	}

	for len(f.futures) > 0 {
		f.settleOldest(ctx)
	}

	p.conn.unstored.note(f.attempt, f.errs.causes())

	return f.last, f.errs.join(len(msgs)-f.stored, len(msgs))
}

// send waits for a place in the window, settling this call's own messages first, and puts m on the wire.
func (f *flight) send(ctx context.Context, m *nats.Msg) error {
	for !f.p.window.TryAcquire(1) {
		if len(f.futures) > 0 {
			f.settleOldest(ctx)
			continue
		}

		if err := f.p.window.Acquire(ctx, 1); err != nil {
			return err
		}

		break
	}

	future, err := f.p.js.PublishMsgAsync(m)
	if err != nil {
		f.p.window.Release(1)
		return err
	}

	f.futures = append(f.futures, future)

	return nil
}

func (f *flight) settleOldest(ctx context.Context) {
	future := f.futures[0]
	f.futures = f.futures[1:]
	defer f.p.window.Release(1)

	select {
	case ack := <-future.Ok():
		f.stored++
		f.p.conn.unstored.goesOn(f.attempt)

		if !ack.Duplicate {
			f.last = max(f.last, ack.Sequence)
		}
	case err := <-future.Err():
		f.errs.add(future.Msg().Subject, err)
	case <-ctx.Done():
		f.errs.add(future.Msg().Subject, context.Cause(ctx))
	}
}

// PublishBatch stores messages made by NewMessage, each under its own subject, in order, in atomic batches of up to
// MaxBatch: all of a batch becomes visible, or nothing. It is the fast way to a broker that syncs each write. It
// returns the stream's sequence of the last message that was stored.
//
// A server refuses a whole batch if it already knows one of the message ids (error 10201), for example because the
// answer to an earlier call was lost. Such a batch is published again message by message, so that all of it is stored
// and nothing twice. Only in this case do its messages become visible one by one.
//
// Errors wrap ErrServerTooOld (before 2.12), ErrNoAtomicPublish, ErrStreamFull, ErrNoStream or ErrWrongSequence.
// Batches before the failed one stay stored.
func (p *Publisher) PublishBatch(ctx context.Context, messages ...*message.Message) (last uint64, err error) {
	msgs, ctx, done, err := p.beginBatch(ctx, messages)
	if err != nil {
		return 0, err
	}
	defer done()

	for chunk := range slices.Chunk(msgs, MaxBatch) {
		at, _, err := p.publishChunk(ctx, chunk)
		last = max(last, at)
		if err != nil {
			return last, err
		}
	}

	return last, nil
}

// PublishWhole is PublishBatch for at most MaxBatch messages. It also reports whether the messages directly follow one
// another in the stream, up to the last; they do unless some of them had been stored before.
func (p *Publisher) PublishWhole(ctx context.Context, messages ...*message.Message) (last uint64, whole bool, err error) {
	msgs, ctx, done, err := p.beginBatch(ctx, messages)
	if err != nil {
		return 0, false, err
	}
	defer done()

	return p.publishChunk(ctx, msgs)
}

func (p *Publisher) beginBatch(ctx context.Context, messages []*message.Message) ([]*nats.Msg, context.Context, func(), error) {
	msgs, err := marshal("", messages)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("publish batch: %w", err)
	}

	ctx, done, err := p.begin(ctx)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("publish batch: %w", err)
	}

	if err := p.conn.RequireAPILevel(ctx, LevelAtomicBatch, "publishing atomic batches"); err != nil {
		done()
		return nil, nil, nil, err
	}

	return msgs, ctx, done, nil
}

const (
	// chunkTimeout is how long the broker may take to store one atomic batch, which it syncs once.
	chunkTimeout = 8 * time.Second
	// firstTimeout is how long it may take to answer the batch's first message, which it only buffers. The library does
	// not let a context end this wait. If a broker is killed just then, all who need what the caller has locked would
	// otherwise be blocked for the publisher's whole timeout.
	firstTimeout = 3 * time.Second
)

// publishChunk publishes one atomic batch. The library writes its headers into the messages, so it gets copies: the
// originals may be published again.
func (p *Publisher) publishChunk(ctx context.Context, msgs []*nats.Msg) (last uint64, whole bool, err error) {
	batch := make([]*nats.Msg, len(msgs))
	for i, m := range msgs {
		batch[i] = &nats.Msg{Subject: m.Subject, Data: m.Data, Header: maps.Clone(m.Header)}
	}

	// If the broker was killed meanwhile, the answer never arrives, and a service that is being stopped must not wait
	// for it.
	bounded, cancel := context.WithTimeout(ctx, chunkTimeout)
	defer cancel()

	attempt := p.conn.unstored.begin(family(msgs[0].Subject))
	ack, err := jetstreamext.PublishMsgBatch(bounded, p.js, batch, jetstreamext.BatchFlowControl{AckFirst: true, AckTimeout: firstTimeout})
	p.conn.unstored.note(attempt, classify(err))

	if hasCode(err, jetstreamext.JSErrCodeBatchPublishDuplicateMsgID) {
		if last, err = p.publishEach(ctx, msgs); err == nil {
			return last, false, nil
		}
	} else {
		err = classify(err)
	}

	if err != nil {
		return last, false, fmt.Errorf("publish batch of %d messages to %s: %w", len(msgs), family(msgs[0].Subject), err)
	}

	return ack.Sequence, true, nil
}

// Close refuses new calls and waits for those under way. The connection stays open. It is safe to call twice.
func (p *Publisher) Close() error {
	p.mu.Lock()
	first := p.closed.CompareAndSwap(false, true)
	p.mu.Unlock()
	p.calls.Wait()

	if first {
		p.js.CleanupPublisher()
	}

	return nil
}

// failures counts errors by their text, so that a thousand equal errors make one line.
type failures struct {
	total   int
	subject string
	kinds   map[string]error
}

func (f *failures) add(subject string, err error) {
	if f.kinds == nil {
		f.subject, f.kinds = subject, map[string]error{}
	}

	f.total++
	if err = classify(err); f.kinds[err.Error()] == nil {
		f.kinds[err.Error()] = err
	}
}

// join returns nil if nothing failed, otherwise an error that says how many of the messages were not stored.
func (f *failures) join(unsent, of int) error {
	if f.total == 0 {
		return nil
	}
	return fmt.Errorf("publish to %s: %d of %d messages failed: %w", family(f.subject), unsent, of, f.causes())
}

// causes joins one error of each kind; nil if there was none.
func (f *failures) causes() error { return errors.Join(slices.Collect(maps.Values(f.kinds))...) }

// family shortens a subject to its first two tokens, as in "bobo.updates.>": the others may name a person, and errors
// are logged.
func family(subject string) string {
	parts := strings.SplitN(subject, ".", 3)
	if len(parts) < 3 {
		return subject
	}

	return parts[0] + "." + parts[1] + ".>"
}

// classify adds this package's sentinel to an error of JetStream.
func classify(err error) error {
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w: %w", ErrNoStream, err)
	case hasCode(err, jetstreamext.JSErrCodeBatchPublishNotEnabled):
		return fmt.Errorf("%w: %w", ErrNoAtomicPublish, err)
	case cas.IsConflict(err):
		return fmt.Errorf("%w: %w", ErrWrongSequence, err)
	case isFull(err):
		return fmt.Errorf("%w: %w", ErrStreamFull, err)
	default:
		return err
	}
}

// Error codes of nats-server (server/errors.json) that the client library has no names for.
const (
	codeAccountResources    jetstream.ErrorCode = 10002
	codeInsufficient        jetstream.ErrorCode = 10023
	codeInsufficientStorage jetstream.ErrorCode = 10047
	codeStoreFailed         jetstream.ErrorCode = 10077
)

func isFull(err error) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}

	switch api.ErrorCode {
	case codeAccountResources, codeInsufficient, codeInsufficientStorage:
		return true
	default:
		return isFullStream(err)
	}
}

// isFullStream reports whether a stream has reached its own limit.
func isFullStream(err error) bool {
	var api *jetstream.APIError
	// Every failed store has this code; only the text names a limit ("maximum bytes exceeded").
	return errors.As(err, &api) && api.ErrorCode == codeStoreFailed && strings.HasPrefix(api.Description, "maximum ")
}

func hasCode(err error, code jetstream.ErrorCode) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == code
}
