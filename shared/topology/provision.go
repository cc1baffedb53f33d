package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/config"
)

// MinAPILevel is the JetStream API level of nats-server 2.12, the first that takes atomic batches. An older server drops
// the setting in silence.
const MinAPILevel = 3

// Settings are the parts of the topology that an operator chooses.
type Settings struct {
	// Replicas is the number of servers that hold each stream.
	Replicas int
	// EntriesMaxBytes bounds StreamEntries; when it is full, ingest waits.
	EntriesMaxBytes int64
	// CallTimeout is the longest that a call to AtHoc may take (ATHOC_TIMEOUT). Leases and redelivery follow from it.
	CallTimeout time.Duration
}

// From takes the settings from those of a service.
func From(b config.Broker, c config.Calls) Settings {
	return Settings{Replicas: b.Replicas, EntriesMaxBytes: b.EntriesMaxBytes, CallTimeout: c.Timeout}
}

// LeaseTTL is the life of a lane's lease: the longest call, and a margin in which AtHoc may still be working on a request
// that was given up.
func (s Settings) LeaseTTL() time.Duration { return s.CallTimeout + 3*time.Second }

// RedeliverAfter is how long an update may stay with a publisher that is gone: until its lease has ended for certain.
func (s Settings) RedeliverAfter() time.Duration { return s.LeaseTTL() + time.Second }

// Service names the service that settings are for; it owns a part of the topology.
type Service string

// The services.
const (
	Ingest    Service = "ingest"
	Resolver  Service = "resolver"
	Publisher Service = "publisher"
	Janitor   Service = "janitor"
	// Everyone owns everything: the all-in-one program and provisioning by hand.
	Everyone Service = ""
)

var owners = map[string]Service{
	StreamEntries: Ingest, StreamAcks: Ingest, StreamUpdates: Resolver, StreamDead: Resolver, StreamMapping: Janitor,
	ConsumerIngestAcks: Ingest, ConsumerResolverEntries: Resolver, ConsumerResolverAcks: Resolver,
	ConsumerResolverMapping: Resolver, BucketState: Resolver, BucketLeases: Publisher,
}

// owns says whether a service may change a part that is there already. The owner is the one whose configuration the part
// follows; were it everyone, two services with different variables would undo each other's settings at every start.
func (me Service) owns(part string) bool {
	owner, listed := owners[part]
	if !listed {
		owner = Publisher // the lanes' consumers
	}
	return me == Everyone || me == owner
}

// acksMaxAge bounds how long an outcome waits for ingest. One that was missed is asked for again by reading the file again.
const acksMaxAge = 7 * 24 * time.Hour

// deadMaxAge is how long a dead letter can be looked at.
const deadMaxAge = 30 * 24 * time.Hour

// Streams describes all streams. Retention is by limits everywhere: the other kinds cost an fsync for each acknowledgement.
func (s Settings) Streams() []jetstream.StreamConfig {
	stream := func(name, description string, subjects ...string) jetstream.StreamConfig {
		return jetstream.StreamConfig{
			Name: name, Description: description, Subjects: subjects,
			Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Replicas: max(s.Replicas, 1),
			MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
			Duplicates: 2 * time.Minute, AllowDirect: true,
		}
	}
	// No age limit: a limit would drop entries that nobody has read. ingest purges what the resolver has acknowledged.
	entries := stream(StreamEntries, "entries of BOBO files, on their way to the resolver", entriesPrefix+"*")
	entries.MaxBytes, entries.Discard = s.EntriesMaxBytes, jetstream.DiscardNew

	updates := stream(StreamUpdates, "the duty status that each AtHoc user should have", updatesPrefix+"*.*")
	updates.MaxMsgsPerSubject, updates.Discard, updates.AllowAtomicPublish = 1, jetstream.DiscardOld, true

	acks := stream(StreamAcks, "outcomes of rows", SubjectAcks)
	acks.MaxAge = acksMaxAge

	mapping := stream(StreamMapping, "the last mapping of employee ids to AtHoc usernames", SubjectMapping)
	mapping.AllowAtomicPublish = true

	dead := stream(StreamDead, "what could not be processed, with the reason", deadPrefix+"*")
	dead.MaxAge = deadMaxAge
	return []jetstream.StreamConfig{entries, updates, acks, mapping, dead}
}

// Consumers describes the durable consumers by stream. Redelivery is never limited: what cannot be processed is
// dead-lettered by the service, not dropped by the broker.
func (s Settings) Consumers() map[string][]jetstream.ConsumerConfig {
	consumer := func(name string, ackWait time.Duration, pending int, filters ...string) jetstream.ConsumerConfig {
		return jetstream.ConsumerConfig{
			Durable: name, AckPolicy: jetstream.AckExplicitPolicy, DeliverPolicy: jetstream.DeliverAllPolicy,
			AckWait: ackWait, MaxDeliver: -1, MaxAckPending: pending, FilterSubjects: filters,
		}
	}
	const ackWait = 30 * time.Second // extended by heartbeats while a batch is at work
	lanes := make([]jetstream.ConsumerConfig, 0, Lanes)
	for lane := range Lanes {
		lanes = append(lanes, consumer(LaneConsumer(lane), s.RedeliverAfter(), 20_000, LaneFilter(lane)))
	}
	return map[string][]jetstream.ConsumerConfig{
		StreamEntries: {consumer(ConsumerResolverEntries, ackWait, 20_000)},
		StreamUpdates: lanes,
		StreamAcks: {
			consumer(ConsumerIngestAcks, ackWait, 10_000),
			consumer(ConsumerResolverAcks, ackWait, 10_000),
		},
		StreamMapping: {consumer(ConsumerResolverMapping, ackWait, 10_000)},
	}
}

