package client

import (
	"context"
	"errors"
	"time"

	"bobosync/shared/bus"
	"bobosync/shared/observe"
	"bobosync/shared/verdict"
)

// Observer looks at everything over one connection, which it makes anew when it is lost: a broker inside comes back elsewhere.
type Observer struct {
	Settings
	conn *bus.Conn
}

// Close ends the connection. The Observer may be used again.
func (o *Observer) Close() {
	if o.conn != nil {
		o.conn.Close()
		o.conn = nil
	}
}

// Observe gathers the facts. It fails only if ctx ends or the settings are wrong.
func (o *Observer) Observe(ctx context.Context) (verdict.Facts, error) {
	if o.conn != nil && !o.conn.Connected() {
		o.Close()
	}
	if o.conn == nil {
		conn, err := o.Connect(ctx, ConnectTimeout)
		var why *verdict.Unreachable
		switch {
		case ctx.Err() != nil:
			return verdict.Facts{}, ctx.Err()
		case errors.As(err, &why):
			return verdict.Facts{At: time.Now(), Unreachable: why}, nil
		case err != nil:
			return verdict.Facts{}, err
		}
		o.conn = conn
	}
	return observe.Facts(ctx, o.conn), ctx.Err()
}
