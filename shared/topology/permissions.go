package topology

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// The users of a broker that keeps its users apart, in addition to those named after the services.
const (
	// UserProvision makes streams, consumers and buckets, and changes their settings. It can neither read nor delete
	// messages.
	UserProvision = "provision"
	// UserOperator may give all orders that operators have.
	UserOperator = "operator"
	// UserViewer may look at things, and change nothing.
	UserViewer = "viewer"
	// UserBackup takes copies of dead letters, the journal, the audit, the history and the mapping, and puts them back
	// where there are none.
	UserBackup = "backup"
	// UserGuest is a client that connects over the port of the broker inside the all-in-one program; see Guest.
	UserGuest = "guest"
	// UserMonitor looks at the servers, in the system account. It sees no messages.
	UserMonitor = "monitor"
)

// SubjectServers is where users with the right to do so ask all servers how JetStream is set. The broker's
// configuration maps it to the system account.
const SubjectServers = "bobo.broker.jetstream"

// userInfo is where every user asks for its own permissions.
const userInfo = "$SYS.REQ.USER.INFO"

// User is a user's rights at a broker that keeps its users apart. Whatever is not listed is refused. Subjects are
// written as in NATS's permissions, with wildcards.
type User struct {
	Name, Account string
	// About says in a sentence what the user is for.
	About string
	// Publish is what it may send to.
	Publish []string
	// Subscribe is what it may receive.
	Subscribe []string
	// Answers reports whether the user may answer the requests that it receives.
	Answers bool
}

// Inbox returns the prefix of the subjects on which a user gets its answers. Each user has one of its own, so that
// nobody receives what others have asked for.
func Inbox(user string) string { return "_INBOX_" + user }

// Users lists the users of the broker, including the given operators, who have a key of their own. Permissions are
// declared here: the broker's configuration is generated from them.
func Users(operators ...string) []User {
	all := []User{
		ingestUser(), resolverUser(), publisherUser(), janitorUser(),
		provisionUser(), operatorUser(UserOperator, "gives all orders that operators have; the audit knows no more of the sender than that he has the key"),
		viewerUser(), backupUser(), monitorUser(),
	}
	for _, name := range operators {
		all = append(all, operatorUser(OperatorUser(name), "gives all orders that operators have, under a name of his own"))
	}

	return all
}

// Guest returns the user of clients that connect over the port of the broker inside the all-in-one program. Such a
// client has the token that lies in the data directory, and may give all orders that operators have.
func Guest() User {
	return operatorUser(UserGuest, "has the token that lies in the data directory, and gives all orders that operators have")
}

// operatorPrefix begins the names of users that are one operator's own.
const operatorPrefix = UserOperator + "-"

// OperatorUser returns the user of an operator who has a key of their own.
func OperatorUser(name string) string { return operatorPrefix + name }

// OperatorOf returns the operator whose own user this is; own is false for a user that several people may share.
func OperatorOf(user string) (name string, own bool) { return strings.CutPrefix(user, operatorPrefix) }

var operatorName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

// IsOperatorName reports whether an operator can have this name at the broker.
func IsOperatorName(name string) bool { return operatorName.MatchString(name) }

// rights gathers the permissions of one user.
type rights struct{ User }

// newRights begins with what every user who works with the streams may do: ask for its own permissions, and receive
// answers. Each user has an account of its own; see Accounts.
func newRights(name, about string) *rights {
	r := &rights{User{Name: name, Account: accountOf(name), About: about, Subscribe: []string{Inbox(name) + ".>"}}}
	r.publish(userInfo, "$JS.API.INFO")
	return r
}

func (r *rights) publish(subjects ...string)   { r.Publish = append(r.Publish, subjects...) }
func (r *rights) subscribe(subjects ...string) { r.Subscribe = append(r.Subscribe, subjects...) }

func api(format string, args ...any) string { return "$JS.API." + fmt.Sprintf(format, args...) }

// bucketStream returns the name of the stream that holds a bucket.
func bucketStream(bucket string) string { return "KV_" + bucket }

// streamInfo lets the user see the settings and the state of streams, but not what is in them.
func (r *rights) streamInfo(streams ...string) {
	for _, s := range streams {
		r.publish(api("STREAM.INFO.%s", s))
	}
}

