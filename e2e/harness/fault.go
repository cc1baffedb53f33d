//go:build unix

package harness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"bobosync/cmd/athocsim/sim"
	"bobosync/e2e/audit"
	"bobosync/shared/pause"
)

// Fault is something that goes wrong during a run, and is over when it has ended.
type Fault struct {
	// At is when it begins, counted from the start; For is how long it lasts.
	At, For time.Duration
	// What is what goes wrong. Whom is the process affected, or "publisher" for a publisher that is chosen when the
	// fault begins.
	What, Whom string
	// Draw chooses among the publishers.
	Draw uint64
}

// String names the fault.
func (f Fault) String() string {
	return fmt.Sprintf("%s %s for %s", f.What, f.Whom, f.For.Round(time.Millisecond))
}

const (
	// anyPublisher represents a publisher that is chosen when the fault begins.
	anyPublisher = "publisher"
	// newPublisher represents a publisher that does not exist yet.
	newPublisher = "new publisher"
	// leaseLife is longer than a partition's lease: if a publisher is frozen for so long, others take over its
	// partitions.
	leaseLife = callTimeout + 3*time.Second + 500*time.Millisecond
)

// play begins a fault and returns the function that ends it.
type play func(ctx context.Context, s *Stack, f Fault, whom string) (end func() error, err error)

// faultKind is a kind of fault: how often it is drawn, how long it may last, and how it is played.
type faultKind struct {
	what   string
	weight int
	whom   []string
	least  time.Duration
	most   time.Duration
	play   play
}

var services = []string{Ingest, Resolver, Janitor, anyPublisher, anyPublisher, anyPublisher}

// faultKinds is everything that can go wrong.
var faultKinds = append([]faultKind{
	{"kill", 14, services, 0, time.Second, killProcess},
	{"freeze", 8, services, 300 * time.Millisecond, 2 * time.Second, freezeProcess},
	{"freeze long", 5, []string{anyPublisher}, leaseLife, leaseLife + 1500*time.Millisecond, freezeProcess},
	{"kill", 5, []string{Broker}, 0, 1500 * time.Millisecond, killProcess},
	{"freeze", 2, []string{Broker}, 300 * time.Millisecond, 1500 * time.Millisecond, freezeProcess},
	{"stop", 2, append([]string{Broker}, services...), 0, time.Second, stopProcess},
	{"one more", 5, []string{newPublisher}, time.Second, 6 * time.Second, onePublisherMore},
	{"one less", 4, []string{anyPublisher}, time.Second, 4 * time.Second, onePublisherLess},
	{"kill", 3, []string{AtHoc}, 0, time.Second, killSimulator},
	{"freeze", 1, []string{AtHoc}, 300 * time.Millisecond, callTimeout / 2, freezeProcess},
	{"slow network of", 3, []string{anyPublisher}, 500 * time.Millisecond, 3 * time.Second, slowNetwork},
	{"cut network of", 2, []string{anyPublisher}, 0, 1500 * time.Millisecond, cutNetwork},
	{"silent network of", 2, []string{anyPublisher}, 300 * time.Millisecond, 4 * time.Second, silentNetwork},
	{"cut broker off from", 2, []string{anyPublisher}, 0, leaseLife, cutBroker},
	{"silent broker for", 3, []string{anyPublisher}, 300 * time.Millisecond, leaseLife + time.Second, silentBroker},
	{"revoked tokens at", 2, []string{AtHoc}, 0, time.Millisecond, revoke},
	{"lost role at", 1, []string{AtHoc}, 300 * time.Millisecond, 2 * time.Second, forbid},
	{lostStore, 3, []string{Broker}, 0, 1500 * time.Millisecond, lose("jetstream")},
	{lostStateStore, 2, []string{Resolver}, 0, time.Second, lose("data/resolver.db")},
	{"lost ledger of", 2, []string{Ingest}, 0, time.Second, lose("data/ingest.db")},
	{"throttling at", 2, []string{AtHoc}, time.Second, 4 * time.Second, throttle},
	{"slow users at", 2, []string{AtHoc}, 2 * time.Second, 8 * time.Second, slowUsers},
	{"a culprit at", 2, []string{AtHoc}, 2 * time.Second, 8 * time.Second, culprit},
	{"long outage of", 1, []string{AtHoc}, 15 * time.Second, 25 * time.Second, simulated(sim.Fault{Kind: sim.FaultStatus, Status: 503})},
	{"413 from", 2, []string{AtHoc}, time.Second, 2 * time.Second, simulated(sim.Fault{Kind: sim.FaultStatus, Status: 413, Scope: []string{sim.EndpointUpdate}})},
	{"pause by", 2, []string{Operator}, stillSent + time.Second, stillSent + 4*time.Second, pauseAtHoc},
}, slices.Concat(diskFaults, bringerFaults, simulatorFaults())...)

