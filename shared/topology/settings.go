package topology

import (
	"cmp"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/config"
)

// Settings are those settings of the topology that an operator chooses.
type Settings struct {
	// Replicas is the number of servers that hold each stream.
	Replicas int
	// EntriesMaxBytes bounds StreamEntries; when it is full, ingest waits.
	EntriesMaxBytes int64
	// CallTimeout is the longest that a call to AtHoc may take (ATHOC_TIMEOUT). Leases and redelivery follow from it.
	CallTimeout time.Duration
	// AuditAge is how long the records of orders are kept.
	AuditAge time.Duration
	// HistoryAge is how long the history of what AtHoc was sent is kept.
	HistoryAge time.Duration
	// HistoryMaxBytes bounds that history; its oldest messages give way. 0 is no bound.
	HistoryMaxBytes int64
}

// From takes the settings from the configuration of a service.
func From(b config.Broker, c config.Calls) Settings {
	return Settings{
		Replicas: b.Replicas, EntriesMaxBytes: b.EntriesMaxBytes, CallTimeout: c.Timeout,
		AuditAge: time.Duration(b.AuditDays) * 24 * time.Hour, HistoryAge: time.Duration(b.HistoryDays) * 24 * time.Hour,
		HistoryMaxBytes: b.HistoryMaxBytes,
	}
}

// LeaseTTL returns the life of a partition's lease: the longest call, and a margin in which AtHoc may still be working
// on a request that was given up.
func (s Settings) LeaseTTL() time.Duration { return s.CallTimeout + 3*time.Second }

// RedeliverAfter returns how long an update may stay with a publisher that is gone: until its lease has certainly
// ended.
func (s Settings) RedeliverAfter() time.Duration { return s.LeaseTTL() + time.Second }

// Service names a service, which owns resources of the topology and whose settings these follow.
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
	StreamJournal: Janitor, StreamAudit: Janitor, BucketAudit: Janitor, StreamHistory: Resolver, BucketCalls: Publisher,
	ConsumerIngestAcks: Ingest, ConsumerResolverEntries: Resolver, ConsumerResolverAcks: Resolver,
	ConsumerResolverMapping: Resolver, BucketState: Resolver, BucketLeases: Publisher,
}

// ownerOf returns the service whose configuration a resource follows. If all services owned it, two with different
// variables would undo each other's settings at every start.
func ownerOf(res string) Service {
	if owner, listed := owners[res]; listed {
		return owner
	}
	return Publisher // the partitions' consumers
}

// owns reports whether a service may change a resource that is there already.
func (me Service) owns(res string) bool { return me == Everyone || me == ownerOf(res) }

// acksMaxAge bounds how long an outcome waits for ingest. A missed outcome is asked for again by reading the file
// again.
const acksMaxAge = 7 * 24 * time.Hour

// historyPerSubject bounds what is kept of one worker: some hundred changes a day.
const historyPerSubject = 10_000

// historyWindow is the history's deduplication window, so that what is redelivered after a crash is not stored twice.
const historyWindow = time.Minute

// deadMaxAge is how long a dead letter is kept.
const deadMaxAge = 30 * 24 * time.Hour

// Streams describes all streams. Retention is by limits everywhere: the other kinds cost an fsync for each
// acknowledgement.
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
	entries.MaxBytes, entries.Discard, entries.AllowAtomicPublish = s.EntriesMaxBytes, jetstream.DiscardNew, true

	updates := stream(StreamUpdates, "the duty status that each AtHoc user should have", updatesPrefix+"*.*")
	updates.MaxMsgsPerSubject, updates.Discard, updates.AllowAtomicPublish = 1, jetstream.DiscardOld, true

	acks := stream(StreamAcks, "outcomes of rows", SubjectAcks)
	acks.MaxAge = acksMaxAge

	mapping := stream(StreamMapping, "the last mapping of employee ids to AtHoc usernames", SubjectMapping)
	mapping.AllowAtomicPublish = true

	dead := stream(StreamDead, "what could not be processed, with the reason", deadPrefix+"*")
	dead.MaxAge = deadMaxAge

	// No age limit: the janitor deletes what is older than JOURNAL_DAYS.
	journal := stream(StreamJournal, "what was done by the clock and by operators", journalPrefix+">")
	journal.MaxMsgsPerSubject, journal.Discard, journal.AllowAtomicPublish = 1, jetstream.DiscardOld, true

	audit := stream(StreamAudit, "who ordered what, and who asked for a person's past", auditPrefix+"*")
	audit.MaxAge, audit.DenyDelete, audit.DenyPurge = s.AuditAge, true, true

	history := stream(StreamHistory, "what AtHoc was sent, by worker", historyPrefix+">")
	history.MaxAge, history.MaxMsgsPerSubject, history.Discard = s.HistoryAge, historyPerSubject, jetstream.DiscardOld
	history.Duplicates, history.AllowAtomicPublish, history.MaxBytes = historyWindow, true, cmp.Or(s.HistoryMaxBytes, -1)

	return []jetstream.StreamConfig{entries, updates, acks, mapping, dead, journal, audit, history}
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

	// What a killed process had fetched is redelivered after this time, and until then its workers are late. While a batch
	// is being handled, heartbeats extend it.
	const ackWait = 10 * time.Second

	partitions := make([]jetstream.ConsumerConfig, 0, Partitions)
	for partition := range Partitions {
		partitions = append(partitions, consumer(PartitionConsumer(partition), s.RedeliverAfter(), 20_000, PartitionFilter(partition)))
	}

	return map[string][]jetstream.ConsumerConfig{
		StreamEntries: {consumer(ConsumerResolverEntries, ackWait, 20_000)},
		StreamUpdates: partitions,
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
		{Bucket: BucketLeases, Description: "who sends which partition now", TTL: s.LeaseTTL(), Replicas: replicas, History: 1},
		{Bucket: BucketState, Description: "facts that services share", Replicas: replicas, History: 1},
		{Bucket: BucketCalls, Description: "calls to AtHoc whose answers are not stored yet", TTL: acksMaxAge, Replicas: replicas, History: 1},
		{Bucket: BucketAudit, Description: "what belongs to the records of orders", TTL: s.AuditAge, Replicas: replicas, History: 1},
	}
}
