package topology

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Kind says what a resource of the topology is.
type Kind string

// The kinds of resources.
const (
	KindStream   Kind = "stream"
	KindBucket   Kind = "bucket"
	KindConsumer Kind = "consumer"
)

// Resource is a stream, a bucket or a consumer.
type Resource struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
	// Stream is the stream that a consumer reads; empty for the others.
	Stream string `json:"stream,omitempty"`
	// Owner is the service whose settings the resource follows.
	Owner Service `json:"owner"`
}

// String names the resource for people.
func (p Resource) String() string { return string(p.Kind) + " " + p.Name }

// resource is a Resource with the settings that it should have.
type resource struct {
	Resource
	stream   jetstream.StreamConfig // of a stream, or of the stream that holds a bucket
	consumer jetstream.ConsumerConfig
}

// resources lists everything in an order in which it can be made: streams and buckets before consumers.
func (s Settings) resources() []resource {
	var all []resource
	for _, c := range s.Streams() {
		all = append(all, resource{Resource: Resource{Kind: KindStream, Name: c.Name, Owner: ownerOf(c.Name)}, stream: c})
	}

	for _, b := range s.Buckets() {
		all = append(all, resource{Resource: Resource{Kind: KindBucket, Name: b.Bucket, Owner: ownerOf(b.Bucket)}, stream: bucketConfig(b)})
	}

	consumers := s.Consumers()
	for _, c := range s.Streams() {
		for _, config := range consumers[c.Name] {
			all = append(all, resource{
				Resource: Resource{Kind: KindConsumer, Name: config.Durable, Stream: c.Name, Owner: ownerOf(config.Durable)},
				consumer: config,
			})
		}
	}

	return all
}

// bucketConfig returns the stream of a bucket, as NATS lays buckets out (its ADR-8), but without rollups: with a header
// alone, a user who may write one key could remove all others, leases among them.
func bucketConfig(b jetstream.KeyValueConfig) jetstream.StreamConfig {
	duplicates := 2 * time.Minute
	if b.TTL > 0 {
		duplicates = min(duplicates, b.TTL)
	}

	return jetstream.StreamConfig{
		Name: bucketStream(b.Bucket), Description: b.Description, Subjects: []string{"$KV." + b.Bucket + ".>"},
		Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Replicas: b.Replicas, Discard: jetstream.DiscardNew,
		MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: int64(b.History), MaxMsgSize: -1, MaxConsumers: -1, MaxAge: b.TTL,
		Duplicates: duplicates, AllowDirect: true, DenyDelete: true,
	}
}

// creation returns the subject of the request that makes the resource.
func (r resource) creation() string {
	if r.Kind == KindConsumer {
		return api("CONSUMER.CREATE.%s.%s", r.Stream, r.Name)
	}
	return api("STREAM.CREATE.%s", r.stream.Name)
}

// change returns the subject of the request that changes the resource's settings.
func (r resource) change() string {
	if r.Kind == KindConsumer {
		return r.creation()
	}
	return api("STREAM.UPDATE.%s", r.stream.Name)
}

// found is a resource as the broker has it.
type found struct {
	resource
	missing      bool
	streamInfo   jetstream.StreamInfo
	consumerInfo jetstream.ConsumerInfo
}

// get asks the broker for a resource.
func (r resource) get(ctx context.Context, js jetstream.JetStream) (found, error) {
	f := found{resource: r}
	var err error
	if r.Kind == KindConsumer {
		var c jetstream.Consumer
		if c, err = js.Consumer(ctx, r.Stream, r.Name); err == nil {
			f.consumerInfo = *c.CachedInfo()
		}
	} else {
		var s jetstream.Stream
		if s, err = js.Stream(ctx, r.stream.Name); err == nil {
			f.streamInfo = *s.CachedInfo()
		}
	}

	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerNotFound) {
		f.missing = true
		return f, nil
	}

	if err != nil {
		return f, fmt.Errorf("look at %s: %w", r, err)
	}

	return f, nil
}

// Change is a setting that is not as it should be.
type Change struct {
	Setting string `json:"setting"`
	Have    string `json:"have"`
	Want    string `json:"want"`
	// Refused says why the setting is left as it is; empty if it can be changed in place without losing anything.
	Refused string `json:"refused,omitempty"`
}

// String describes the change in a few words.
func (c Change) String() string { return fmt.Sprintf("%s is %s, wanted %s", c.Setting, c.Have, c.Want) }

// setting is one setting of a resource, as it is and as it should be.
type setting struct {
	name       string
	have, want any
	// fixed says that a broker does not change it.
	fixed bool
	// loses says what changing it would throw away; empty if nothing.
	loses string
}

// changes lists the settings whose texts differ.
func changes(settings []setting) []Change {
	var out []Change
	for _, s := range settings {
		c := Change{Setting: s.name, Have: text(s.have), Want: text(s.want)}
		switch {
		case c.Have == c.Want:
			continue
		case s.fixed:
			c.Refused = "a broker does not change this in place: see deploy/nats/README.md for how to recreate the part"
		case s.loses != "":
			c.Refused = s.loses
		}

		out = append(out, c)
	}

	return out
}

