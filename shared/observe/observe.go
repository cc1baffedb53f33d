// Package observe gathers the facts that the verdict judges: it asks all services and reads the broker's state, with a
// viewer's rights. Commands, notices and pages all judge these facts.
package observe

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"bobosync/shared/breaker"
	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/topology"
	"bobosync/shared/verdict"
)

const (
	// timeout limits gathering all facts.
	timeout = 4 * time.Second
	// partitionsTimeout limits reading the partitions' leases.
	partitionsTimeout = time.Second
)

// NoJetStream returns the report for a broker whose JetStream does not answer.
func NoJetStream() *verdict.Unreachable {
	return &verdict.Unreachable{
		Cause: verdict.CauseJetStream, Text: "the broker is there, but its JetStream is off or does not answer, so nothing can be stored or sent",
		Do: "check whether the broker's disk is full (then make room and restart the broker), and whether JetStream is switched on in its configuration, for this account too",
	}
}

// silent returns the report for a broker that was connected but does not even answer a ping.
func silent() *verdict.Unreachable {
	return &verdict.Unreachable{
		Cause: verdict.CauseBroker, Text: "the broker cannot be reached: it does not answer any more",
		Do: "is it running, and does the network in between let everything through? Restart it, or fix the network; nothing is lost, the files wait in CSV_DIRECTORY",
	}
}

// Facts asks all services and the broker at once, and returns what is known after a few seconds at most.
func Facts(ctx context.Context, conn *bus.Conn) verdict.Facts {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	g := &survey{conn: conn, facts: verdict.Facts{Backlog: map[topology.Service]uint64{}, Partitions: map[int]string{}}}
	var group errgroup.Group
	group.Go(func() error { return askState(ctx, g, topology.Ingest, &g.facts.Ingest) })
	group.Go(func() error { return askState(ctx, g, topology.Resolver, &g.facts.Resolver) })
	group.Go(func() error { return askState(ctx, g, topology.Publisher, &g.facts.Publisher) })
	group.Go(func() error { return askState(ctx, g, topology.Janitor, &g.facts.Janitor) })

	for _, stream := range (topology.Settings{}).Streams() {
		group.Go(func() error { return g.stream(ctx, stream.Name) })
	}

	for _, bucket := range (topology.Settings{}).Buckets() {
		if bucket.Bucket != topology.BucketLeases && bucket.Bucket != topology.BucketState { // those are opened anyway
			group.Go(func() error { _, err := g.bucket(ctx, bucket.Bucket); return err })
		}
	}

	group.Go(func() error { return g.files(ctx) })
	group.Go(func() error { return g.partitions(ctx) })
	group.Go(func() error { return g.breaker(ctx) })

	answers := false
	group.Go(func() error { answers = conn.NC.FlushWithContext(ctx) == nil; return nil })
	_ = group.Wait() // each records its own failures

	switch {
	case g.seen > 0 || !conn.Connected():
	case answers:
		g.facts.Unreachable = NoJetStream() // a JetStream that was switched off at run time does not answer
	default:
		g.facts.Unreachable = silent()
	}

	slices.SortFunc(g.facts.Publisher, func(a, b control.PublisherState) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(g.facts.Janitor, func(a, b control.JanitorState) int { return cmp.Compare(a.Name, b.Name) })
	g.facts.At = time.Now()

	return g.facts
}

// survey collects facts from several goroutines.
type survey struct {
	conn  *bus.Conn
	mu    sync.Mutex
	facts verdict.Facts
	// seen counts JetStream's answers about streams, consumers and buckets that show that it works.
	seen int
}

// askState asks all instances of a service. Each service has its own place for the answers, so no lock is needed.
func askState[S any](ctx context.Context, g *survey, service topology.Service, into *[]S) error {
	all, err := control.AskAll[S](ctx, g.conn.NC, service, control.State, control.Nothing{})
	*into = all
	return g.note(err)
}

// latestFiles is how many of the latest files have their content examined.
const latestFiles = 100

// files asks for the latest files. If no ingest answers, the states show that already.
func (g *survey) files(ctx context.Context) error {
	answer, err := control.Ask[control.FilesAnswer](ctx, g.conn.NC, topology.Ingest, control.Files, control.FilesRequest{Most: latestFiles})
	if errors.Is(err, control.ErrNobody) {
		return nil
	}

	g.mu.Lock()
	g.facts.Files = answer.Files
	g.mu.Unlock()

	return g.note(err)
}

// note records what could not be read. It always returns nil.
func (g *survey) note(err error) error {
	if err == nil {
		return nil
	}

	g.mu.Lock()
	defer g.mu.Unlock()

	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) {
		g.facts.Unreachable = NoJetStream()
	} else {
		g.facts.Unread = append(g.facts.Unread, err.Error())
	}

	return nil
}

// missing records something that the broker should have. It always returns nil.
func (g *survey) missing(kind, name string) error {
	g.mu.Lock()
	defer g.mu.Unlock()

	g.facts.Missing = append(g.facts.Missing, kind+" "+name)
	g.seen++

	return nil
}

