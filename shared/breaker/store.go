package breaker

// The state in its bucket, where all callers read and change it.

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/cas"
)

// Key is the key of the state in its bucket.
const Key = "athoc.brake"

// store keeps the state under Key. It is safe for concurrent use.
type store struct {
	kv     jetstream.KeyValue
	limits Limits
	clock  *clock
	log    *slog.Logger
}

// load returns the state as it is now.
func (s *store) load(ctx context.Context) (State, error) {
	value, _, err := cas.Load(ctx, s.kv, Key)
	return s.decode(value), err
}

// change updates the state. Its error begins with doing, which says what the change was for.
func (s *store) change(ctx context.Context, doing string, f func(State) State) error {
	if err := s.update(ctx, f); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// update replaces the state with what f makes of it, and repeats this until no other caller has come in between. A
// state that f leaves as it is is not stored again.
func (s *store) update(ctx context.Context, f func(State) State) error {
	return cas.Update(ctx, s.kv, Key, func(old []byte) ([]byte, error) {
		before := s.decode(old)
		after := f(before)
		if old != nil && reflect.DeepEqual(before, after) {
			return nil, nil
		}

		return json.Marshal(after)
	})
}

// decode reads the state. A state that cannot be read is logged and replaced by the zero State.
func (s *store) decode(value []byte) State {
	var state State
	if len(value) == 0 {
		return state
	}

	if err := json.Unmarshal(value, &state); err != nil {
		s.log.Warn("the circuit breaker's state cannot be read and is begun afresh", "error", err)
		return State{}
	}

	return state.withoutFar(s.clock.now(), s.limits)
}
