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

// Observer reads everything over one connection, which it makes again when it is lost: a broker inside comes back elsewhere. It may
// be used by several goroutines.
type Observer struct {
	Settings
	// Timeout is how long it tries to reach the broker, ConnectTimeout if it is 0.
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

// Conn returns the connection, which is lost to its user when the Observer makes another one. Its error is that of Connect.
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
	if len(facts.Missing) > 0 && o.Broker.URL == "" { // or the broker inside had no room to make them
		facts.Unreachable = cmp.Or(facts.Unreachable, o.noRoom(littleRoom))
	}

	return facts, ctx.Err()
}
