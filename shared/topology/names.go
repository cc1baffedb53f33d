// Package topology is the one place that knows the broker's streams, subjects, consumers and buckets: their names,
// their settings, how they are made and how they are compared with what a broker has.
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
	// SubjectHistoryMark carries event.Mark: who was not known to be off duty at a position in the stream.
	SubjectHistoryMark = historyPrefix + "mark"
	// SubjectWake is a plain subject, not stored: a hint that there are new updates, so that a publisher need not wait
	// until it next checks.
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
	// BucketAudit holds the parts of StreamAudit's records that may have to be erased, and where each of its chains
	// ends.
	BucketAudit = "bobo_audit"
	// BucketCalls holds the calls that publishers are about to make, until their answers are stored.
	BucketCalls = "bobo_calls"
	// KeyResolverEpoch holds event.StoreEpoch, in BucketState.
	KeyResolverEpoch = "resolver.memory"
	// KeyConsoleEnded lists, in BucketState, the sessions of the console that were ended before their time.
	KeyConsoleEnded = "console.ended"
	// KeyGuardHistory holds what the resolver's guard has counted, in BucketState; its holds are next to it, under
	// GuardHoldKey.
	KeyGuardHistory = guardPrefix + "history"
)

// FeedKey returns the key, in BucketState, of what ingest remembers of a feed.
func FeedKey(feed string) string { return "feeds." + feed }

// Headers that every event carries in addition to its payload.
const (
	// HeaderFile holds the file id, so that one file can be followed through all services.
	HeaderFile = "Bobo-File"
)

// Partitions is the number of partitions that users are spread over. It must never change: another number would move
// users to other partitions while updates of theirs wait in the old ones.
const Partitions = 8

// EntriesSubject returns the subject of the entries of a file.
func EntriesSubject(fileID string) string { return entriesPrefix + fileID }

// DeadSubject returns the subject of the dead letters of a service.
func DeadSubject(service string) string { return deadPrefix + service }

// GuardHoldKey returns the key, in BucketState, of a mass change that was held.
func GuardHoldKey(id string) string { return guardPrefix + "hold." + id }

// AuditSubject returns the subject of a service's records of orders: there is a chain for each service.
func AuditSubject(service Service) string { return auditPrefix + string(service) }

// AuditHead returns the key, in BucketAudit, of the end of a service's chain.
func AuditHead(service Service) string { return "head." + string(service) }

// AuditDetail returns the key, in BucketAudit, of what belongs to one of a service's records and may have to be erased.
func AuditDetail(service Service, record string) string { return string(service) + "." + record }

// HistorySubject returns the subject of what AtHoc was sent for a worker, or for a user to whom no worker is mapped.
// The employee id is hashed, as a username is in UserKey.
func HistorySubject(employee, username string) string {
	if employee == "" {
		return historyPrefix + "user." + UserKey(username)
	}

	sum := sha256.Sum256([]byte(employee))

	return historyPrefix + "worker." + hex.EncodeToString(sum[:16])
}

// IsHistory reports whether a subject of the stream HISTORY is about a person, and not about the stream.
func IsHistory(subject string) bool {
	return subject != SubjectHistoryInfo && subject != SubjectHistoryMark
}

// CallsKey returns the key, in BucketCalls, of a publisher's calls.
func CallsKey(publisher string) string { return callsPrefix + publisher }

// JournalEntrySubject returns the subject of a journal entry's latest state.
func JournalEntrySubject(id string) string { return journalPrefix + "entry." + id }

// JournalComparisonSubject returns the subject of a part of the last comparison.
func JournalComparisonSubject(part int) string {
	return fmt.Sprintf("%scomparison.%d", journalPrefix, part)
}

// UpdatesSubject returns the subject of a user's update: one subject for each user, below the user's partition.
func UpdatesSubject(username string) string {
	key := UserKey(username)
	return fmt.Sprintf("%s%d.%s", updatesPrefix, partitionOf(key), key)
}

// PartitionFilter returns a filter that matches all updates of a partition.
func PartitionFilter(partition int) string { return fmt.Sprintf("%s%d.*", updatesPrefix, partition) }

// PartitionConsumer returns the name of the durable consumer of a partition.
func PartitionConsumer(partition int) string { return fmt.Sprintf("%s%d", publisherPrefix, partition) }

// PartitionLease returns the key, in BucketLeases, that is held while a partition's updates are sent.
func PartitionLease(partition int) string { return fmt.Sprintf("lane.%d", partition) }

// UserKey returns a user's key in subjects: 16 bytes of the SHA-256 of the username in lower case, in hex. AtHoc
// compares usernames without regard to case, and a username may hold characters that a subject cannot.
func UserKey(username string) string {
	sum := sha256.Sum256([]byte(NormalUsername(username)))
	return hex.EncodeToString(sum[:16])
}

// NormalUsername removes the differences between usernames that AtHoc ignores.
func NormalUsername(username string) string { return strings.ToLower(strings.TrimSpace(username)) }

// Partition returns a user's partition, from 0 to Partitions-1.
func Partition(username string) int { return partitionOf(UserKey(username)) }

// partitionOf derives the partition from the key's last hex digit. There are twice as many hex digits as partitions.
func partitionOf(key string) int {
	digit := strings.IndexByte("0123456789abcdef", key[len(key)-1])
	return digit % Partitions
}
