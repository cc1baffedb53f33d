package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"bobosync/shared/breaker"
	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/logging"
	"bobosync/shared/topology"
)

const (
	// gatherWait is how long looking at everything may take, beside reachWait.
	gatherWait = 4 * time.Second
	// lanesWait is how long looking at the lanes may take.
	lanesWait = time.Second
	// statusLook is how often a watched status is drawn.
	statusLook = 2 * time.Second
)

// statusFlags are how an operator wants the status.
type statusFlags struct {
	watch, json bool
	limits      limits
}

func statusCommand(envFile *string) *cobra.Command {
	var f statusFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say whether duty data is fresh, what is wrong, and what to do",
		Long: `Say whether duty data in AtHoc is fresh, what is wrong, and what to do about it; then how much waits, who runs, and what is
done by the clock. The first line is the verdict:

  OK: ...        nothing need be done
  WARNING: ...   something needs a look, today
  PROBLEM: ...   duty data does not reach AtHoc, or soon will not

It asks all services at once and takes some seconds at most, also if nobody answers. A file counts as late when AtHoc does
not have all of it after 2 minutes.

Exit status: 0 OK, 1 WARNING, 2 PROBLEM (and 2 if it was called wrongly).`,
		Example: `  bobosync status
  bobosync status --watch
  bobosync status --json | jq -r .text
  bobosync status --silent-after 36h     # no files come at weekends`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := loadOperator(cmd.Context(), *envFile)
			if err != nil {
				return err
			}
			look := &lookout{operator: o}
			defer look.close()
			if f.watch {
				return watchStatus(cmd.Context(), look, cmd.OutOrStdout(), f)
			}
			facts, err := look.look(cmd.Context())
			if err != nil {
				return err
			}
			return tellStatus(cmd.OutOrStdout(), facts, f, newScreen(cmd.OutOrStdout()).color)
		},
	}
	cmd.Flags().BoolVar(&f.watch, "watch", false, "draw it anew every 2 seconds, until Ctrl-C")
	cmd.Flags().BoolVar(&f.json, "json", false, "answer in JSON")
	cmd.Flags().DurationVar(&f.limits.SilentAfter, "silent-after", defaultSilentAfter, "warn if no new file has come for this `long`; 0 never warns")
	return cmd
}

// tellStatus writes the status once and turns its level into the exit status.
func tellStatus(w io.Writer, f facts, flags statusFlags, color paint) error {
	v := judge(f, flags.limits)
	var err error
	if flags.json {
		if v.Findings == nil {
			v.Findings = []finding{} // JSON's null is no list
		}
		err = printJSON(w, struct {
			verdict
			Facts facts `json:"facts"`
		}{v, f})
	} else {
		err = showStatus(w, f, v, color)
	}
	if err == nil && v.Level > levelOK {
		err = exitStatus(v.Level)
	}
	return err
}

