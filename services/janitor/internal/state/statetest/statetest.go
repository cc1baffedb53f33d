// Package statetest provides tests with a state in memory.
package statetest

import (
	"context"
	"sync"

	"bobosync/services/janitor/internal/state"
)

// Fake is a state.Entry in memory. Its fields are for tests to set; Err makes it unreachable.
type Fake struct {
	mu       sync.Mutex
	Value    []byte
	Revision uint64
	Err      error
}

// Load implements state.Entry.
func (m *Fake) Load(context.Context) ([]byte, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Value, m.Revision, m.Err
}

// Save implements state.Entry.
func (m *Fake) Save(_ context.Context, value []byte, revision uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()

	switch {
	case m.Err != nil:
		return 0, m.Err
	case revision != m.Revision:
		return 0, state.ErrConflict
	}

	m.Value = value
	m.Revision++

	return m.Revision, nil
}
