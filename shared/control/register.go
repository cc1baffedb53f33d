// The sender of an order, and its record in the audit: no order is carried out that is not recorded.

package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"bobosync/shared/audit"
	"bobosync/shared/topology"
)

// requesterHeader is the header in which the broker's server names the sender of a request from another account. The
// server removes what the client wrote there, but only if it is a well-formed header; see readRequester.
const requesterHeader = "Nats-Request-Info"

// importedReply begins the reply subject of each request that comes from another account: the server puts it in place
// of the sender's reply subject, and accepts no message from a client that uses such a subject.
const importedReply = "_R_."

// maxSaid is the most bytes that a caller's own claim of who they are may have.
const maxSaid = 300

// errForged means that a request does not name its sender exactly once, in the form that the broker's server writes.
var errForged = errors.New("the request does not say who gives the order in the form that the broker's server writes; use the bobosync program, and a broker with the accounts.conf of this version")

// handler answers one request.
type handler func(ctx context.Context, r micro.Request) ([]byte, error)

// register records the orders of one service.
type register struct {
	service topology.Service
	log     *audit.Log
	// ownAccount reports whether the broker's server names the sender of each request; it does if the service has its
	// own account.
	ownAccount bool
}

// openRegister returns the register of a service. It fails if an endpoint is not declared.
func openRegister(ctx context.Context, nc *nats.Conn, service topology.Service, endpoints []Endpoint) (*register, error) {
	for _, e := range endpoints {
		if topology.KindOf(service, e.Name) == "" {
			return nil, fmt.Errorf("offer %s of %s: shared/topology/permissions.go does not declare it as internal, looking or ordering", e.Name, service)
		}
	}

	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("open the audit: %w", err)
	}

	own, err := topology.InOwnAccount(ctx, nc, service)
	if err != nil {
		return nil, err
	}

	return &register{service: service, log: audit.NewLog(js, service), ownAccount: own}, nil
}

// keeping returns the handler of an endpoint. The handler records requests that are declared as orders or as audited
// reads. Unless the endpoint is for everyone, it refuses requests that did not come from another account.
func (g *register) keeping(e Endpoint) handler {
	kind := topology.KindOf(g.service, e.Name)

	return func(ctx context.Context, r micro.Request) ([]byte, error) {
		switch recorded := topology.IsAuditedRead(g.service, e.Name); {
		case kind == topology.Reading && !recorded:
			return e.handle(ctx, r.Data())
		case !g.imported(r):
			return nil, errForged
		case recorded:
			return g.read(ctx, e, r)
		case kind == topology.Ordering:
			return g.order(ctx, e, r)
		default:
			return e.handle(ctx, r.Data())
		}
	}
}

// imported reports whether a request came from another account, as every request must if the service has an account of
// its own. Within that account, a holder of the service's key could have the broker send a stored message, headers
// included, to any subject, as the answer to a request to read it.
func (g *register) imported(r micro.Request) bool {
	return !g.ownAccount || strings.HasPrefix(r.Reply(), importedReply)
}

// read records a question in the audit and then answers it. The answer is not recorded.
func (g *register) read(ctx context.Context, e Endpoint, r micro.Request) ([]byte, error) {
	caller, err := g.caller(nats.Header(r.Headers()))
	if err != nil {
		return nil, err
	}

	request, caller, err := signed(r.Data(), caller)
	if err != nil {
		return nil, err
	}

	if _, err := g.log.Append(ctx, audit.Record{Endpoint: e.Name, Kind: audit.Read, Caller: caller}, audit.Detail{Request: request}); err != nil {
		return nil, fmt.Errorf("there is no answer, since the question cannot be recorded in the audit (bobosync check says what is missing in the broker): %w", err)
	}

	return e.handle(ctx, request)
}

