package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/text"
	"bobosync/shared/topology"
)

// wanted is the topology that the settings ask for.
func (f *facts) wanted() topology.Settings { return topology.From(f.Broker, f.Calls) }

const makeThem = "start the services, which make what is missing, or use bobosync provision"

// checkStreams compares the broker's streams with the wanted ones.
func checkStreams(ctx context.Context, f *facts) []Result {
	ctx, cancel := f.part(ctx, askShare)
	defer cancel()

	f.streams, f.missing = map[string]*jetstream.StreamInfo{}, map[string]bool{}
	var missing []string
	var results []Result
	all := 0
	for _, want := range f.wanted().Streams() {
		if !f.mayAsk("$JS.API.STREAM.INFO." + want.Name) {
			continue
		}

		all++

		s, err := f.js.Stream(ctx, want.Name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			missing = append(missing, want.Name)
			f.missing[want.Name] = true
		case err != nil:
			results = append(results, f.cannotAsk(err, "stream "+want.Name, "$JS.API.STREAM.INFO."+want.Name)...)
		default:
			f.streams[want.Name] = s.CachedInfo()
			results = append(results, judgeStream(want, s.CachedInfo())...)
		}
	}

	results = append(judgeMissing("stream", missing, all), results...)
	if len(results) == 0 {
		return asWanted(all, len(f.wanted().Streams()))
	}

	return results
}

// asWanted is the result if nothing is wrong. A service's own credentials may not see the parts of others.
func asWanted(seen, all int) []Result {
	if seen < all {
		return good("the %d that these credentials may look at are there and as wanted", seen)
	}
	return good("all %d are there and as wanted", all)
}

// judgeMissing distinguishes a broker that has not been used yet from one that has lost something.
func judgeMissing(what string, missing []string, all int) []Result {
	switch {
	case len(missing) == 0:
		return nil
	case len(missing) == all:
		return warn(makeThem, "there are no %ss yet: no service has worked with this broker", what)
	}

	return bad(makeThem+"; what it held is read again from the files",
		"%s %s is missing, while others are there", what, strings.Join(missing, ", "))
}

// cannotAsk says why a stream, consumer, bucket or the account could not be checked.
func (f *facts) cannotAsk(err error, what, subject string) []Result {
	if f.denied.named(subject) {
		return bad("allow this user to publish to "+subject, "this user may not ask for %s", what)
	}

	if errors.Is(err, context.DeadlineExceeded) {
		return bad("look at the broker, and whether enough servers of its cluster run", "the broker does not answer for %s", what)
	}

	return bad("look at the broker's log", "the broker cannot report on %s: %v", what, err)
}

// grave are the settings without which the services' promises do not hold; the others are limits.
var grave = []string{"subjects", "retention", "discard", "storage", "max messages per subject", "atomic publish", "max age"}

// fullPart is how full a stream or an account may be before the check warns of it, in percent.
const fullPart = 90

// judgeStream compares a stream with the wanted one, and checks how full it is.
func judgeStream(want jetstream.StreamConfig, have *jetstream.StreamInfo) []Result {
	results := judgeDifferences("stream "+want.Name, topology.Differences(want, have.Config))
	limit := have.Config.MaxBytes
	if want.Name == topology.StreamHistory {
		return append(results, judgeHistory(have)...)
	}

	if limit > 0 && have.State.Bytes >= uint64(limit)/100*fullPart {
		results = append(results, warn("check whether the resolver runs; else raise ENTRIES_MAX_BYTES",
			"stream %s is nearly full (%s of %s): ingest waits when it is", want.Name, size(have.State.Bytes), size(uint64(limit)))...)
	}

	return results
}

// provisionIt is what to do about settings that are not as wanted.
const provisionIt = "bobosync provision --dry-run shows what can be changed, bobosync provision changes it"

// judgeDifferences reports the settings of a stream, consumer or bucket that are not as wanted.
func judgeDifferences(part string, differences []string) (results []Result) {
	for _, diff := range differences {
		judge := warn
		if slices.ContainsFunc(grave, func(name string) bool { return isOf(diff, name) }) {
			judge = bad
		}

		results = append(results, judge(provisionIt, "%s: %s", part, diff)...)
	}

	return results
}

// isOf reports whether a difference concerns a setting.
func isOf(difference, setting string) bool { return strings.HasPrefix(difference, setting+" is ") }

