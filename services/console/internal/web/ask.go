package web

// Asking the services what a page needs.

import (
	"context"
	"net/url"
	"time"

	"bobosync/services/console/internal/auth"
	"bobosync/shared/bus"
	"bobosync/shared/client"
	"bobosync/shared/topology"
)

// askTimeout is how long a page waits for the services that it asks.
const askTimeout = 10 * time.Second

func (q *Request) operator() bool { return q.who.Role >= auth.Operator }

// ask asks a service with the key for reading pages.
func ask[Res, Req any](q *Request, service topology.Service, endpoint string, req Req) (Res, error) {
	return askWith[Res](q, q.reads, service, endpoint, req)
}

func askWith[Res, Req any](q *Request, connect func(context.Context) (*bus.Conn, error), service topology.Service, endpoint string, req Req) (Res, error) {
	var none Res

	conn, err := q.connection(connect)
	if err != nil {
		return none, err
	}

	ctx, cancel := context.WithTimeout(q.ctx, askTimeout)
	defer cancel()

	return client.Ask[Res](ctx, conn, service, endpoint, req)
}

// address returns a path with a query; empty values are left out.
func address(path string, pairs ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}

	if len(q) == 0 {
		return path
	}

	return path + "?" + q.Encode()
}
