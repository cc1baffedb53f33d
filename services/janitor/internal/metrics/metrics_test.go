package metrics

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/control"
	"bobosync/shared/telemetry"
	"bobosync/shared/telemetry/teletest"
)

func TestMetrics(t *testing.T) {
	hourAgo := time.Now().Add(-time.Hour)
	all := telemetry.New("v1.2.3")
	m := New(all)
	m.Run(control.JobMapping, control.OutcomeOK)
	m.StaleCleared(1)
	m.FilesPurged(1)
	m.Reconciled(control.ReconcileAnswer{Compared: 10, Differing: 2, Applied: 1})
	m.Mapping(control.MappingReport{Refreshed: hourAgo, Mapped: 7, Ambiguous: map[string][]string{"secret-id": {"secret-user"}}})
	m.Watch(teletest.Always(control.JanitorState{
		Leads: true, Jobs: []control.Job{{Name: control.JobMapping, LastSuccess: hourAgo}, {Name: control.JobPurge, Off: true}},
		Held:   &control.HeldMapping{},
		Notify: []control.NotifyState{{Sink: "mail"}, {Sink: "webhook", Waiting: 2, Failing: hourAgo}},
	}))
	teletest.Documented(t, "../../../..", all, []string{"janitor"}, m)
	teletest.HasValues(t, all, map[string]float64{
		"bobosync_janitor_mapping_held": 1, "bobosync_janitor_mapping_ambiguous_ids": 1, "bobosync_janitor_runs_total mapping ok": 1,
		"bobosync_janitor_reconcile_differing": 2, "bobosync_janitor_reconcile_applied_total": 1, "bobosync_janitor_notify_waiting webhook": 2,
	})
	values := teletest.Values(t, all)
	require.InDelta(t, 3600, values["bobosync_janitor_mapping_age_seconds"], 30)
	require.InDelta(t, float64(hourAgo.Unix()), values["bobosync_janitor_last_success_timestamp_seconds mapping"], 30)
	require.NotContains(t, values, "bobosync_janitor_last_success_timestamp_seconds purge", "a duty that is off is not late")
}

func TestOffIsSafe(t *testing.T) {
	New(nil).Mapping(control.MappingReport{})
}