// Buckets describes the key-value buckets.
func (s Settings) Buckets() []jetstream.KeyValueConfig {
	replicas := max(s.Replicas, 1)
	return []jetstream.KeyValueConfig{
		{Bucket: BucketLeases, Description: "who works which lane now", TTL: s.LeaseTTL(), Replicas: replicas, History: 1},
		{Bucket: BucketState, Description: "facts that services tell each other", Replicas: replicas, History: 1},
	}
}

// Provision makes what is missing, and brings what the service owns to the wanted settings. It destroys nothing: a
// difference that cannot be mended in place is an error that names it. It may run at the same time in several services.
func Provision(ctx context.Context, js jetstream.JetStream, s Settings, me Service) error {
	if err := requireServer(ctx, js); err != nil {
		return err
	}
	for _, want := range s.Streams() {
		if err := provisionStream(ctx, js, want, me); err != nil {
			return err
		}
	}
	for stream, consumers := range s.Consumers() {
		for _, want := range consumers {
			if err := provisionConsumer(ctx, js, stream, want, me); err != nil {
				return err
			}
		}
	}
	for _, want := range s.Buckets() {
		if err := provisionBucket(ctx, js, want, me); err != nil {
			return err
		}
	}
	return nil
}

func requireServer(ctx context.Context, js jetstream.JetStream) error {
	info, err := js.AccountInfo(ctx)
	if errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) {
		return fmt.Errorf("the broker has no JetStream (switch it on in its configuration, for this account too): %w", err)
	}
	if err != nil {
		return fmt.Errorf("ask the broker for its JetStream account: %w", err)
	}
	if info.API.Level < MinAPILevel {
		return fmt.Errorf("the broker's JetStream has API level %d; %d is needed: use nats-server 2.12 or newer", info.API.Level, MinAPILevel)
	}
	return nil
}

func provisionStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig, me Service) error {
	if !me.owns(want.Name) {
		_, err := js.Stream(ctx, want.Name)
		if !errors.Is(err, jetstream.ErrStreamNotFound) {
			return wrap(err, "stream", want.Name)
		}
	}
	stream, err := js.CreateOrUpdateStream(ctx, want)
	if err != nil {
		return wrap(err, "stream", want.Name)
	}
	if diff := Differences(want, stream.CachedInfo().Config); len(diff) > 0 {
		return fmt.Errorf("the broker made stream %s otherwise than asked: %v", want.Name, diff)
	}
	return nil
}

func provisionConsumer(ctx context.Context, js jetstream.JetStream, stream string, want jetstream.ConsumerConfig, me Service) error {
	if !me.owns(want.Durable) {
		_, err := js.Consumer(ctx, stream, want.Durable)
		if !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return wrap(err, "consumer", want.Durable)
		}
	}
	_, err := js.CreateOrUpdateConsumer(ctx, stream, want)
	return wrap(err, "consumer", want.Durable)
}

func provisionBucket(ctx context.Context, js jetstream.JetStream, want jetstream.KeyValueConfig, me Service) error {
	if !me.owns(want.Bucket) {
		_, err := js.KeyValue(ctx, want.Bucket)
		if !errors.Is(err, jetstream.ErrBucketNotFound) {
			return wrap(err, "bucket", want.Bucket)
		}
	}
	_, err := js.CreateOrUpdateKeyValue(ctx, want)
	return wrap(err, "bucket", want.Bucket)
}

func wrap(err error, kind, name string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("provision %s %s: %w", kind, name, err)
}

// Differences names the settings in which a stream is not as wanted, as far as the services depend on them.
func Differences(want, have jetstream.StreamConfig) []string {
	var diff []string
	check := func(name string, same bool, w, h any) {
		if !same {
			diff = append(diff, fmt.Sprintf("%s is %v, wanted %v", name, h, w))
		}
	}
	check("subjects", slices.Equal(want.Subjects, have.Subjects), want.Subjects, have.Subjects)
	check("retention", want.Retention == have.Retention, want.Retention, have.Retention)
	check("discard", want.Discard == have.Discard, want.Discard, have.Discard)
	check("storage", want.Storage == have.Storage, want.Storage, have.Storage)
	check("replicas", want.Replicas == have.Replicas, want.Replicas, have.Replicas)
	check("max bytes", want.MaxBytes == have.MaxBytes, want.MaxBytes, have.MaxBytes)
	check("max age", want.MaxAge == have.MaxAge, want.MaxAge, have.MaxAge)
	check("max messages per subject", want.MaxMsgsPerSubject == have.MaxMsgsPerSubject, want.MaxMsgsPerSubject, have.MaxMsgsPerSubject)
	check("atomic publish", want.AllowAtomicPublish == have.AllowAtomicPublish, want.AllowAtomicPublish, have.AllowAtomicPublish)
	return diff
}

// Identity returns the moment at which the broker made a stream. Another moment for the same name means that the store
// was lost, and with it everything that was on its way.
func Identity(ctx context.Context, js jetstream.JetStream, stream string) (string, error) {
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return "", fmt.Errorf("look up stream %s: %w", stream, err)
	}
	return s.CachedInfo().Created.UTC().Format(time.RFC3339Nano), nil
}