// lostStateStore is the loss of the resolver's state store. If the broker's store is lost as well, all that is held
// is forgotten, as documented; so in a run in which something is held, only one of the two may be lost.
const lostStateStore, lostStore = "lost memory of", "lost store of"

// Mistakes adds n mass mistakes, and removes the faults with which a hold would rightly be forgotten.
func Mistakes(rng *rand.Rand, faults []Fault, n int, span time.Duration) []Fault {
	spared := []string{lostStateStore, lostStore}[rng.IntN(2)]
	faults = slices.DeleteFunc(faults, func(f Fault) bool { return f.What == spared })
	for range n {
		faults = append(faults, Fault{
			At: time.Duration(rng.Int64N(int64(span))), For: settleTime + time.Duration(rng.Int64N(int64(3*time.Second))),
			What: mistake.what, Whom: Bobo, Draw: rng.Uint64(),
		})
	}

	slices.SortStableFunc(faults, func(a, b Fault) int { return int(a.At - b.At) })

	return faults
}

// mistake is not drawn like the other faults, because it needs a guard that holds mass changes.
var mistake = faultKind{what: "mass mistake of", whom: []string{Bobo}, play: massMistake}

// simulatorFaults are the faults that the simulator plays on its own.
func simulatorFaults() []faultKind {
	faults := map[string]sim.Fault{
		"429":                    {Kind: sim.FaultStatus, Status: 429, RetryAfter: "1"},
		"429 with a date":        {Kind: sim.FaultStatus, Status: 429, RetryAfter: "date+1s"},
		"500":                    {Kind: sim.FaultStatus, Status: 500},
		"502":                    {Kind: sim.FaultStatus, Status: 502, Body: "<html>bad gateway</html>"},
		"503":                    {Kind: sim.FaultStatus, Status: 503},
		"503 but applied":        {Kind: sim.FaultStatus, Status: 503, Apply: true, Scope: []string{sim.EndpointUpdate}},
		"504 but applied":        {Kind: sim.FaultStatus, Status: 504, Apply: true, Scope: []string{sim.EndpointUpdate}},
		"hang":                   {Kind: sim.FaultHang},
		"reset":                  {Kind: sim.FaultReset},
		"broken body":            {Kind: sim.FaultBrokenJSON},
		"truncated body":         {Kind: sim.FaultTruncated},
		"slow body":              {Kind: sim.FaultSlowBody, Hold: sim.Duration(time.Second)},
		"applied, answer lost":   {Kind: sim.FaultLostAnswer, Scope: []string{sim.EndpointUpdate}},
		"applied late":           {Kind: sim.FaultLateApply, Delay: sim.Duration(time.Second), Scope: []string{sim.EndpointUpdate}, Calls: 2},
		"refused connections":    {Kind: sim.FaultRefuse},
		"missing users":          {Kind: sim.FaultOmitUser, Probability: 0.3},
		"missing users, applied": {Kind: sim.FaultOmitUser, Probability: 0.3, Apply: true},
		"partial":                {Kind: sim.FaultPartial, Probability: 0.3},
		"partial, applied":       {Kind: sim.FaultPartial, Probability: 0.3, Apply: true},
		"errors of users":        {Kind: sim.FaultUserError, Probability: 0.3},
		"denied users":           {Kind: sim.FaultDenyUser, Probability: 0.1},
		"a gzip bomb":            {Kind: sim.FaultBomb, Form: sim.BombGzip},
		"an endless answer":      {Kind: sim.FaultBomb, Form: sim.BombEndless},
		"a deep answer":          {Kind: sim.FaultBomb, Form: sim.BombDeep},
		"endless attributes":     {Kind: sim.FaultBomb, Form: sim.BombAttributes},
		"endless headers":        {Kind: sim.FaultBomb, Form: sim.BombHeaders},
		"a dripping head":        {Kind: sim.FaultDrip, Form: sim.DripHead},
		"a dripping body":        {Kind: sim.FaultDrip, Form: sim.DripBody},
		"lies":                   {Kind: sim.FaultLies},
	}

	var kinds []faultKind
	for what, f := range faults {
		kinds = append(kinds, faultKind{what + " from", 2, []string{AtHoc}, 200 * time.Millisecond, 1500 * time.Millisecond, simulated(f)})
	}

	slices.SortFunc(kinds, func(a, b faultKind) int { // maps have no order, but a seed must give one
		if a.what < b.what {
			return -1
		}
		return 1
	})

	return kinds
}

// Schedule draws n faults that begin within span.
func Schedule(rng *rand.Rand, n int, span time.Duration) []Fault {
	return drawn(rng, faultKinds, n, span)
}

// Tricks draws n of the faults that only a hostile bringer plays.
func Tricks(rng *rand.Rand, n int, span time.Duration) []Fault {
	return drawn(rng, bringerFaults, n, span)
}