// judgeHistory warns if the history's size limit cuts it short.
func judgeHistory(have *jetstream.StreamInfo) []Result {
	limit, kept := have.Config.MaxBytes, have.TimeStamp.Sub(have.State.FirstTime)
	if limit <= 0 || have.State.Bytes < uint64(limit)/100*fullPart || kept > have.Config.MaxAge/100*fullPart {
		return nil
	}

	return warn("raise HISTORY_MAX_BYTES, or lower HISTORY_DAYS",
		"what AtHoc was sent takes %s of %s, so it is known for the last %s and not for %s: the oldest gives way",
		size(have.State.Bytes), size(uint64(limit)), text.Ago(kept), text.Ago(have.Config.MaxAge))
}

// checkConsumers compares the durable consumers of the streams that exist with the wanted ones.
func checkConsumers(ctx context.Context, f *facts) []Result {
	ctx, cancel := f.part(ctx, askShare)
	defer cancel()

	var missing []string
	var results []Result
	seen, all := 0, 0
	for stream, consumers := range f.wanted().Consumers() {
		all += len(consumers)

		if f.missing[stream] {
			continue // reported already
		}

		for _, want := range consumers {
			if !f.mayAsk("$JS.API.CONSUMER.INFO." + stream + "." + want.Durable) {
				continue
			}

			seen++

			c, err := f.js.Consumer(ctx, stream, want.Durable)
			switch {
			case errors.Is(err, jetstream.ErrConsumerNotFound):
				missing = append(missing, want.Durable)
			case err != nil:
				results = append(results, f.cannotAsk(err, "consumer "+want.Durable, "$JS.API.CONSUMER.INFO."+stream+"."+want.Durable)...)
			default:
				results = append(results, judgeConsumer(want, c.CachedInfo().Config)...)
			}
		}
	}

	slices.Sort(missing)

	results = append(judgeMissing("consumer", missing, seen), results...)
	switch {
	case len(results) > 0:
		return results
	case seen == 0:
		return skipped("not tried: there are no streams yet, or these credentials may not look")
	}

	return asWanted(seen, all)
}

func judgeConsumer(want, have jetstream.ConsumerConfig) []Result {
	const advice = provisionIt
	var results []Result

	filters := have.FilterSubjects
	if len(filters) == 0 && have.FilterSubject != "" {
		filters = []string{have.FilterSubject}
	}

	if !slices.Equal(want.FilterSubjects, filters) {
		results = append(results, bad(advice, "consumer %s reads %v, wanted %v", want.Durable, filters, want.FilterSubjects)...)
	}

	if have.AckPolicy != want.AckPolicy {
		results = append(results, bad(advice, "consumer %s acknowledges by %v, wanted %v", want.Durable, have.AckPolicy, want.AckPolicy)...)
	}

	if have.MaxDeliver > 0 {
		results = append(results, bad(advice, "consumer %s gives up after %d deliveries: messages would be lost", want.Durable, have.MaxDeliver)...)
	}

	if have.AckWait != want.AckWait {
		results = append(results, warn(advice+"; all services need the same ATHOC_TIMEOUT", "consumer %s delivers again after %s, wanted %s", want.Durable, have.AckWait, want.AckWait)...)
	}

	if have.MaxAckPending != want.MaxAckPending {
		results = append(results, warn(advice, "consumer %s has at most %d messages in work, wanted %d", want.Durable, have.MaxAckPending, want.MaxAckPending)...)
	}

	others := slices.DeleteFunc(topology.ConsumerDifferences(want, have), func(diff string) bool {
		return slices.ContainsFunc([]string{"filters", "ack policy", "max deliver", "ack wait", "max ack pending"}, func(name string) bool { return isOf(diff, name) })
	})

	return append(results, judgeDifferences("consumer "+want.Durable, others)...)
}

// checkBuckets compares the key-value buckets with the wanted ones.
func checkBuckets(ctx context.Context, f *facts) []Result {
	ctx, cancel := f.part(ctx, askShare)
	defer cancel()

	var missing []string
	var results []Result
	seen, all := 0, f.wanted().Buckets()
	for _, want := range all {
		if !f.mayAsk("$JS.API.STREAM.INFO.KV_" + want.Bucket) {
			continue
		}

		seen++

		stream, err := f.js.Stream(ctx, "KV_"+want.Bucket)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			missing = append(missing, want.Bucket)
		case err != nil:
			results = append(results, f.cannotAsk(err, "bucket "+want.Bucket, "$JS.API.STREAM.INFO.KV_"+want.Bucket)...)
		default:
			results = append(results, judgeBucket(want, stream.CachedInfo().Config)...)
		}
	}

	results = append(judgeMissing("bucket", missing, seen), results...)
	if len(results) == 0 {
		return asWanted(seen, len(all))
	}

	return results
}

