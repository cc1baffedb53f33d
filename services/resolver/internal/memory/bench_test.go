package memory

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"bobosync/services/resolver/internal/latest"
	"bobosync/shared/event"
)

// BenchmarkSave saves 20,000 workers, as a batch does that concerns all of them.
func BenchmarkSave(b *testing.B) {
	m, err := Open(filepath.Join(b.TempDir(), "m.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = m.Close() }) // nothing is read from it
	workers := map[string]latest.Worker{}
	for i := range 20_000 {
		e := latest.Event{Version: event.Version{Rank: 1795462717, Order: 1795462717248371230, Row: i}, File: fmt.Sprintf("%064x", i), On: true, At: 1795462717}
		sent := latest.Sent{User: fmt.Sprintf("firstname.lastname.%d@example.org", i), File: e.File, Version: e.Version, On: true, At: e.At}
		workers[fmt.Sprintf("%05d", i)] = latest.Worker{Latest: e, Open: true, Sent: &sent, Confirmed: &latest.Confirmed{Sent: sent, Outcome: event.Applied, Answered: 1795462717}}
	}
	for b.Loop() {
		if err := m.Save(Change{Workers: workers}); err != nil {
			b.Fatal(err)
		}
	}
}