func drawn(rng *rand.Rand, kinds []faultKind, n int, span time.Duration) []Fault {
	total := 0
	for _, k := range kinds {
		total += k.weight
	}

	var faults []Fault
	for range n {
		draw := rng.IntN(total)
		i := slices.IndexFunc(kinds, func(k faultKind) bool { draw -= k.weight; return draw < 0 })
		k := kinds[i]
		faults = append(faults, Fault{
			At: time.Duration(rng.Int64N(int64(span))), For: k.least + time.Duration(rng.Int64N(int64(k.most-k.least)+1)),
			What: k.what, Whom: k.whom[rng.IntN(len(k.whom))], Draw: rng.Uint64(),
		})
	}

	slices.SortStableFunc(faults, func(a, b Fault) int { return int(a.At - b.At) })

	return faults
}

// victims prevents two faults from affecting the same process at the same time. The zero value is ready to use.
type victims struct {
	mu    sync.Mutex
	taken map[string]bool
}

func (v *victims) take(name string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()

	if v.taken[name] {
		return false
	}

	if v.taken == nil {
		v.taken = map[string]bool{}
	}

	v.taken[name] = true

	return true
}

func (v *victims) free(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()

	delete(v.taken, name)
}

// Play plays the faults, and returns when all of them are over. It returns how many were played: if another fault
// occupies the process that a fault is meant for, the fault waits a while and is then left out. A fault that could
// not be played, or not be ended, is an error.
func (s *Stack) Play(ctx context.Context, faults []Fault) (int, error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	played := 0
	begin := time.Now()
	for _, f := range faults {
		wg.Go(func() {
			_ = pause.For(ctx, f.At-time.Since(begin))
			was, err := s.playOne(ctx, f)

			mu.Lock()
			defer mu.Unlock()

			if was {
				played++
			}

			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", f, err))
			}
		})
	}

	wg.Wait()

	return played, errors.Join(append(errs, s.Sim.Calm(ctx, s.lastingFaults()...))...)
}

func (s *Stack) lastingFaults() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lasting)
}

func (s *Stack) playOne(ctx context.Context, f Fault) (bool, error) {
	whom := s.victim(ctx, f)
	if whom == "" {
		s.Note("left out: %s", f)
		return false, nil
	}
	defer s.victims.free(whom)

	k := mistake
	if i := slices.IndexFunc(faultKinds, func(k faultKind) bool { return k.what == f.What && slices.Contains(k.whom, f.Whom) }); i >= 0 {
		k = faultKinds[i]
	}

	s.Note("begins: %s (%s)", f, whom)

	end, err := k.play(ctx, s, f, whom)
	if err != nil {
		return true, err
	}

	_ = pause.For(ctx, f.For)
	err = end()

	s.Note("over: %s (%s)", f, whom)

	return true, err
}

// victim waits until a process that the fault is meant for is free, takes it and returns its name. It returns "" if
// none became free in time.
func (s *Stack) victim(ctx context.Context, f Fault) string {
	const most = 3 * time.Second
	for since := time.Now(); time.Since(since) < most && ctx.Err() == nil; _ = pause.For(ctx, 50*time.Millisecond) {
		names := []string{f.Whom}
		switch f.Whom {
		case Bringer:
			names = nil
			for i := range bringers {
				names = append(names, fmt.Sprint(Bringer, " ", i+1))
			}
		case anyPublisher:
			names = s.Publishers()
			n := int(f.Draw % uint64(max(1, len(names))))
			names = append(names[n:], names[:n]...)
		}

		for _, name := range names {
			if s.victims.take(name) {
				return name
			}
		}
	}

	return ""
}

func killProcess(_ context.Context, s *Stack, _ Fault, whom string) (func() error, error) {
	p := s.Process(whom)
	return p.Start, p.Kill()
}

// lose kills a process and deletes the data that it keeps.
func lose(what string) play {
	return func(_ context.Context, s *Stack, f Fault, whom string) (func() error, error) {
		p, began := s.Process(whom), time.Now()
		s.mu.Lock()
		switch f.What {
		case lostStore:
			s.storeLost = append(s.storeLost, began)
		case lostStateStore:
			s.forgotten = append(s.forgotten, audit.Window{From: began.Add(-copyWithin), To: began})
		}
		s.mu.Unlock()

		return p.Start, errors.Join(p.Kill(), s.Delete(what))
	}
}

func stopProcess(_ context.Context, s *Stack, _ Fault, whom string) (func() error, error) {
	p := s.Process(whom)
	return p.Start, p.Stop()
}

