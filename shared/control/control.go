// Package control carries requests of operators to the services, over NATS's services framework. A caller needs nothing
// but the broker's address, and `nats micro ls` lists the services too.
package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/synadia-io/orbit.go/natsext"

	"bobosync/shared/topology"
)

// prefix begins the subjects of all requests: bobo.control.<service>.<endpoint>.
const prefix = "bobo.control"

// timeout is how long a service may take for one request.
const timeout = 30 * time.Second

// flushTimeout is how long the broker may take to register the endpoints.
const flushTimeout = 5 * time.Second

// ErrNobody means that no instance of the service is there to answer.
var ErrNobody = errors.New("no such service answers")

// Refusal is a service's answer to a request that it cannot follow. Its text is meant for the operator.
type Refusal struct{ Text string }

// Error returns the text.
func (r *Refusal) Error() string { return r.Text }

// Refuse makes a Refusal.
func Refuse(format string, args ...any) error { return &Refusal{fmt.Sprintf(format, args...)} }

// Endpoint answers one kind of request.
type Endpoint struct {
	Name string
	// every means that all instances of the service answer each request, rather than one of them.
	every  bool
	handle func(ctx context.Context, data []byte) ([]byte, error)
	// forecast, unless nil, returns what an order is expected to do, for the audit.
	forecast func(ctx context.Context, data []byte) ([]byte, error)
}

// On makes an endpoint from a function. The function's errors reach the operator unchanged, so they must hold no
// secrets. Whether the endpoint is for orders, which are recorded in the audit, is declared in
// shared/topology/permissions.go.
func On[Req, Res any](name string, f func(ctx context.Context, req Req) (Res, error)) Endpoint {
	return Endpoint{Name: name, handle: decoded(f)}
}

// WithForecast adds to an order's endpoint a function that returns what the order is expected to do, for the audit.
func WithForecast[Req, Res any](e Endpoint, f func(ctx context.Context, req Req) (Res, error)) Endpoint {
	e.forecast = decoded(f)
	return e
}

// decoded wraps a function of values as a function of JSON.
func decoded[Req, Res any](f func(ctx context.Context, req Req) (Res, error)) func(ctx context.Context, data []byte) ([]byte, error) {
	return func(ctx context.Context, data []byte) ([]byte, error) {
		var req Req
		if err := json.Unmarshal(data, &req); err != nil {
			return nil, Refuse("the request cannot be read: are both programs of the same version?")
		}

		res, err := f(ctx, req)
		if err != nil {
			return nil, err
		}

		return json.Marshal(res)
	}
}

// OnEvery makes an endpoint that every instance of the service answers, for use with AskAll.
func OnEvery[Req, Res any](name string, f func(ctx context.Context, req Req) (Res, error)) Endpoint {
	e := On(name, f)
	e.every = true
	return e
}

// Serve answers requests to a service until stop is called. stop cancels the ctx of the requests that are being
// answered and returns when they have ended; it may be called more than once. Several instances of a service share its
// requests. An endpoint that is not declared in shared/topology is an error.
func Serve(ctx context.Context, nc *nats.Conn, service topology.Service, version string, endpoints ...Endpoint) (stop func(), err error) {
	register, err := openRegister(ctx, nc, service, endpoints)
	if err != nil {
		return nil, err
	}

	svc, err := micro.AddService(nc, micro.Config{
		Name: "bobosync-" + string(service), Version: semantic(version), Description: "BOBO Sync: " + string(service),
	})
	if err != nil {
		return nil, fmt.Errorf("offer the service %s to operators: %w", service, err)
	}

	ctx, cancel := context.WithCancel(ctx)
	var work work
	stop = func() {
		unsubscribe(nc, svc)
		cancel()
		work.end()
	}
	for _, e := range endpoints {
		options := []micro.EndpointOpt{micro.WithEndpointSubject(Subject(service, e.Name))}
		if e.every {
			options = append(options, micro.WithEndpointQueueGroupDisabled())
		}

		err := svc.AddEndpoint(e.Name, micro.HandlerFunc(func(r micro.Request) { serve(ctx, &work, register.keeping(e), r) }), options...)
		if err != nil {
			stop()
			return nil, fmt.Errorf("offer %s of %s to operators: %w", e.Name, service, err)
		}
	}

	// The broker must know the endpoints when Serve returns: a request right after it must find them.
	if err := nc.FlushTimeout(flushTimeout); err != nil {
		stop()
		return nil, fmt.Errorf("offer the service %s to operators: %w", service, err)
	}

	return stop, nil
}

