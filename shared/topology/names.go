// Package topology is the one place that knows the broker's streams, subjects, consumers and buckets: their names, their
// settings, how they are made and how they are compared with what a broker has.
package topology

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Streams.
const (
	// StreamEntries holds the entries of files, on their way from ingest to the resolver.
	StreamEntries = "ENTRIES"
	// StreamUpdates is the table of what AtHoc should say: one message for each user.
	StreamUpdates = "UPDATES"
	// StreamAcks holds the outcomes of rows.
	StreamAcks = "ACKS"
	// StreamMapping holds the last mapping of employee ids to usernames.
	StreamMapping = "MAPPING"
	// StreamDead holds what could not be processed.
	StreamDead = "DEAD"
	// StreamJournal holds what was done by the clock and by operators, and what the last comparisons found.
	StreamJournal = "JOURNAL"
	// StreamAudit holds who ordered what: the records that shared/audit chains, which nobody can remove.
	StreamAudit = "AUDIT"
	// StreamHistory holds what AtHoc was sent: a subject for each worker.
	StreamHistory = "HISTORY"
)

// Subjects.
const (
	// SubjectRecovered carries event.Recovered, in order with the entries that it closes.
	SubjectRecovered = "bobo.entries.recovered"
	// SubjectAcks carries event.Acks.
	SubjectAcks = "bobo.acks"
	// SubjectMapping carries event.MappingChunk.
	SubjectMapping = "bobo.mapping.snapshot"
	// SubjectJournalMapping carries what the last refresh of the mapping found.
	SubjectJournalMapping = "bobo.journal.mapping"
	// JournalComparisonSubjects matches the parts of the last comparison.
	JournalComparisonSubjects = journalPrefix + "comparison.*"
	// SubjectHistoryInfo carries event.HistoryInfo: what is known of the stream as a whole.
	SubjectHistoryInfo = historyPrefix + "books"
	// SubjectHistoryMark carries event.Mark: who was not known to be off duty at a place of the stream.
	SubjectHistoryMark = historyPrefix + "mark"
	// SubjectWake is a plain subject, not stored: a hint that new updates are there, so that a publisher need not wait
	// for its next look.
	SubjectWake = "bobo.wake.publisher"

	entriesPrefix = "bobo.entries."
	updatesPrefix = "bobo.updates."
	deadPrefix    = "bobo.dead."
	journalPrefix = "bobo.journal."
	guardPrefix   = "guard."
	auditPrefix   = "bobo.audit."
	historyPrefix = "bobo.history."
	callsPrefix   = "call."
)

// Consumers, all durable.
const (
	// ConsumerResolverEntries reads StreamEntries.
	ConsumerResolverEntries = "resolver"
	// ConsumerResolverAcks reads StreamAcks, to learn what AtHoc confirmed.
	ConsumerResolverAcks = "resolver-acks"
	// ConsumerResolverMapping reads StreamMapping.
	ConsumerResolverMapping = "resolver-mapping"
	// ConsumerIngestAcks reads StreamAcks, to settle rows.
	ConsumerIngestAcks = "ingest-acks"

	publisherPrefix = "publisher-"
)

// Buckets and keys.
const (
	// BucketLeases holds the leases of partitions; its TTL is the life of a lease.
	BucketLeases = "bobo_leases"
	// BucketState holds small facts that services share, without TTL.
	BucketState = "bobo_state"
	// BucketAudit holds what belongs to the records of StreamAudit and may have to be erased, and where each of its chains ends.
	BucketAudit = "bobo_audit"
	// BucketCalls holds the calls that publishers are about to make, until their answers are stored.
	BucketCalls = "bobo_calls"
	// KeyResolverEpoch holds event.StoreEpoch, in BucketState.
	KeyResolverEpoch = "resolver.memory"
	// KeyConsoleEnded lists, in BucketState, the sessions of the console that were ended before their time.
	KeyConsoleEnded = "console.ended"
	// KeyGuardHistory holds what the resolver's guard has counted, in BucketState; its holds are beside it, under GuardHoldKey.
	KeyGuardHistory = guardPrefix + "history"
)