// watchStatus tells the status again and again until ctx ends: on a terminal in the same place.
func watchStatus(ctx context.Context, look *lookout, w io.Writer, flags statusFlags) error {
	screen := newScreen(w)
	ticker := time.NewTicker(statusLook)
	defer ticker.Stop()
	for {
		facts, err := look.look(ctx)
		if ctx.Err() != nil {
			return nil // Ctrl-C is how a watch ends
		}
		if err != nil {
			return err
		}
		err = screen.draw(func(w io.Writer, color paint) error { return tellStatus(w, facts, flags, color) })
		if status := exitStatus(0); err != nil && !errors.As(err, &status) {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// screen shows block after block, on a terminal each in the place of the one before.
type screen struct {
	w        io.Writer
	terminal bool
	color    paint
	drawn    bool
}

func newScreen(w io.Writer) *screen {
	s := &screen{w: w}
	if file, ok := w.(*os.File); ok && logging.IsTerminal(w) && os.Getenv("TERM") != "dumb" && speaksANSI(file) {
		s.terminal, s.color = true, os.Getenv("NO_COLOR") == ""
	}
	return s
}

const clearScreen = "\x1b[H\x1b[2J"

// draw shows what block writes, all at once, so that nothing flickers.
func (s *screen) draw(block func(io.Writer, paint) error) error {
	var page bytes.Buffer
	switch {
	case s.terminal:
		page.WriteString(clearScreen)
	case s.drawn:
		page.WriteByte('\n')
	}
	s.drawn = true
	err := block(&page, s.color)
	if _, writeErr := s.w.Write(page.Bytes()); writeErr != nil {
		return fmt.Errorf("write the status: %w", writeErr)
	}
	return err
}

// lookout looks at everything over one connection, which it makes anew when it is lost: a broker inside comes back elsewhere.
type lookout struct {
	operator operator
	conn     *bus.Conn
}

func (l *lookout) close() {
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}

// look gathers the facts. It fails only if ctx ends or the settings are wrong.
func (l *lookout) look(ctx context.Context) (facts, error) {
	if l.conn != nil && !l.conn.Connected() {
		l.close()
	}
	if l.conn == nil {
		conn, err := l.operator.connect(ctx, reachWait)
		var why *unreachable
		switch {
		case ctx.Err() != nil:
			return facts{}, ctx.Err()
		case errors.As(err, &why):
			return facts{At: time.Now(), Unreachable: why}, nil
		case err != nil:
			return facts{}, err
		}
		l.conn = conn
	}
	return gather(ctx, l.conn), ctx.Err()
}

// gather asks everybody at once, within gatherWait.
func gather(ctx context.Context, conn *bus.Conn) facts {
	ctx, cancel := context.WithTimeout(ctx, gatherWait)
	defer cancel()
	g := &gathering{conn: conn, facts: facts{Backlog: map[topology.Service]uint64{}, Lanes: map[int]string{}}}
	var group errgroup.Group
	group.Go(func() error { return askState(ctx, g, topology.Ingest, &g.facts.Ingest) })
	group.Go(func() error { return askState(ctx, g, topology.Resolver, &g.facts.Resolver) })
	group.Go(func() error { return askState(ctx, g, topology.Publisher, &g.facts.Publisher) })
	group.Go(func() error { return askState(ctx, g, topology.Janitor, &g.facts.Janitor) })
	for _, stream := range (topology.Settings{}).Streams() {
		group.Go(func() error { return g.stream(ctx, stream.Name) })
	}
	group.Go(func() error { return g.lanes(ctx) })
	group.Go(func() error { return g.breaker(ctx) })
	_ = group.Wait() // each notes what went wrong where it belongs
	if g.seen == 0 && conn.Connected() {
		g.facts.Unreachable = whyUnreachable(jetstream.ErrJetStreamNotEnabled, false) // switched off while it runs, it says nothing
	}
	slices.SortFunc(g.facts.Publisher, func(a, b control.PublisherState) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(g.facts.Janitor, func(a, b control.JanitorState) int { return cmp.Compare(a.Name, b.Name) })
	g.facts.At = time.Now()
	return g.facts
}

// gathering collects facts from several goroutines.
type gathering struct {
	conn  *bus.Conn
	mu    sync.Mutex
	facts facts
	// seen counts what JetStream has answered about streams and consumers.
	seen int
}

// askState asks all instances of a service. Each service has a place of its own for the answers.
func askState[S any](ctx context.Context, g *gathering, service topology.Service, into *[]S) error {
	all, err := control.AskAll[S](ctx, g.conn.NC, service, control.State, control.Nothing{})
	*into = all
	return g.note(err)
}

// note keeps what could not be looked at.
func (g *gathering) note(err error) error {
	if err == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) {
		g.facts.Unreachable = whyUnreachable(jetstream.ErrJetStreamNotEnabled, false)
	} else {
		g.facts.Unread = append(g.facts.Unread, err.Error())
	}
	return nil
}

// missing notes what the broker should have.
func (g *gathering) missing(kind, name string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.facts.Missing = append(g.facts.Missing, kind+" "+name)
	g.seen++
	return nil
}

// readers says which service each durable consumer belongs to; those of lanes are the publisher's.
var readers = map[string]topology.Service{
	topology.ConsumerIngestAcks: topology.Ingest, topology.ConsumerResolverEntries: topology.Resolver,
	topology.ConsumerResolverAcks: topology.Resolver, topology.ConsumerResolverMapping: topology.Resolver,
}

// stream looks at a stream and at who reads it.
func (g *gathering) stream(ctx context.Context, name string) error {
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
			_ = g.missing("consumer", want.Durable) // it is never an error
		case err != nil:
			return g.note(fmt.Errorf("consumer %s: %w", want.Durable, err))
		default:
			g.backlog(want.Durable, consumer.CachedInfo())
		}
	}
	return nil
}

func (g *gathering) size(info *jetstream.StreamInfo) {
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

func (g *gathering) backlog(name string, info *jetstream.ConsumerInfo) {
	service, known := readers[name]
	if !known {
		service = topology.Publisher
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.facts.Backlog[service] += info.NumPending + uint64(max(info.NumAckPending, 0))
}

// lanes looks who has which lane. It is not noted if that cannot be seen: the publishers tell of their lanes too.
func (g *gathering) lanes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lanesWait)
	defer cancel()
	kv, err := g.bucket(ctx, topology.BucketLeases)
	if kv == nil {
		return err
	}
	for lane := range topology.Lanes {
		entry, err := kv.Get(ctx, topology.LaneLease(lane))
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound):
		case err != nil:
			return nil // see above
		default:
			g.mu.Lock()
			g.facts.Lanes[lane] = string(entry.Value())
			g.mu.Unlock()
		}
	}
	return nil
}

// breaker looks at the circuit breaker where it lies, so that AtHoc's state is known also if no publisher is alive.
func (g *gathering) breaker(ctx context.Context) error {
	kv, err := g.bucket(ctx, topology.BucketState)
	if kv == nil {
		return err
	}
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

// bucket opens a bucket; it is nil if that is not possible, which has been noted then.
func (g *gathering) bucket(ctx context.Context, name string) (jetstream.KeyValue, error) {
	kv, err := g.conn.JS.KeyValue(ctx, name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, g.missing("bucket", name)
	}
	if err != nil {
		return nil, g.note(fmt.Errorf("bucket %s: %w", name, err))
	}
	return kv, nil
}