func text(v any) string {
	if list, ok := v.([]string); ok {
		return "[" + strings.Join(list, " ") + "]"
	}
	return fmt.Sprint(v)
}

// changes lists the settings of the resource that are not as wanted.
func (f found) changes(now time.Time) []Change {
	if f.Kind == KindConsumer {
		return changes(consumerSettings(f.consumer, f.consumerInfo.Config))
	}
	return changes(streamSettings(f.stream, f.streamInfo.Config, f.streamInfo.State, now))
}

func streamSettings(want, have jetstream.StreamConfig, state jetstream.StreamState, now time.Time) []setting {
	return append(otherSettings(want, have), []setting{
		{name: "subjects", have: have.Subjects, want: want.Subjects},
		{name: "retention", have: have.Retention, want: want.Retention, fixed: true},
		{name: "storage", have: have.Storage, want: want.Storage, fixed: true},
		{name: "sealed", have: have.Sealed, want: want.Sealed, fixed: have.Sealed},
		{name: "deny delete", have: have.DenyDelete, want: want.DenyDelete, fixed: have.DenyDelete},
		{name: "deny purge", have: have.DenyPurge, want: want.DenyPurge, fixed: have.DenyPurge},
		{name: "discard", have: have.Discard, want: want.Discard},
		{name: "replicas", have: have.Replicas, want: want.Replicas},
		{name: "max bytes", have: have.MaxBytes, want: want.MaxBytes, loses: tooManyBytes(want, state)},
		{name: "max age", have: have.MaxAge, want: want.MaxAge, loses: cmp.Or(shorterLease(want, have, state), tooOld(want, state, now))},
		{name: "max messages", have: have.MaxMsgs, want: want.MaxMsgs},
		{
			name: "max messages per subject", have: have.MaxMsgsPerSubject, want: want.MaxMsgsPerSubject,
			loses: tooManyPerSubject(want, state),
		},
		{name: "max message size", have: have.MaxMsgSize, want: want.MaxMsgSize},
		{name: "direct get", have: have.AllowDirect, want: want.AllowDirect},
		{name: "atomic publish", have: have.AllowAtomicPublish, want: want.AllowAtomicPublish},
		{name: "rollup", have: have.AllowRollup, want: want.AllowRollup},
		{name: "duplicate window", have: have.Duplicates, want: want.Duplicates},
	}...)
}

// shorterLease returns why leases are not made shorter; "" if they may be. A holder counts on the time for which its
// lease was granted, and another process would take the lease before that has passed.
func shorterLease(want, have jetstream.StreamConfig, state jetstream.StreamState) string {
	if want.Name != bucketStream(BucketLeases) || want.MaxAge >= have.MaxAge || state.Msgs == 0 {
		return ""
	}
	return fmt.Sprintf("leases may be held that were granted for longer; it is changed when publishers and janitors have been stopped for %s", have.MaxAge)
}

// tooManyBytes returns what a limit of bytes would drop; "" if nothing. A stream that refuses new messages when it is
// full drops none.
func tooManyBytes(want jetstream.StreamConfig, state jetstream.StreamState) string {
	if want.MaxBytes <= 0 || state.Bytes <= uint64(want.MaxBytes) || want.Discard != jetstream.DiscardOld {
		return ""
	}
	return fmt.Sprintf("it would drop messages: %d bytes are stored", state.Bytes)
}

func tooOld(want jetstream.StreamConfig, state jetstream.StreamState, now time.Time) string {
	if want.MaxAge <= 0 || state.Msgs == 0 || now.Sub(state.FirstTime) <= want.MaxAge {
		return ""
	}
	return fmt.Sprintf("it would drop messages: the oldest is of %s; wait until it is gone", state.FirstTime.UTC().Format(time.RFC3339))
}

func tooManyPerSubject(want jetstream.StreamConfig, state jetstream.StreamState) string {
	most := want.MaxMsgsPerSubject
	if most <= 0 || state.Msgs <= uint64(most) || most == 1 && state.Msgs == state.NumSubjects {
		return ""
	}

	return fmt.Sprintf("it could drop messages: %d are stored under %d subjects", state.Msgs, state.NumSubjects)
}

func consumerSettings(want, have jetstream.ConsumerConfig) []setting {
	return append(otherSettings(want, have), []setting{
		{name: "ack policy", have: have.AckPolicy, want: want.AckPolicy, fixed: true},
		{name: "deliver policy", have: have.DeliverPolicy, want: want.DeliverPolicy, fixed: true},
		{name: "ack wait", have: have.AckWait, want: want.AckWait},
		{name: "max deliver", have: have.MaxDeliver, want: want.MaxDeliver},
		{name: "max ack pending", have: have.MaxAckPending, want: want.MaxAckPending},
		{name: "filters", have: filters(have), want: filters(want)},
	}...)
}