// FeedKey is the key, in BucketState, of what ingest remembers of a feed.
func FeedKey(feed string) string { return "feeds." + feed }

// Headers that every event carries beside its payload.
const (
	// HeaderFile holds the file id, so that one file can be followed through all services.
	HeaderFile = "Bobo-File"
)

// Partitions is the number of lanes that users are spread over. It is fixed for good: another number would move users to
// other partitions while updates of theirs wait in the old ones.
const Partitions = 8

// EntriesSubject is where the entries of a file go.
func EntriesSubject(fileID string) string { return entriesPrefix + fileID }

// DeadSubject is where the dead letters of a service go.
func DeadSubject(service string) string { return deadPrefix + service }

// GuardHoldKey is the key, in BucketState, of a mass change that was held.
func GuardHoldKey(id string) string { return guardPrefix + "hold." + id }

// AuditSubject is where a service writes its records of orders: a chain for each service.
func AuditSubject(service Service) string { return auditPrefix + string(service) }

// AuditHead is the key, in BucketAudit, of where a service's chain ends; AuditDetail that of what belongs to one of its records.
func AuditHead(service Service) string { return "head." + string(service) }

// AuditDetail is described at AuditHead.
func AuditDetail(service Service, record string) string { return string(service) + "." + record }

// HistorySubject is where what AtHoc was sent for a worker goes, or of a user whom no worker is mapped to. The employee id is hashed, as a
// username is in UserKey.
func HistorySubject(employee, username string) string {
	if employee == "" {
		return historyPrefix + "user." + UserKey(username)
	}

	sum := sha256.Sum256([]byte(employee))

	return historyPrefix + "worker." + hex.EncodeToString(sum[:16])
}

// IsHistory reports whether a subject of the stream HISTORY is about somebody, and not about the stream.
func IsHistory(subject string) bool {
	return subject != SubjectHistoryInfo && subject != SubjectHistoryMark
}

// CallsKey is the key, in BucketCalls, of a publisher's calls.
func CallsKey(publisher string) string { return callsPrefix + publisher }

// JournalEntrySubject is where a journal entry goes, as it stands.
func JournalEntrySubject(id string) string { return journalPrefix + "entry." + id }

// JournalComparisonSubject is where a part of the last comparison goes.
func JournalComparisonSubject(part int) string {
	return fmt.Sprintf("%scomparison.%d", journalPrefix, part)
}

// UpdatesSubject is where a user's update goes: one subject for each user, below the user's partition.
func UpdatesSubject(username string) string {
	key := UserKey(username)
	return fmt.Sprintf("%s%d.%s", updatesPrefix, partitionOf(key), key)
}

// PartitionFilter matches all updates of a partition.
func PartitionFilter(partition int) string { return fmt.Sprintf("%s%d.*", updatesPrefix, partition) }

// PartitionConsumer is the durable consumer of a partition.
func PartitionConsumer(partition int) string { return fmt.Sprintf("%s%d", publisherPrefix, partition) }

// PartitionLease is the key, in BucketLeases, that is held while a partition's updates are sent.
func PartitionLease(partition int) string { return fmt.Sprintf("lane.%d", partition) }

// UserKey is a user's key in subjects: 16 bytes of the SHA-256 of the username in lower case, in hex. AtHoc compares
// usernames without regard to case, and a username holds characters that a subject cannot.
func UserKey(username string) string {
	sum := sha256.Sum256([]byte(NormalUsername(username)))
	return hex.EncodeToString(sum[:16])
}

// NormalUsername folds what AtHoc does not distinguish.
func NormalUsername(username string) string { return strings.ToLower(strings.TrimSpace(username)) }

// Partition returns a user's partition, from 0 to Partitions-1.
func Partition(username string) int { return partitionOf(UserKey(username)) }

// partitionOf takes the partition from the last hex digit, of which there are twice as many as partitions.
func partitionOf(key string) int {
	digit := strings.IndexByte("0123456789abcdef", key[len(key)-1])
	return digit % Partitions
}
