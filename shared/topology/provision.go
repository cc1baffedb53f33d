package topology

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// MinAPILevel is the JetStream API level of nats-server 2.12, the first that takes atomic batches. An older server
// silently drops the setting.
const MinAPILevel = 3

// ErrMissing means that a resource is not there, and that this program may not make it.
var ErrMissing = errors.New("not there")

// The waits for resources that others make.
const (
	missingTimeout      = 30 * time.Second
	missingPollInterval = 250 * time.Millisecond
)

// Option changes how Provision works.
type Option func(*provisioner)

// WithLog sets the log on which Provision warns of resources that differ from this service's settings, if it may not or
// does not change them.
func WithLog(log *slog.Logger) Option { return func(p *provisioner) { p.log = log } }

type provisioner struct {
	js     jetstream.JetStream
	me     Service
	access access
	log    *slog.Logger
	// timeout is how long to wait for the resources of others.
	timeout time.Duration
}

// Provision makes what is missing, and brings what the service owns to the wanted settings. It destroys nothing: a
// change that would drop messages is left out, with a warning. Several services may run it at the same time.
//
// At a broker that keeps its users apart, a service makes nothing: it waits half a minute for what it needs, and then
// fails with an error that wraps ErrMissing and says who makes it.
func Provision(ctx context.Context, js jetstream.JetStream, s Settings, me Service, options ...Option) error {
	p := &provisioner{js: js, me: me, log: slog.New(slog.DiscardHandler), timeout: missingTimeout}
	for _, o := range options {
		o(p)
	}

	if err := requireServer(ctx, js); err != nil {
		return err
	}

	var err error
	if p.access, err = askAccess(ctx, js.Conn()); err != nil {
		return err
	}

	resources := s.resources()
	stores := slices.DeleteFunc(slices.Clone(resources), func(r resource) bool { return r.Kind == KindConsumer })
	consumers := slices.DeleteFunc(resources, func(r resource) bool { return r.Kind != KindConsumer })

	if err := p.provide(ctx, stores); err != nil { // consumers need the streams of others
		return err
	}

	return p.provide(ctx, consumers)
}

// provide makes resources and then waits for those that others make.
func (p *provisioner) provide(ctx context.Context, resources []resource) error {
	var waiting []resource
	for _, res := range resources {
		needed := p.needs(res)
		if !needed && !p.access.may(res.creation()) {
			continue // this service neither needs it nor may make it
		}

		there, err := p.ensure(ctx, res)
		if err != nil {
			return err
		}

		if !there && needed {
			waiting = append(waiting, res)
		}
	}

	return p.await(ctx, waiting)
}

// needs reports whether the service cannot begin without a resource.
func (p *provisioner) needs(res resource) bool {
	return p.me.owns(res.Name) || slices.Contains(needs[p.me], res.stream.Name)
}

// ensure creates a resource that is missing, repairs one that the service owns, and warns of what remains different
// from what is wanted. It returns false for a resource that is missing and that the service may not make.
func (p *provisioner) ensure(ctx context.Context, res resource) (there bool, err error) {
	have, err := res.get(ctx, p.js)
	if err != nil {
		return false, err
	}

	if have.missing {
		if !p.access.may(res.creation()) {
			return false, nil
		}

		if err := res.create(ctx, p.js); err != nil {
			return false, err
		}

		if have, err = res.get(ctx, p.js); err != nil || have.missing {
			return false, err
		}
	}

	if !p.needs(res) {
		return true, nil
	}

	todo := have.changes(time.Now())
	if p.me.owns(res.Name) && p.access.may(res.change()) {
		if todo, err = have.apply(ctx, p.js, todo); err != nil {
			return true, err
		}
	}

	return true, p.report(res, todo)
}

// report warns of settings that are not as wanted. It returns an error for a wrong retention or ack policy: the work
// would go wrong with it.
func (p *provisioner) report(res resource, left []Change) error {
	if len(left) == 0 {
		return nil
	}

	texts := make([]string, 0, len(left))
	for _, c := range left {
		text := c.String()
		if c.Refused != "" {
			text += " (" + c.Refused + ")"
		}

		texts = append(texts, text)
	}

	if at := slices.IndexFunc(left, func(c Change) bool { return c.Setting == "retention" || c.Setting == "ack policy" }); at >= 0 {
		return fmt.Errorf("%s cannot be used: %s: %s", res, left[at], left[at].Refused)
	}

	p.log.Warn("a part of the broker's store is not as this service's settings want it; bobosync provision --dry-run shows what can be done",
		"part", res.String(), "owner", string(res.Owner), "differences", strings.Join(texts, "; "))

	return nil
}

// await waits for the resources of others.
func (p *provisioner) await(ctx context.Context, missing []resource) error {
	if len(missing) == 0 {
		return nil
	}

	p.log.Info("waiting for parts of the broker's store that others make", "missing", names(missing))

	ticker := time.NewTicker(missingPollInterval)
	defer ticker.Stop()

	deadline := time.Now().Add(p.timeout)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}

		var left []resource
		for _, res := range missing {
			there, err := p.ensure(ctx, res)
			if err != nil {
				return err
			}

			if !there {
				left = append(left, res)
			}
		}

		if missing = left; len(missing) == 0 {
			return nil
		}

		if time.Now().After(deadline) {
			return p.unavailable(missing)
		}
	}
}

// unavailable returns an error that says what to do about missing resources.
func (p *provisioner) unavailable(missing []resource) error {
	first := missing[0]
	if p.access.limited {
		return fmt.Errorf("%s: %w, and this program's key makes nothing: run bobosync provision with the key of %q, or keep bobosync provision --keep running",
			names(missing), ErrMissing, UserProvision)
	}

	return fmt.Errorf("%s: %w: the service %s makes it when it starts: start it, or run bobosync provision", names(missing), ErrMissing, first.Owner)
}

func names(resources []resource) string {
	all := make([]string, 0, len(resources))
	for _, p := range resources {
		all = append(all, p.String())
	}

	return strings.Join(all, ", ")
}

func requireServer(ctx context.Context, js jetstream.JetStream) error {
	info, err := js.AccountInfo(ctx)
	if errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) {
		return fmt.Errorf("the broker has no JetStream (switch it on in its configuration, for this account too): %w", err)
	}

	if err != nil {
		return fmt.Errorf("ask the broker for its JetStream account: %w", err)
	}

	return checkLevel(info.API.Level, js.Conn().ConnectedServerVersion())
}

// checkLevel refuses a server that is too old. Only the level counts; the version is for the error text.
func checkLevel(level int, version string) error {
	if level >= MinAPILevel {
		return nil
	}

	return fmt.Errorf("the broker is nats-server %s, whose JetStream has API level %d; %d is needed: use nats-server 2.12 or newer",
		version, level, MinAPILevel)
}

// Identity returns the moment at which the broker made a stream. A different moment for the same name means that the
// store was lost, and with it everything that was on its way.
func Identity(ctx context.Context, js jetstream.JetStream, stream string) (string, error) {
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return "", fmt.Errorf("look up stream %s: %w", stream, err)
	}

	return s.CachedInfo().Created.UTC().Format(time.RFC3339Nano), nil
}
