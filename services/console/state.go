package console

// The connection over which consoles share what they have to remember.

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/bus"
	"bobosync/shared/client"
	"bobosync/shared/topology"
)

// stateTimeout is how long connecting to the broker may take.
const stateTimeout = time.Second

// stateBucket opens the bucket of states, with the operator's key if there is one. It connects again after the
// connection was lost.
type stateBucket struct {
	cfg Config

	mu   sync.Mutex
	conn *bus.Conn
}

// mayWrite reports whether the key may write there. A broker without keys lets everybody write.
func (s *stateBucket) mayWrite() bool { return s.cfg.OperatorCreds != "" || s.cfg.Broker.Creds == "" }

func (s *stateBucket) open(ctx context.Context) (jetstream.KeyValue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.conn != nil && !s.conn.NC.IsConnected() {
		s.conn.Close()
		s.conn = nil
	}

	if s.conn == nil {
		settings := client.Settings{Broker: s.cfg.Broker, Data: s.cfg.Data}
		if s.cfg.OperatorCreds != "" {
			settings.Broker.Creds = s.cfg.OperatorCreds
		}

		conn, err := settings.Connect(ctx, stateTimeout)
		if err != nil {
			return nil, err
		}

		s.conn = conn
	}

	return s.conn.JS.KeyValue(ctx, topology.BucketState)
}

func (s *stateBucket) close() {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.conn != nil {
		s.conn.Close()
	}
}