func freezeProcess(_ context.Context, s *Stack, _ Fault, whom string) (func() error, error) {
	p := s.Process(whom)
	began := time.Now()

	return func() error {
		if whom == AtHoc {
			s.mu.Lock()
			s.frozen = append(s.frozen, audit.Window{From: began, To: time.Now()})
			s.mu.Unlock()
		}

		return p.Resume()
	}, p.Pause()
}

func onePublisherMore(ctx context.Context, s *Stack, f Fault, _ string) (func() error, error) {
	name, err := s.AddPublisher()

	return func() error {
		for !s.victims.take(name) { // another fault has taken it meanwhile
			_ = pause.For(ctx, 20*time.Millisecond)
		}
		defer s.victims.free(name)

		return s.RemovePublisher(name, f.Draw%3 == 0)
	}, err
}

func onePublisherLess(_ context.Context, s *Stack, f Fault, whom string) (func() error, error) {
	return func() error {
		_, err := s.AddPublisher()
		return err
	}, s.RemovePublisher(whom, f.Draw%3 == 0)
}

// killSimulator waits out the fault's duration itself: the simulator must know whom to refuse before anybody reaches
// it.
func killSimulator(ctx context.Context, s *Stack, f Fault, _ string) (func() error, error) {
	return func() error { return nil }, s.RestartSimulator(ctx, f.For)
}

func slowNetwork(_ context.Context, s *Stack, f Fault, whom string) (func() error, error) {
	p, _ := s.network(whom)
	p.Delay(time.Duration(50+f.Draw%250) * time.Millisecond)
	return func() error { p.Delay(0); return nil }, nil
}

func cut(p *Proxy) func() error {
	p.Refuse(true)
	p.Cut()
	return func() error { p.Refuse(false); return nil }
}

func silence(p *Proxy) func() error {
	p.Silence(true)
	return func() error { p.Silence(false); return nil }
}

// cutNetwork and silentNetwork may lose an answer of AtHoc's that is under way.
func cutNetwork(_ context.Context, s *Stack, _ Fault, whom string) (func() error, error) {
	p, _ := s.network(whom)
	s.halt()
	return cut(p), nil
}

func silentNetwork(_ context.Context, s *Stack, _ Fault, whom string) (func() error, error) {
	p, _ := s.network(whom)
	s.halt()
	return silence(p), nil
}

func cutBroker(_ context.Context, s *Stack, _ Fault, whom string) (func() error, error) {
	_, p := s.network(whom)
	return s.halts(cut(p)), nil
}

// halts returns an end for a fault during which a publisher could not store AtHoc's answers.
func (s *Stack) halts(end func() error) func() error {
	return func() error {
		s.halt()
		return end()
	}
}

func silentBroker(_ context.Context, s *Stack, _ Fault, whom string) (func() error, error) {
	_, p := s.network(whom)
	return s.halts(silence(p)), nil
}

func revoke(ctx context.Context, s *Stack, _ Fault, _ string) (func() error, error) {
	return func() error { return nil }, s.Sim.Revoke(ctx)
}

func forbid(ctx context.Context, s *Stack, _ Fault, _ string) (func() error, error) {
	return func() error { return s.Sim.Set(ctx, map[string]any{"forbidden": ""}) },
		s.Sim.Set(ctx, map[string]any{"forbidden": "role"})
}

func throttle(ctx context.Context, s *Stack, _ Fault, _ string) (func() error, error) {
	limit := func(perSecond float64) error {
		return s.Sim.Set(ctx, map[string]any{"throttle": map[string]any{"per_second": perSecond, "burst": 1}})
	}
	return func() error { return limit(0) }, limit(3)
}

// slowUsers makes a full call take longer than ATHOC_TIMEOUT, and a call with half the users shorter.
func slowUsers(ctx context.Context, s *Stack, _ Fault, _ string) (func() error, error) {
	perUser := func(d time.Duration) error {
		return s.Sim.Set(ctx, map[string]any{"latency": map[string]any{"per_user": d.String()}})
	}
	return func() error { return perUser(0) }, perUser(callTimeout * 4 / 3 / batchSize)
}

// culprit makes AtHoc fail every update that carries one certain user.
func culprit(ctx context.Context, s *Stack, f Fault, _ string) (func() error, error) {
	users := s.users()
	fault := sim.Fault{
		Kind: sim.FaultStatus, Status: 500, Scope: []string{sim.EndpointUpdate}, Users: []string{users[f.Draw%uint64(len(users))].Login},
		For: sim.Duration(f.For),
	}
	_, err := s.Sim.Fault(ctx, fault)

	return func() error { return nil }, err
}

func simulated(kind sim.Fault) play {
	return func(ctx context.Context, s *Stack, f Fault, _ string) (func() error, error) {
		kind := kind
		kind.For, kind.Seed = sim.Duration(f.For), f.Draw|1
		_, err := s.Sim.Fault(ctx, kind)
		return func() error { return nil }, err
	}
}