// createStream lets the user make a stream and change its settings, but not delete it. A user with this right can make
// the broker send anything anywhere in the account of the streams (a stream can republish, and copy others), so it is
// for UserProvision alone.
func (r *rights) createStream(stream string) {
	r.streamInfo(stream)
	r.publish(api("STREAM.CREATE.%s", stream), api("STREAM.UPDATE.%s", stream))
}

// createConsumer does the same for a consumer, whose settings can name a subject to deliver to.
func (r *rights) createConsumer(stream, consumer string) {
	r.consumerInfo(stream, consumer)
	r.publish(api("CONSUMER.CREATE.%s.%s", stream, consumer))
}

// consumerInfo lets the user see a consumer.
func (r *rights) consumerInfo(stream, consumer string) {
	r.publish(api("CONSUMER.INFO.%s.%s", stream, consumer))
}

// consume lets the user fetch from an existing consumer, and acknowledge. Both forms of an acknowledgement's subject
// are as long as the server's, so that no subject fits both: an acknowledgement can ask for the next message, and a
// short one for another consumer would fit the long form here.
func (r *rights) consume(stream, consumer string) {
	r.consumerInfo(stream, consumer)
	r.publish(api("CONSUMER.MSG.NEXT.%s.%s", stream, consumer),
		fmt.Sprintf("$JS.ACK.%s.%s.*.*.*.*.*", stream, consumer),
		// The longer form of the same, which a server can be configured to use.
		fmt.Sprintf("$JS.ACK.*.*.%s.%s.*.*.*.*.>", stream, consumer))
}

// read lets the user read a stream's messages by their sequence, one or many at a time. It needs no consumer.
func (r *rights) read(streams ...string) {
	r.streamInfo(streams...)

	for _, s := range streams {
		r.publish(api("DIRECT.GET.%s", s))
	}
}

// readKeys lets the user read keys of a bucket.
func (r *rights) readKeys(bucket string, keys ...string) {
	r.streamInfo(bucketStream(bucket))

	for _, key := range keys {
		r.publish(api("DIRECT.GET.%s.$KV.%s.%s", bucketStream(bucket), bucket, key))
	}
}

// writeKeys lets the user read, write and delete keys of a bucket.
func (r *rights) writeKeys(bucket string, keys ...string) {
	r.readKeys(bucket, keys...)

	for _, key := range keys {
		r.publish(fmt.Sprintf("$KV.%s.%s", bucket, key))
	}
}

// controlPrefix begins the subjects of requests: bobo.control.<service>.<endpoint>.
const controlPrefix = "bobo.control."

// Endpoints by their callers: services alone, everyone who reads, and operators who give orders. Each endpoint of a
// service is in exactly one of these lists, which is its declaration: shared/control serves no other, and records every
// order in the audit.
var (
	serviceEndpoints = map[Service][]string{Resolver: {"observe"}, Ingest: {"purge"}, Janitor: {"forget"}}
	readEndpoints    = map[Service][]string{
		Ingest:    {"state", "find-file", "files", "file-rows"},
		Resolver:  {"state", "replays", "mapping-list", "worker", "try", "held"},
		Publisher: {"state", "sending"},
		Janitor:   {"state", "mapping", "reconcile-report", "journal"},
	}

	// Reads for operators only, though they are no orders: they name workers.
	operatorReads = map[Service][]string{Ingest: {"slowest"}, Resolver: {"held-show", "file-calls", "erase-show", "replay-forecast", "dead-forecast"}, Janitor: {"mapping-held"}}
	// Operators' reads of a person's past, which are recorded in the audit like orders.
	auditedReads   = map[Service][]string{Resolver: {"worker-past", "on-duty"}, Ingest: {"bookings"}}
	orderEndpoints = map[Service][]string{
		Ingest:    {"mute-feed", "check"},
		Resolver:  {"replay", "stop-replay", "requeue", "dead-requeue", "dead-drop", "held-decide", "held-requeue", "erase", "check"},
		Publisher: {"pause", "resume", "check"},
		Janitor:   {"mapping-refresh", "mapping-approve", "reconcile", "journal-note", "notify-test", "emergency-login", "check"},
	}
)

// EndpointKind is what an endpoint is for, by who may call it.
type EndpointKind string

// The kinds of endpoints.
const (
	// Internal endpoints are for services alone.
	Internal EndpointKind = "internal"
	// Reading endpoints change nothing.
	Reading EndpointKind = "looking"
	// Ordering endpoints change something because an operator says so.
	Ordering EndpointKind = "ordering"
)

