package telemetry

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"bobosync/shared/telemetry/metric"
	"bobosync/shared/topology"
)

// Backlog exports how much waits in the broker. Each service exports its own consumers, so several publishers export
// the same partitions.
type Backlog struct {
	mu    sync.Mutex
	parts map[topology.Service]*consumed
}

var (
	pendingDesc = prometheus.NewDesc(metric.Namespace+"_broker_pending_messages",
		"Messages that a consumer has not been given yet.", []string{"stream", "consumer"}, nil)
	unackedDesc = prometheus.NewDesc(metric.Namespace+"_broker_unacknowledged_messages",
		"Messages that a consumer was given and has not acknowledged.", []string{"stream", "consumer"}, nil)
	deadDesc = prometheus.NewDesc(metric.Namespace+"_broker_dead_letters",
		"Dead letters in the broker, from the resolver.", nil, nil)
)

// consumed holds what one service consumes.
type consumed struct {
	metric.Watched[backlog]
	consumers map[string][]string
	dead      bool
}

// backlog is the state of some consumers.
type backlog struct {
	consumers []*jetstream.ConsumerInfo
	dead      *uint64
}

// consumers returns the streams that a service reads, with its consumers.
func consumers(service topology.Service) map[string][]string {
	switch service {
	case topology.Ingest:
		return map[string][]string{topology.StreamAcks: {topology.ConsumerIngestAcks}}
	case topology.Resolver:
		return map[string][]string{
			topology.StreamEntries: {topology.ConsumerResolverEntries},
			topology.StreamAcks:    {topology.ConsumerResolverAcks},
			topology.StreamMapping: {topology.ConsumerResolverMapping},
		}
	case topology.Publisher:
		var partitions []string
		for partition := range topology.Partitions {
			partitions = append(partitions, topology.PartitionConsumer(partition))
		}

		return map[string][]string{topology.StreamUpdates: partitions}
	}

	return nil
}

// NewBacklog returns the metrics of what waits in the broker, in t.
func NewBacklog(t *Telemetry) *Backlog {
	return Once(t, "backlog", func() *Backlog { return &Backlog{parts: map[topology.Service]*consumed{}} })
}

// Collectors returns all metrics of the set.
func (b *Backlog) Collectors() []prometheus.Collector { return []prometheus.Collector{b} }

// WatchConsumers watches the consumers of a service, and the dead letters for the resolver, until the returned function
// is called.
func (b *Backlog) WatchConsumers(js jetstream.JetStream, service topology.Service) (stop func()) {
	b.mu.Lock()
	defer b.mu.Unlock()

	c := b.parts[service]
	if c == nil {
		c = &consumed{consumers: consumers(service), dead: service == topology.Resolver}
		b.parts[service] = c
	}

	return c.Watch(func(ctx context.Context) (backlog, error) { return c.poll(ctx, js) })
}

// poll asks for each consumer by name, because a service may ask for nothing else at a broker that separates its users.
func (c *consumed) poll(ctx context.Context, js jetstream.JetStream) (backlog, error) {
	var found backlog
	for stream, mine := range c.consumers {
		for _, name := range mine {
			consumer, err := js.Consumer(ctx, stream, name)
			if err != nil {
				return found, err
			}

			found.consumers = append(found.consumers, consumer.CachedInfo())
		}
	}

	if !c.dead {
		return found, nil
	}

	stream, err := js.Stream(ctx, topology.StreamDead)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return found, nil
	}

	if err != nil {
		return found, err
	}

	count := stream.CachedInfo().State.Msgs
	found.dead = &count

	return found, nil
}

// Describe implements prometheus.Collector.
func (b *Backlog) Describe(ch chan<- *prometheus.Desc) {
	ch <- pendingDesc

	ch <- unackedDesc

	ch <- deadDesc
}

// Collect implements prometheus.Collector.
func (b *Backlog) Collect(ch chan<- prometheus.Metric) {
	b.mu.Lock()
	parts := slices.Collect(maps.Values(b.parts))
	b.mu.Unlock()

	for _, part := range parts {
		state, known := part.State()
		if !known {
			continue
		}

		for _, info := range state.consumers {
			ch <- prometheus.MustNewConstMetric(pendingDesc, prometheus.GaugeValue, float64(info.NumPending), info.Stream, info.Name)

			ch <- prometheus.MustNewConstMetric(unackedDesc, prometheus.GaugeValue, float64(info.NumAckPending), info.Stream, info.Name)
		}

		if state.dead != nil {
			ch <- prometheus.MustNewConstMetric(deadDesc, prometheus.GaugeValue, float64(*state.dead))
		}
	}
}