// filters returns the filters of a consumer, which keeps them in either of two fields.
func filters(c jetstream.ConsumerConfig) []string {
	if c.FilterSubject != "" {
		return []string{c.FilterSubject}
	}
	return c.FilterSubjects
}

// Differences names the settings in which a stream is not as wanted, as far as the services depend on them.
func Differences(want, have jetstream.StreamConfig) []string {
	var diff []string
	for _, c := range changes(streamSettings(want, have, jetstream.StreamState{}, time.Time{})) {
		diff = append(diff, c.String())
	}

	return diff
}

// BucketDifferences is like Differences, for the stream of a bucket.
func BucketDifferences(want jetstream.KeyValueConfig, have jetstream.StreamConfig) []string {
	return Differences(bucketConfig(want), have)
}

// ConsumerDifferences is like Differences, for a consumer.
func ConsumerDifferences(want, have jetstream.ConsumerConfig) []string {
	var diff []string
	for _, c := range changes(consumerSettings(want, have)) {
		diff = append(diff, c.String())
	}

	return diff
}

// create makes the resource. If another process has made it meanwhile, that is just as good.
func (r resource) create(ctx context.Context, js jetstream.JetStream) error {
	var err error
	if r.Kind == KindConsumer {
		_, err = js.CreateConsumer(ctx, r.Stream, r.consumer)
		if errors.Is(err, jetstream.ErrConsumerExists) {
			return nil
		}
	} else {
		err = createStream(ctx, js, r.stream)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return nil
		}
	}

	return r.wrap("make", err)
}

// apply brings the resource to the wanted settings, and returns the changes that are refused. Where replicas are
// placed, and how they are stored, stays as somebody has set it.
func (f found) apply(ctx context.Context, js jetstream.JetStream, todo []Change) (left []Change, err error) {
	do := func(name string) bool {
		return slices.ContainsFunc(todo, func(c Change) bool { return c.Setting == name && c.Refused == "" })
	}

	left = slices.DeleteFunc(slices.Clone(todo), func(c Change) bool { return c.Refused == "" })
	if len(left) == len(todo) {
		return left, nil
	}

	if f.Kind == KindConsumer {
		_, err := js.UpdateConsumer(ctx, f.Stream, applyConsumer(f.consumerInfo.Config, f.consumer, do))
		return left, f.wrap("change", err)
	}

	want := applyStream(f.streamInfo.Config, f.stream, do)

	asked, made, err := updateStream(ctx, js, f.streamInfo.Config, want)
	if err != nil {
		return left, f.wrap("change", err)
	}

	if diff := Differences(asked, made); len(diff) > 0 {
		return left, fmt.Errorf("the broker made %s otherwise than asked: %s", f, strings.Join(diff, "; "))
	}

	if asked.MaxBytes != want.MaxBytes {
		left = append(left, Change{
			Setting: "max bytes", Have: text(asked.MaxBytes), Want: text(want.MaxBytes), Refused: ErrNoRoom.Error(),
		})
	}

	return left, nil
}

func applyStream(have, want jetstream.StreamConfig, do func(string) bool) jetstream.StreamConfig {
	set := func(name string, f func()) {
		if do(name) {
			f()
		}
	}
	have = restore(want, have)
	have.Description = want.Description
	set("subjects", func() { have.Subjects = want.Subjects })
	set("deny delete", func() { have.DenyDelete = want.DenyDelete })
	set("deny purge", func() { have.DenyPurge = want.DenyPurge })
	set("discard", func() { have.Discard = want.Discard })
	set("replicas", func() { have.Replicas = want.Replicas })
	set("max bytes", func() { have.MaxBytes = want.MaxBytes })
	set("max age", func() { have.MaxAge = want.MaxAge })
	set("max messages", func() { have.MaxMsgs = want.MaxMsgs })
	set("max messages per subject", func() { have.MaxMsgsPerSubject = want.MaxMsgsPerSubject })
	set("max message size", func() { have.MaxMsgSize = want.MaxMsgSize })
	set("direct get", func() { have.AllowDirect = want.AllowDirect })
	set("atomic publish", func() { have.AllowAtomicPublish = want.AllowAtomicPublish })
	set("rollup", func() { have.AllowRollup = want.AllowRollup })
	set("duplicate window", func() { have.Duplicates = want.Duplicates })

	if have.MaxAge > 0 && have.Duplicates > have.MaxAge {
		have.Duplicates = have.MaxAge // a server takes no longer one
	}

	return have
}

func applyConsumer(have, want jetstream.ConsumerConfig, do func(string) bool) jetstream.ConsumerConfig {
	have = restore(want, have)
	if do("ack wait") {
		have.AckWait = want.AckWait
	}

	if do("max deliver") {
		have.MaxDeliver = want.MaxDeliver
	}

	if do("max ack pending") {
		have.MaxAckPending = want.MaxAckPending
	}

	if do("filters") {
		have.FilterSubject, have.FilterSubjects = "", want.FilterSubjects
	}

	return have
}

func (r resource) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", what, r, err)
}