// KindOf returns the kind that an endpoint of a service is declared as; it is empty for an undeclared endpoint.
func KindOf(service Service, endpoint string) EndpointKind {
	in := func(declared map[Service][]string) bool { return slices.Contains(declared[service], endpoint) }
	switch {
	case in(serviceEndpoints):
		return Internal
	case in(readEndpoints), in(operatorReads), in(auditedReads):
		return Reading
	case in(orderEndpoints):
		return Ordering
	default:
		return ""
	}
}

// IsAuditedRead reports whether a read is recorded in the audit before it is answered.
func IsAuditedRead(service Service, endpoint string) bool {
	return slices.Contains(auditedReads[service], endpoint)
}

// ask lets the user ask endpoints of a service.
func (r *rights) ask(service Service, endpoints ...string) {
	for _, e := range endpoints {
		r.publish(controlPrefix + string(service) + "." + e)
	}
}

// answer lets a service answer requests, and the inquiries of NATS's services framework. The service writes the orders
// that it gets into its own chain of the audit.
func (r *rights) answer(service Service) {
	r.Answers = true
	r.streamInfo(StreamAudit)
	r.publish(AuditSubject(service), api("DIRECT.GET.%s.%s", StreamAudit, AuditSubject(service)))
	r.writeKeys(BucketAudit, AuditHead(service), AuditDetail(service, "*"))
	r.subscribe(controlPrefix + string(service) + ".*")

	for _, verb := range inquiries {
		of := "$SRV." + verb
		r.subscribe(of, inquiry(verb, service), inquiry(verb, service)+".*")
	}
}

// inquiries are the verbs of NATS's services framework.
var inquiries = []string{"PING", "INFO", "STATS"}

func inquiry(verb string, service Service) string {
	return "$SRV." + verb + ".bobosync-" + string(service)
}

// The keys of what all callers of AtHoc share: the circuit breaker and the broker's clock, and the access token with
// the lease under which it is replaced.
var (
	breakerKeys = []string{"athoc.brake", "clock"}
	tokenKeys   = []string{"athoc.token.*"}
	// pauseKey is the key of an operator's pause, which only publishers write.
	pauseKey = "athoc.pause"
)

// partitionKeys are the leases of all partitions, as PartitionLease names them.
const partitionKeys = "lane.*"

// callAtHoc lets a service share the circuit breaker and the token.
func (r *rights) callAtHoc() {
	r.writeKeys(BucketState, breakerKeys...)
	r.readKeys(BucketState, pauseKey)
	r.shareToken()
}

// shareToken lets the user use the token that all share, and replace it. It is encrypted under AtHoc's credentials.
func (r *rights) shareToken() {
	r.writeKeys(BucketState, tokenKeys...)
	r.writeKeys(BucketLeases, tokenKeys...)
}

// needs lists the streams of others that a service cannot begin without; a bucket is listed by its stream.
var needs = map[Service][]string{
	Ingest:    {StreamUpdates, bucketStream(BucketState)},
	Resolver:  {StreamEntries, StreamAcks, StreamMapping, bucketStream(BucketCalls)},
	Publisher: {StreamUpdates, StreamAcks, StreamDead, bucketStream(BucketState)},
	Janitor:   {bucketStream(BucketState), bucketStream(BucketLeases)},
}

// ownResources lets a service see what it owns and what it needs of others, and fetch from its consumers. It does not
// let the service make any of that.
func (r *rights) ownResources(me Service) {
	var s Settings
	for _, p := range s.resources() {
		switch {
		case !me.owns(p.Name):
		case p.Kind == KindConsumer:
			r.consume(p.Stream, p.Name)
		default:
			r.streamInfo(p.stream.Name)
		}
	}

	r.streamInfo(needs[me]...)
}

func (r *rights) user() User {
	tidy := func(subjects []string) []string {
		slices.Sort(subjects)
		return slices.Compact(subjects)
	}
	r.Publish, r.Subscribe = tidy(r.Publish), tidy(r.Subscribe)

	return r.User
}