// readers maps each durable consumer to the service that reads it; the consumers of partitions belong to the publisher.
var readers = map[string]topology.Service{
	topology.ConsumerIngestAcks: topology.Ingest, topology.ConsumerResolverEntries: topology.Resolver,
	topology.ConsumerResolverAcks: topology.Resolver, topology.ConsumerResolverMapping: topology.Resolver,
}

// stream reads the state of a stream and of its consumers.
func (g *survey) stream(ctx context.Context, name string) error {
	stream, err := g.conn.JS.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return g.missing("stream", name)
	}

	if err != nil {
		return g.note(fmt.Errorf("stream %s: %w", name, err))
	}

	g.size(stream.CachedInfo())

	for _, want := range (topology.Settings{}).Consumers()[name] {
		consumer, err := stream.Consumer(ctx, want.Durable)
		switch {
		case errors.Is(err, jetstream.ErrConsumerNotFound):
			_ = g.missing("consumer", want.Durable) // never fails
		case err != nil:
			return g.note(fmt.Errorf("consumer %s: %w", want.Durable, err))
		default:
			g.backlog(want.Durable, consumer.CachedInfo())

			if err := g.astray(ctx, stream, consumer.CachedInfo()); err != nil {
				return g.note(fmt.Errorf("stream %s: %w", name, err))
			}
		}
	}

	return nil
}

// astray records a consumer that was delivered more than its stream holds. It reads the stream's state again first:
// messages that arrived since it was last read may have been delivered already.
func (g *survey) astray(ctx context.Context, stream jetstream.Stream, consumer *jetstream.ConsumerInfo) error {
	if consumer.Delivered.Stream <= stream.CachedInfo().State.LastSeq {
		return nil
	}

	info, err := stream.Info(ctx)
	if err != nil || consumer.Delivered.Stream <= info.State.LastSeq {
		return err
	}

	g.mu.Lock()
	defer g.mu.Unlock()

	g.facts.Astray = append(g.facts.Astray, [2]string{consumer.Stream, consumer.Name})

	return nil
}

func (g *survey) size(info *jetstream.StreamInfo) {
	g.mu.Lock()
	defer g.mu.Unlock()

	g.seen++
	switch info.Config.Name {
	case topology.StreamDead:
		g.facts.DeadLetters = info.State.Msgs
	case topology.StreamEntries:
		if info.Config.MaxBytes > 0 {
			g.facts.EntriesFull = float64(info.State.Bytes) / float64(info.Config.MaxBytes)
		}
	}
}

func (g *survey) backlog(name string, info *jetstream.ConsumerInfo) {
	service, known := readers[name]
	if !known {
		service = topology.Publisher
	}

	g.mu.Lock()
	defer g.mu.Unlock()

	g.facts.Backlog[service] += info.NumPending + uint64(max(info.NumAckPending, 0))
}

// partitions finds the owner of each partition. Failures are not recorded: the publishers report their partitions too.
func (g *survey) partitions(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, partitionsTimeout)
	defer cancel()

	kv, err := g.bucket(ctx, topology.BucketLeases)
	if kv == nil {
		return err
	}

	for partition := range topology.Partitions {
		entry, err := kv.Get(ctx, topology.PartitionLease(partition))
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound):
		case err != nil:
			return nil // see above
		default:
			g.mu.Lock()
			g.facts.Partitions[partition] = string(entry.Value())
			g.mu.Unlock()
		}
	}

	return nil
}

// breaker reads the circuit breaker and an operator's pause from the broker, so that AtHoc's state is known even if no
// publisher is alive.
func (g *survey) breaker(ctx context.Context) error {
	kv, err := g.bucket(ctx, topology.BucketState)
	if kv == nil {
		return err
	}

	paused, err := breaker.LoadPause(ctx, kv)
	if err != nil {
		return g.note(fmt.Errorf("the pause: %w", err))
	}

	g.mu.Lock()
	g.facts.Pause = paused
	g.mu.Unlock()

	entry, err := kv.Get(ctx, breaker.Key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	}

	if err != nil {
		return g.note(fmt.Errorf("the breaker: %w", err))
	}

	var state breaker.State
	if err := json.Unmarshal(entry.Value(), &state); err != nil {
		return g.note(errors.New("the breaker's state cannot be read: are all programs of the same version?"))
	}

	g.mu.Lock()
	defer g.mu.Unlock()

	g.facts.Breaker = &state

	return nil
}

// bucket opens a bucket. It returns nil if that fails, and has then recorded why.
func (g *survey) bucket(ctx context.Context, name string) (jetstream.KeyValue, error) {
	kv, err := g.conn.JS.KeyValue(ctx, name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, g.missing("bucket", name)
	}

	if err != nil {
		return nil, g.note(fmt.Errorf("bucket %s: %w", name, err))
	}

	return kv, nil
}