// judgeBucket compares the stream of a bucket with the wanted one. How long leases live follows from a setting of the
// publishers.
func judgeBucket(want jetstream.KeyValueConfig, have jetstream.StreamConfig) (results []Result) {
	differences := topology.BucketDifferences(want, have)
	if want.Bucket == topology.BucketLeases && want.TTL != have.MaxAge {
		results = warn("give all services the same ATHOC_TIMEOUT, and start the publishers again",
			"bucket %s keeps its keys for %s, wanted %s", want.Bucket, have.MaxAge, want.TTL)
		differences = slices.DeleteFunc(differences, func(diff string) bool { return isOf(diff, "max age") || isOf(diff, "duplicate window") })
	}

	return append(results, judgeDifferences("bucket "+want.Bucket, differences)...)
}

// checkReplicas checks that each stream has a leader and that its copies exist and are current.
func checkReplicas(_ context.Context, f *facts) []Result {
	if len(f.streams) == 0 {
		return skipped("not tried: there are no streams yet, or these credentials may not look")
	}

	var results []Result
	least := f.Broker.Replicas
	for _, want := range f.wanted().Streams() {
		if have := f.streams[want.Name]; have != nil {
			results = append(results, judgeReplicas(want.Name, have.Config.Replicas, have.Cluster)...)
			least = min(least, have.Config.Replicas)
		}
	}

	if len(results) > 0 {
		return results
	}

	if least < 2 {
		return good("each stream lies on one server (STREAM_REPLICAS=%d)", f.Broker.Replicas)
	}

	return good("each stream lies on %d servers, all of them current", least)
}

// judgeReplicas checks one stream. A server that runs alone reports no cluster.
func judgeReplicas(stream string, replicas int, cluster *jetstream.ClusterInfo) []Result {
	if cluster == nil || replicas < 2 {
		return nil
	}

	if cluster.Leader == "" {
		return bad("start the missing servers of the cluster: more than half of the replicas must run", "stream %s has no leader and takes nothing", stream)
	}

	var offline, behind []string
	for _, r := range cluster.Replicas {
		switch {
		case r.Offline:
			offline = append(offline, r.Name)
		case !r.Current:
			behind = append(behind, fmt.Sprintf("%s (by %d)", r.Name, r.Lag))
		}
	}

	lost := replicas - 1 - len(cluster.Replicas) + len(offline)
	switch {
	case replicas-lost <= replicas/2:
		return bad("start the missing servers of the cluster", "stream %s: %d of %d replicas are gone, so it takes nothing: %s", stream, lost, replicas, strings.Join(offline, ", "))
	case len(offline) > 0:
		return warn("start the server again: until then the stream bears less", "stream %s: the replica on %s is offline", stream, strings.Join(offline, ", "))
	case lost > 0:
		return warn("look after the servers of the cluster", "stream %s: %d of %d replicas have no server", stream, lost, replicas)
	case len(behind) > 0:
		return warn("try again in a minute; if it stays, look after that server's disk and network", "stream %s: the replica on %s lags behind", stream, strings.Join(behind, ", "))
	}

	return nil
}

// checkStorage checks how much the account may store.
func checkStorage(ctx context.Context, f *facts) []Result {
	ctx, cancel := f.part(ctx, askShare)
	defer cancel()

	info, err := f.js.AccountInfo(ctx)
	if err != nil {
		return f.cannotAsk(err, "the account", "$JS.API.INFO")
	}

	used, limit := info.Store, info.Limits.MaxStore
	for _, tier := range info.Tiers {
		used, limit = used+tier.Store, max(limit, tier.Limits.MaxStore)
	}

	return judgeStorage(used, limit, f.Broker.EntriesMaxBytes)
}

// judgeStorage compares what is stored with what the account may store; a limit of 0 or less means none.
func judgeStorage(used uint64, limit, entries int64) []Result {
	const advice = "raise the account's limit in the broker, or lower ENTRIES_MAX_BYTES"
	switch {
	case limit <= 0:
		return good("%s stored; this account has no limit but the server's disk", size(used))
	case used >= uint64(limit)/100*fullPart:
		return bad(advice, "the account's storage is as good as full: %s of %s", size(used), size(uint64(limit)))
	case entries > limit:
		return warn(advice, "ENTRIES_MAX_BYTES (%s) is more than this account may store (%s)", size(uint64(entries)), size(uint64(limit)))
	}

	return good("%s of %s stored", size(used), size(uint64(limit)))
}