func ingestUser() User {
	r := newRights(string(Ingest), "publishes the entries of files, settles their rows, and purges what was read")
	r.ownResources(Ingest)
	r.answer(Ingest)
	r.publish(entriesPrefix+"*", DeadSubject(string(Ingest)))
	r.publish(api("STREAM.PURGE.%s", StreamEntries))
	r.read(StreamEntries) // to see how old they are
	r.readKeys(BucketState, KeyResolverEpoch)
	r.writeKeys(BucketState, FeedKey("*"))
	r.ask(Resolver, "state") // which rows wait for a person
	// To see whether anything is still under way anywhere.
	r.consumerInfo(StreamEntries, ConsumerResolverEntries)

	for partition := range Partitions {
		r.consumerInfo(StreamUpdates, PartitionConsumer(partition))
	}

	return r.user()
}

func resolverUser() User {
	r := newRights(string(Resolver), "reads entries, the mapping and outcomes, and publishes updates")
	r.ownResources(Resolver)
	r.answer(Resolver)
	r.publish(updatesPrefix+"*.*", SubjectAcks, DeadSubject(string(Resolver)), SubjectWake)
	r.writeKeys(BucketState, KeyResolverEpoch, guardPrefix+">")
	r.read(StreamUpdates, StreamEntries, StreamMapping) // to rebuild its state store, and for replays
	r.publish(api("CONSUMER.LIST.%s", StreamUpdates))
	r.publish(api("DIRECT.GET.%s.%s*.*", StreamUpdates, updatesPrefix)) // when a user's update was published
	r.publish(historyPrefix+">", api("DIRECT.GET.%s.%s", StreamHistory, SubjectHistoryInfo))
	r.read(StreamHistory, StreamAcks, bucketStream(BucketCalls)) // calls whose publisher was killed, and to rebuild a lost history
	r.writeKeys(BucketCalls, CallsKey("*"))
	r.read(StreamDead)
	r.publish(api("STREAM.MSG.DELETE.%s", StreamDead), entriesPrefix+"*") // to requeue and to drop what could not be read
	r.eraseWorkers()

	return r.user()
}

// eraseWorkers lets the resolver delete what is stored of a worker, and remove the worker from what belongs to the
// audit's records. The records hold a hash of that, so that nothing else can be put there unnoticed.
func (r *rights) eraseWorkers() {
	for _, s := range []string{StreamEntries, StreamUpdates, StreamAcks, StreamHistory} {
		r.publish(api("STREAM.MSG.DELETE.%s", s))
	}

	r.consumerInfo(StreamAcks, ConsumerIngestAcks)
	r.read(bucketStream(BucketAudit))

	for _, service := range []Service{Ingest, Publisher, Janitor} {
		r.publish(fmt.Sprintf("$KV.%s.%s", BucketAudit, AuditDetail(service, "*")))
	}

	r.ask(Janitor, serviceEndpoints[Janitor]...)
}

func publisherUser() User {
	r := newRights(string(Publisher), "sends updates to AtHoc, under the leases of partitions")
	r.ownResources(Publisher)
	r.answer(Publisher)
	r.publish(SubjectAcks, DeadSubject(string(Publisher)))
	r.subscribe(SubjectWake)
	r.publish(api("CONSUMER.LIST.%s", StreamUpdates))
	r.writeKeys(BucketLeases, partitionKeys)
	r.writeKeys(BucketCalls, CallsKey("*"))
	r.callAtHoc()
	r.writeKeys(BucketState, pauseKey)

	return r.user()
}

func janitorUser() User {
	r := newRights(string(Janitor), "publishes the mapping, and asks the other services by the clock")
	r.ownResources(Janitor)
	r.answer(Janitor)
	r.publish(SubjectMapping, api("STREAM.PURGE.%s", StreamMapping))
	r.read(StreamMapping) // what is in force, to compare a new one with
	r.read(StreamAudit)   // to note the day's hashes
	r.publish(journalPrefix+">", api("STREAM.PURGE.%s", StreamJournal), api("STREAM.MSG.DELETE.%s", StreamJournal))
	r.read(StreamJournal)
	r.writeKeys(BucketState, "janitor.>")
	r.writeKeys(BucketLeases, "janitor")
	r.callAtHoc()

	for _, service := range []Service{Ingest, Resolver} {
		r.ask(service, serviceEndpoints[service]...)
	}

	r.observe()
	r.ask(Ingest, "file-rows") // which lines a notice is about

	return r.user()
}