// unsubscribe ends a service's subscriptions: at once if nc is connected, else as soon as it is again. If a
// subscription were drained while nats.go reconnects, resendSubscriptions (v1.55) would subscribe it again and nothing
// would ever end it; as a member of a queue group to which nobody listens, it would swallow its share of the requests.
// Requests that arrive until then are refused, because the service is stopping.
func unsubscribe(nc *nats.Conn, svc micro.Service) {
	stop := func() { _ = svc.Stop() } // the connection may be gone, and the service with it
	if nc.IsConnected() {
		stop()

		_ = nc.FlushTimeout(time.Second) // so that the next request goes to another instance
		return
	}

	connected := nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	go func() { // ends when nc is connected or closed, which its owner waits for
		defer nc.RemoveStatusListener(connected)

		if !nc.IsConnected() && !nc.IsClosed() {
			<-connected
		}

		stop()
	}()
}

// work counts the requests that are being answered, because the framework still delivers requests after it was stopped.
type work struct {
	mu    sync.Mutex
	ended bool
	group sync.WaitGroup
}

// begin reports whether a request may still be answered. If so, the caller must call group.Done when it is.
func (w *work) begin() bool {
	w.mu.Lock()
	defer w.mu.Unlock()

	if !w.ended {
		w.group.Add(1)
	}

	return !w.ended
}

// end lets no further request begin and waits for those that have begun.
func (w *work) end() {
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	w.group.Wait()
}

func serve(ctx context.Context, work *work, handle handler, r micro.Request) {
	if !work.begin() {
		_ = r.Error("503", "the service is stopping; try again when it is back", nil) // the connection may be gone
		return
	}
	defer work.group.Done()

	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	data, err := handle(ctx, r)
	if err == nil {
		err = r.Respond(data)
	}

	if err != nil {
		// If the answer does not arrive, the operator asks again.
		_ = r.Error("400", cmp.Or(err.Error(), "it gives no reason"), nil)
	}
}

// semantic converts a version to a semantic version, which the framework demands.
func semantic(version string) string {
	var major, minor, patch int
	if n, _ := fmt.Sscanf(version, "v%d.%d.%d", &major, &minor, &patch); n == 3 {
		return fmt.Sprintf("%d.%d.%d", major, minor, patch)
	}

	return "0.0.0"
}

// Subject returns the subject of requests to an endpoint of a service.
func Subject(service topology.Service, endpoint string) string {
	return prefix + "." + string(service) + "." + endpoint
}

// Ask sends a request to a service and returns its answer. Its error wraps ErrNobody if the service is not there, and
// is a *Refusal if the service refuses.
func Ask[Res, Req any](ctx context.Context, nc *nats.Conn, service topology.Service, endpoint string, req Req) (Res, error) {
	var res Res

	data, err := json.Marshal(req)
	if err != nil {
		return res, fmt.Errorf("write a request to %s: %w", service, err)
	}

	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	answer, err := nc.RequestWithContext(ctx, Subject(service, endpoint), data)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return res, fmt.Errorf("ask the %s: %w: is it running, and with this broker?", service, ErrNobody)
	case err != nil:
		return res, fmt.Errorf("ask the %s for %s: %w", service, endpoint, err)
	}

	if text := answer.Header.Get(micro.ErrorHeader); text != "" {
		return res, &Refusal{text}
	}

	if err := json.Unmarshal(answer.Data, &res); err != nil {
		return res, fmt.Errorf("read the answer of the %s to %s: %w", service, endpoint, err)
	}

	return res, nil
}

// How long AskAll waits for all answers, and how long for the next one after each.
const (
	allAnswers = 3 * time.Second
	nextAnswer = 300 * time.Millisecond
)

// AskAll sends a request to every instance of a service and returns the answers of those that are there, which may be
// none. It misses an instance that takes much longer than the others, and leaves out those that refuse.
func AskAll[Res, Req any](ctx context.Context, nc *nats.Conn, service topology.Service, endpoint string, req Req) ([]Res, error) {
	data, err := json.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("write a request to every %s: %w", service, err)
	}

	ctx, cancel := context.WithTimeout(ctx, allAnswers)
	defer cancel()

	answers, err := natsext.RequestMany(ctx, nc, Subject(service, endpoint), data, natsext.RequestManyStall(nextAnswer))
	if err != nil {
		return nil, fmt.Errorf("ask every %s for %s: %w", service, endpoint, err)
	}

	var all []Res
	for answer, err := range answers {
		switch {
		case errors.Is(err, nats.ErrNoResponders):
			return nil, nil
		case err != nil:
			return all, fmt.Errorf("ask every %s for %s: %w", service, endpoint, err)
		case answer.Header.Get(micro.ErrorHeader) != "":
			continue
		}

		var res Res
		if err := json.Unmarshal(answer.Data, &res); err != nil {
			return all, fmt.Errorf("read an answer of the %s to %s: %w", service, endpoint, err)
		}

		all = append(all, res)
	}

	return all, nil
}
