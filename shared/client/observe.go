package client

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"bobosync/shared/bus"
	"bobosync/shared/observe"
	"bobosync/shared/verdict"
)

// Observer reads everything over one connection. It reconnects when the connection is lost, because the broker inside
// has another address after a restart. It is safe for concurrent use.
type Observer struct {
	Settings
	// Timeout is how long it tries to reach the broker; 0 means ConnectTimeout.
	Timeout time.Duration

	mu   sync.Mutex
	conn *bus.Conn
}

// Close ends the connection. The Observer may be used again.
func (o *Observer) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()

	o.close()
}

func (o *Observer) close() {
	if o.conn != nil {
		o.conn.Close()
		o.conn = nil
	}
}

// Conn returns the connection. The Observer closes it when it makes another one. The error is that of Connect.
func (o *Observer) Conn(ctx context.Context) (*bus.Conn, error) {
	o.mu.Lock()
	defer o.mu.Unlock()

	if o.conn != nil && !o.conn.Connected() {
		o.close()
	}

	if o.conn == nil {
		conn, err := o.Connect(ctx, cmp.Or(o.Timeout, ConnectTimeout))
		if err != nil {
			return nil, err
		}

		o.conn = conn
	}

	return o.conn, nil
}

// Observe gathers the facts. It fails only if ctx ends or the settings are wrong.
func (o *Observer) Observe(ctx context.Context) (verdict.Facts, error) {
	conn, err := o.Conn(ctx)
	var why *verdict.Unreachable
	switch {
	case ctx.Err() != nil:
		return verdict.Facts{}, ctx.Err()
	case errors.As(err, &why):
		return verdict.Facts{At: time.Now(), Unreachable: why}, nil
	case err != nil:
		return verdict.Facts{}, err
	}

	facts := observe.Facts(ctx, conn)
	if len(facts.Missing) > 0 && o.Broker.URL == "" { // perhaps the broker inside had no room to make them
		facts.Unreachable = cmp.Or(facts.Unreachable, o.noRoom(littleRoom))
	}

	return facts, ctx.Err()
}