// order records an order, carries it out, and records the result.
func (g *register) order(ctx context.Context, e Endpoint, r micro.Request) ([]byte, error) {
	caller, err := g.caller(nats.Header(r.Headers()))
	if err != nil {
		return nil, err
	}

	request, caller, err := signed(r.Data(), caller)
	if err != nil {
		return nil, err
	}

	once, err := onceOf(request)
	if err != nil {
		return nil, err
	}

	detail := audit.Detail{Request: request}
	if e.forecast != nil {
		if detail.Forecast, err = e.forecast(ctx, request); err != nil {
			detail.Error = "no forecast: " + err.Error() // the order will fail for the same reason
		}
	}

	id, err := g.log.Append(ctx, audit.Record{ID: once, Endpoint: e.Name, Kind: audit.Order, Caller: caller}, detail)
	if errors.Is(err, audit.ErrTwice) {
		return nil, Refuse("this order was given already, or could not be recorded then, and is followed once at most: the audit has what came of it; if it has nothing, nothing was done: begin a new order")
	}

	if err != nil {
		return nil, fmt.Errorf("the order is not given, since it cannot be recorded in the audit (bobosync check says what is missing in the broker): %w", err)
	}

	answer, failure := e.handle(withOrderID(ctx, id), request)
	result := audit.Record{Endpoint: e.Name, Kind: audit.Result, Caller: caller, Order: id, Outcome: outcomeOf(failure)}
	what := audit.Detail{Result: answer}
	if failure != nil {
		what.Error = failure.Error()
	}

	// The order was given, so its result is recorded even if the service has to stop now.
	if _, err := g.log.Append(context.WithoutCancel(ctx), result, what); err != nil && failure == nil {
		return nil, fmt.Errorf("the order was given, but what came of it cannot be recorded in the audit: %w", err)
	}

	return answer, failure
}

// onceOf returns the id that the sender made for the order (once), so that it is carried out once however often it is
// sent; empty if there is none. It becomes the id of the order's record.
func onceOf(request []byte) (string, error) {
	var order struct {
		Once string `json:"once"`
	}
	if json.Unmarshal(request, &order) != nil || order.Once != "" && uuid.Validate(order.Once) != nil {
		return "", Refuse("what an order is known by (once) must be a UUID")
	}

	return order.Once, nil
}

// outcomeOf returns how an order ended.
func outcomeOf(err error) string {
	_, refused := errors.AsType[*Refusal](err)
	switch {
	case err == nil:
		return audit.OK
	case refused:
		return audit.Refused
	default:
		return audit.Failed
	}
}

// caller returns the sender of a request.
func (g *register) caller(header nats.Header) (audit.Caller, error) {
	if !g.ownAccount {
		return audit.Caller{Known: audit.ByLogin}, nil
	}
	return readRequester(header)
}

// readRequester reads the sender of a request from the header that the server writes. The server removes a header of
// that name that ends in CRLF, and appends its own after the others. A client can write one that the server does not
// recognise but that is parsed all the same (it ends in LF alone), so there must be exactly one.
func readRequester(header nats.Header) (audit.Caller, error) {
	var values []string
	for name, all := range header {
		if strings.EqualFold(strings.TrimSpace(name), requesterHeader) {
			values = append(values, all...)
		}
	}

	var info struct {
		Account string `json:"acc"`
		Key     string `json:"user"`
		Host    string `json:"host"`
	}
	if len(values) != 1 || json.Unmarshal([]byte(values[0]), &info) != nil || info.Account == "" {
		return audit.Caller{}, errForged
	}

	user := topology.UserOf(info.Account)
	name, own := topology.OperatorOf(user)

	return audit.Caller{Name: name, Shared: !own, Known: audit.ByKey, Key: info.Key, Host: info.Host}, nil
}

// signed replaces the sender's own claim (by) in a request with the caller as the broker knows it, followed by the
// claim. It also stores the claim in Said.
func signed(data []byte, caller audit.Caller) ([]byte, audit.Caller, error) {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, caller, Refuse("the request cannot be read: are both programs of the same version?")
	}

	if by, there := fields["by"]; there {
		if err := json.Unmarshal(by, &caller.Said); err != nil {
			return nil, caller, Refuse("the request cannot be read: are both programs of the same version?")
		}
	}

	if len(caller.Said) > maxSaid {
		return nil, caller, Refuse("the text that says who gives the order has more than %d characters", maxSaid)
	}

	if caller.String() == "" {
		return data, caller, nil
	}

	for name := range fields { // decoders ignore letter case
		if strings.EqualFold(name, "by") {
			delete(fields, name)
		}
	}

	by, err := json.Marshal(caller.String())
	if err != nil {
		return nil, caller, err
	}

	fields["by"] = by
	data, err = json.Marshal(fields)

	return data, caller, err
}
