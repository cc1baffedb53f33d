package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/telemetry"
	"bobosync/shared/topology"
)

// errLost means that a stream, a consumer or the bucket is not there any more: the session ends and the next one makes it
// anew.
var errLost = errors.New("the broker's store is not what it was")

// identified are the streams whose loss takes something along that was under way.
var identified = []string{topology.StreamEntries, topology.StreamAcks, topology.StreamUpdates}

// session is the work with one broker store, from provisioning until something in it is gone.
type session struct {
	*service
	js  jetstream.JetStream
	pub *bus.Publisher

	identities map[string]string
	memories   chan string   // the names of the resolver's memory, latest only
	stuck      chan struct{} // from the watchdog: publish again what waits
	standstill standstill

	fullSince time.Time // since when the stream of entries is full
	fullLine  minutely
}

// sessions runs one session after the other until ctx ends.
func (s *service) sessions(ctx context.Context) error {
	pause := s.newBackoff()
	for {
		began := s.now()
		err := s.session(ctx)
		if ctx.Err() != nil || errors.Is(err, errKilled) {
			return err
		}
		if s.now().Sub(began) > time.Minute {
			pause = s.newBackoff()
		}
		if errors.Is(err, errLost) {
			s.log.Warn("streams or consumers were lost, making them anew", "error", err)
		} else {
			s.log.Error("ingest was interrupted, going on after a pause", "error", err)
		}
		if err := pause.wait(ctx); err != nil {
			return err
		}
	}
}

func (s *service) session(ctx context.Context) error {
	if err := s.forgetHalfRead(); err != nil { // what the session before did not get to its end
		return err
	}
	js := s.deps.Conn.JS
	if err := topology.Provision(ctx, js, topology.From(s.cfg.Broker, s.cfg.Calls), topology.Ingest, topology.WithLog(s.log)); err != nil {
		return err
	}
	pub, err := bus.NewPublisher(s.deps.Conn, bus.PublisherConfig{})
	if err != nil {
		return err
	}
	x := &session{
		service: s, js: js, pub: pub, memories: make(chan string, 1), stuck: make(chan struct{}, 1),
		identities: map[string]string{},
	}
	defer func() { _ = pub.Close() }() // it only waits for calls, and there are none left
	for _, stream := range identified {
		if x.identities[stream], err = topology.Identity(ctx, js, stream); err != nil {
			return err
		}
	}
	stop, err := control.Serve(ctx, s.deps.Conn.NC, topology.Ingest, s.deps.Version, s.endpoints()...)
	if err != nil {
		return err
	}
	defer stop()
	x.standstill.reset(s.now(), s.settled.get(), s.patience)
	watch, memory, err := x.watchMemory(ctx)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return x.followMemory(ctx, watch) })
	g.Go(func() error { return x.settle(ctx) })
	g.Go(func() error { return x.look(ctx) })
	g.Go(func() error { return x.read(ctx, memory) })
	defer telemetry.NewBacklog(s.deps.Telemetry).WatchConsumers(js, topology.Ingest)()
	defer s.part.InSession()()
	s.onReady(true)
	defer s.onReady(false)
	return g.Wait()
}

// watchMemory returns what the resolver says of its memory now, empty if it has said nothing, and a watch for what follows.
func (x *session) watchMemory(ctx context.Context) (jetstream.KeyWatcher, string, error) {
	bucket, err := x.js.KeyValue(ctx, topology.BucketState)
	if err != nil {
		return nil, "", fmt.Errorf("open bucket %s: %w", topology.BucketState, err)
	}
	watch, err := bucket.Watch(ctx, topology.KeyResolverMemory)
	if err != nil {
		return nil, "", fmt.Errorf("watch the resolver's memory: %w", err)
	}
	memory := ""
	for {
		select {
		case <-ctx.Done():
			return nil, "", errors.Join(ctx.Err(), watch.Stop())
		case entry, open := <-watch.Updates():
			switch {
			case !open:
				return nil, "", fmt.Errorf("watch the resolver's memory: %w", errLost)
			case entry == nil: // what there was has been told
				return watch, memory, nil
			}
			if name, ok := x.memoryOf(entry); ok {
				memory = name
			}
		}
	}
}

func (x *session) memoryOf(entry jetstream.KeyValueEntry) (string, bool) {
	if entry.Operation() != jetstream.KeyValuePut {
		return "", false
	}
	var m event.Memory
	if err := event.Decode(entry.Value(), &m); err != nil {
		x.log.Error("cannot read what the resolver says of its memory, ignoring it: run the same version of all services", "error", err)
		return "", false
	}
	return m.Memory, true
}

// followMemory passes on what the resolver says.
func (x *session) followMemory(ctx context.Context, watch jetstream.KeyWatcher) error {
	defer func() { _ = watch.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case entry, open := <-watch.Updates():
			if !open {
				return fmt.Errorf("watch the resolver's memory: %w", errLost)
			}
			if entry == nil {
				continue
			}
			if name, ok := x.memoryOf(entry); ok {
				select {
				case <-x.memories: // an older name that was not looked at yet
				default:
				}
				x.memories <- name
			}
		}
	}
}

