package metrics

import (
	"testing"
	"time"

	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/telemetry"
	"bobosync/shared/telemetry/teletest"
)

func TestMetrics(t *testing.T) {
	all := telemetry.New("v1.2.3")
	m := New(all)
	m.Batch(500, time.Millisecond)
	m.UpdatesPublished(4)
	m.RowsSettled(event.Superseded, 2)
	m.Watch(teletest.Always(control.ResolverState{Recovered: true, Workers: 20, OnDuty: 5, Unmapped: 1, Oldest: time.Now().Add(-time.Second)}))
	teletest.Documented(t, "../../../..", all, []string{"resolver"}, m)
	teletest.HasValues(t, all, map[string]float64{
		"bobosync_resolver_workers_on_duty": 5, "bobosync_resolver_recovered": 1, "bobosync_resolver_entries_total": 500,
		"bobosync_resolver_rows_settled_total superseded": 2, "bobosync_resolver_updates_published_total": 4,
	})
}

func TestOffIsSafe(t *testing.T) {
	New(nil).Watch(teletest.Always(control.ResolverState{}))()
}
