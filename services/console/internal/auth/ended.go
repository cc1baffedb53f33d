package auth

// The list of sessions that were ended before their time. All consoles share it.

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"time"

	"bobosync/shared/cas"
	"bobosync/shared/topology"
)

const (
	// endedEvery is how often the list is read.
	endedEvery = 2 * time.Second
	// endedTimeout is how long the broker may take to exchange the list.
	endedTimeout = time.Second
)

// ended is the list. Without the broker it goes on with what it knows. It keeps the sessions that were ended here until
// they can be stored or, if it may not write, for as long as they would have lasted.
type ended struct {
	opt   Options
	began time.Time

	mu      sync.Mutex
	known   bool             // whether the list was read
	all     map[string]int64 // when each session would have ended by itself, in Unix seconds
	here    map[string]int64 // likewise, sessions that the list still lacks
	failing bool
}

// readEnded reads the list as it is now.
func readEnded(ctx context.Context, opt Options) *ended {
	e := &ended{opt: opt, began: opt.Clock(), all: map[string]int64{}, here: map[string]int64{}}
	e.refresh(ctx)
	return e
}

// has reports whether a session was ended. As long as the list could not be read, sessions of an earlier run of the
// console count as ended.
func (e *ended) has(s *session) bool {
	e.mu.Lock()
	defer e.mu.Unlock()

	_, was := e.all[s.ID]
	_, here := e.here[s.ID]

	return was || here || !e.known && s.Started < e.began.Unix()
}

// add ends a session: here at once, and at the other consoles as soon as they read the list.
func (e *ended) add(ctx context.Context, s *session) {
	e.mu.Lock()
	maps.DeleteFunc(e.here, func(_ string, ends int64) bool { return ends < e.opt.Clock().Unix() })
	e.here[s.ID] = s.wholeEnds().Unix()
	e.mu.Unlock()
	e.refresh(ctx)
}

// refresh reads the list, and adds to it the sessions that it lacks.
func (e *ended) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, endedTimeout)
	defer cancel()

	e.mu.Lock()
	here := maps.Clone(e.here)
	e.mu.Unlock()
	list, err := e.exchange(ctx, here)

	e.mu.Lock()
	defer e.mu.Unlock()

	if failing := err != nil && ctx.Err() != context.Canceled; failing != e.failing {
		e.failing = failing
		if failing {
			e.opt.Log.Warn("the list of ended sessions cannot be read or written; who logs out here is known here alone", "error", err)
		}
	}

	if err != nil {
		return
	}

	if e.opt.MayWrite {
		maps.DeleteFunc(e.here, func(id string, _ int64) bool { return here[id] != 0 })
	}

	for id, ends := range e.all { // the broker has lost its store, or answered before another call that wrote
		if _, still := list[id]; !still && ends >= e.opt.Clock().Unix() {
			e.here[id] = ends
		}
	}

	e.all, e.known = list, true
}

func (e *ended) exchange(ctx context.Context, here map[string]int64) (map[string]int64, error) {
	kv, err := e.opt.State(ctx)
	if err != nil {
		return nil, err
	}

	list := map[string]int64{}
	err = cas.Update(ctx, kv, topology.KeyConsoleEnded, func(old []byte) ([]byte, error) {
		clear(list)

		if old != nil {
			if err := json.Unmarshal(old, &list); err != nil {
				return nil, fmt.Errorf("key %s: %w", topology.KeyConsoleEnded, err)
			}
		}

		if len(here) == 0 || !e.opt.MayWrite {
			return nil, nil
		}

		maps.Copy(list, here)
		maps.DeleteFunc(list, func(_ string, ends int64) bool { return ends < e.opt.Clock().Unix() })

		return json.Marshal(list)
	})

	return list, err
}