// read is the session's reader: the only one that publishes entries, one thing after the other.
func (x *session) read(ctx context.Context, memory string) error {
	x.watcher.Again() // what an earlier session did not get to
	if err := x.begin(ctx, memory); err != nil {
		return err
	}
	for {
		if err := x.readFound(ctx); err != nil {
			return err
		}
		x.onIdle()
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-x.watcher.Ready():
		case memory := <-x.memories:
			err = x.remember(ctx, memory)
		case <-x.stuck:
			err = x.unstick(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// begin makes good what was lost since the last session.
func (x *session) begin(ctx context.Context, memory string) error {
	if err := x.forgetMemory(); err != nil {
		return err
	}
	if memory != "" {
		if err := x.remember(ctx, memory); err != nil {
			return err
		}
	}
	lost, err := x.lostStreams()
	if err != nil || len(lost) == 0 {
		return err
	}
	files, err := x.unsettled()
	if err != nil {
		return err
	}
	if len(files) > 0 {
		x.log.Warn("streams were lost or are new, reading the files again that wait", "streams", lost, "files", len(files))
		if err := x.publishAgain(ctx, files, "streams were lost", func(*ledger.File, copyFound) error { return nil }); err != nil {
			return err
		}
	}
	return x.storeIdentities("")
}

// forgetMemory forgets which memory was recovered if the stream of entries was lost: event.Recovered may have been lost with it
// before the resolver had read it, which would wait for ever. So all is told again, also if the bucket was lost as well and the
// resolver has yet to say which memory it has. One that is recovered already takes no notice.
func (x *session) forgetMemory() error {
	lost, err := x.lostStreams()
	if err != nil || !slices.Contains(lost, topology.StreamEntries) {
		return err
	}
	err = x.ledger.Update(func(tx *ledger.Tx) error { return tx.SetMeta(ledger.MetaMemory, "") })
	if err != nil {
		return fmt.Errorf("forget what was recovered: %w", err)
	}
	return nil
}

// lostStreams lists the streams that are not those that the ledger knows.
func (x *session) lostStreams() (lost []string, err error) {
	err = x.ledger.View(func(tx *ledger.Tx) error {
		for stream, identity := range x.identities {
			if tx.Meta(ledger.MetaIdentity(stream)) != identity {
				lost = append(lost, stream)
			}
		}
		return nil
	})
	slices.Sort(lost)
	return lost, err
}

// storeIdentities notes that everything was published to the streams of this session, and which memory was recovered.
func (x *session) storeIdentities(memory string) error {
	err := x.ledger.Update(func(tx *ledger.Tx) error {
		var errs []error
		for stream, identity := range x.identities {
			errs = append(errs, tx.SetMeta(ledger.MetaIdentity(stream), identity))
		}
		if memory != "" {
			errs = append(errs, tx.SetMeta(ledger.MetaMemory, memory))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return fmt.Errorf("note what was recovered: %w", err)
	}
	return nil
}

// unsettled returns the files with rows that wait for their outcome, or that were not wholly read, in the order of reading.
func (s *service) unsettled() ([]*ledger.File, error) {
	files, err := s.ledger.Open()
	if err != nil {
		return nil, fmt.Errorf("look up waiting files: %w", err)
	}
	return slices.DeleteFunc(files, func(f *ledger.File) bool { return f.Status == ledger.Done }), nil
}

// send publishes messages, however long it takes. It returns an error only when the context ends or the stream is gone.
func (x *session) send(ctx context.Context, msgs []*message.Message) error {
	pause, complaint := x.newBackoff(), minutely{last: x.now()} // a short outage is not worth a line
	for {
		err := x.pub.PublishAll(ctx, msgs...)
		if errors.Is(err, bus.ErrStreamFull) {
			return x.sendIntoFull(ctx, msgs)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		if errors.Is(err, bus.ErrNoStream) && x.deps.Conn.Connected() {
			return errors.Join(errLost, err)
		}
		if complaint.due(x.now()) {
			x.log.Warn("entries cannot be published, trying again", "messages", len(msgs), "error", err)
		}
		if err := pause.wait(ctx); err != nil {
			return err
		}
	}
}

// sendIntoFull publishes one message after the other, so that it is known which of them are stored, and waits for room.
// A file never fails because the stream is full.
func (x *session) sendIntoFull(ctx context.Context, msgs []*message.Message) error {
	pause := x.newBackoff()
	for len(msgs) > 0 {
		err := x.pub.PublishAll(ctx, msgs[0])
		switch {
		case err == nil:
			msgs, pause = msgs[1:], x.newBackoff()
			continue
		case ctx.Err() != nil:
			return err
		case !errors.Is(err, bus.ErrStreamFull):
			if err := x.send(ctx, msgs); err != nil {
				return err
			}
			msgs = nil
			continue
		}
		purged, err := x.purgeRead(ctx)
		if err != nil {
			x.log.Debug("cannot make room in the stream of entries", "error", err)
		}
		if purged > 0 {
			continue
		}
		x.complainFull()
		if err := pause.wait(ctx); err != nil {
			return err
		}
	}
	if !x.fullSince.IsZero() {
		x.log.Info("there is room for entries again", "seconds", x.now().Sub(x.fullSince).Seconds())
		x.fullSince = time.Time{}
	}
	return nil
}

func (x *session) complainFull() {
	now := x.now()
	if x.fullSince.IsZero() {
		x.fullSince, x.fullLine = now, minutely{}
	}
	if x.fullLine.due(now) {
		x.log.Warn("the broker has no room for more entries, waiting until the resolver has read what is there: make sure that it runs, or raise ENTRIES_MAX_BYTES",
			"seconds", now.Sub(x.fullSince).Seconds())
	}
}