// observe lets the janitor read what the verdict is judged from, like a person who asks for the status.
func (r *rights) observe() {
	var s Settings
	for _, p := range s.resources() {
		if p.Kind == KindConsumer {
			r.consumerInfo(p.Stream, p.Name)
		} else {
			r.streamInfo(p.stream.Name)
		}
	}

	r.readKeys(BucketLeases, partitionKeys)

	for _, service := range []Service{Ingest, Resolver, Publisher, Janitor} {
		r.ask(service, "state")
	}

	r.ask(Ingest, "files")
}

func provisionUser() User {
	r := newRights(UserProvision, "makes streams, consumers and buckets, and changes their settings; reads and deletes no message")
	r.Account = AccountStore
	var s Settings
	for _, p := range s.resources() {
		if p.Kind == KindConsumer {
			r.createConsumer(p.Stream, p.Name)
		} else {
			r.createStream(p.stream.Name)
		}
	}

	r.publish(SubjectServers)

	return r.user()
}

// inspectAll lets an operator see all settings and states, ask the services, and read dead letters.
func (r *rights) inspectAll() {
	r.streamInfo("*")
	r.consumerInfo("*", "*")
	r.publish(api("STREAM.LIST"), api("STREAM.NAMES"), api("CONSUMER.LIST.*"), api("CONSUMER.NAMES.*"))
	r.read(StreamDead, StreamAudit)
	r.readKeys(BucketAudit, AuditHead("*")) // not what was ordered, which may name workers
	r.readKeys(BucketState, append(breakerKeys, pauseKey, KeyConsoleEnded)...)
	r.readKeys(BucketLeases, partitionKeys)
	r.publish(SubjectServers)

	for service, endpoints := range readEndpoints {
		r.ask(service, endpoints...)

		for _, verb := range inquiries {
			r.publish(inquiry(verb, service))
		}
	}
}

func operatorUser(name, about string) User {
	r := newRights(name, about)
	r.inspectAll()
	r.read(bucketStream(BucketAudit))

	for _, declared := range []map[Service][]string{operatorReads, auditedReads, orderEndpoints} {
		for service, endpoints := range declared {
			r.ask(service, endpoints...)
		}
	}

	r.shareToken() // to check AtHoc without revoking the services' token
	r.writeKeys(BucketState, KeyConsoleEnded)

	return r.user()
}

func viewerUser() User {
	r := newRights(UserViewer, "looks at everything that operators see, and changes nothing")
	r.inspectAll()
	return r.user()
}

// backupUser has no rights to what is on its way: the services refill an empty broker, and an old copy of the updates
// would be sent to AtHoc as if it were the latest.
func backupUser() User {
	r := newRights(UserBackup, "takes copies of dead letters, the journal, the audit, the history and the mapping, and puts them back where there are none")
	r.Account = AccountStore // a copy travels past the accounts' boundary
	for _, s := range []string{StreamDead, StreamJournal, StreamAudit, bucketStream(BucketAudit), StreamHistory, StreamMapping} {
		r.streamInfo(s)
		r.publish(api("STREAM.SNAPSHOT.%s", s), api("STREAM.RESTORE.%s", s), api("CONSUMER.LIST.%s", s), api("CONSUMER.NAMES.%s", s),
			"$JS.SNAPSHOT.ACK."+s+".>", "$JS.SNAPSHOT.RESTORE."+s+".>")
	}

	r.publish(api("STREAM.NAMES"), api("STREAM.LIST"))

	return r.user()
}

func monitorUser() User {
	u := User{
		Name: UserMonitor, Account: AccountSystem, About: "looks at the servers",
		Publish:   []string{"$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.*", userInfo},
		Subscribe: []string{Inbox(UserMonitor) + ".>", "$SYS.SERVER.>", "$SYS.ACCOUNT.>"},
	}
	for _, what := range []string{"HEALTHZ", "IDZ", "JSZ", "ROUTEZ", "STATSZ", "VARZ"} {
		u.Publish = append(u.Publish, "$SYS.REQ.SERVER.*."+what)
	}

	for _, what := range []string{"CONNZ", "INFO", "JSZ", "STATZ", "SUBSZ"} {
		u.Publish = append(u.Publish, "$SYS.REQ.ACCOUNT.*."+what)
	}

	return (&rights{u}).user()
}

// MayPublish reports whether the user may send to a subject.
func (u User) MayPublish(subject string) bool { return matchesAny(u.Publish, subject) }
