package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"

	"bobosync/shared/bustest"
	"bobosync/shared/telemetry/teletest"
)

// TestAFileIsSeenFromOutside checks that metrics, health and one trace show a file that goes through the whole
// program.
func TestAFileIsSeenFromOutside(t *testing.T) {
	s := newSite(t, 3)
	s.vars["HTTP_ADDR"] = bustest.FreeAddr(t)
	collector := teletest.StartCollector(t)
	s.vars["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.URL
	s.fails(1, "ask for the health", "healthcheck")
	stop := s.start()
	s.succeeds("healthcheck")
	web := &teletest.Server{URL: "http://" + s.vars["HTTP_ADDR"]}
	s.until("all services are ready", func() bool {
		status, text := web.Get(t, "/readyz")
		return status == 200 && text == "ready\n"
	})

	content := booking(1, 5, true) + booking(2, 5, true) + "not a booking\n"
	if err := os.WriteFile(s.path("in", "a.csv"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}

	s.until("the file is done", func() bool { return exists(s.path("done", "a.csv")) })

	want := map[string]float64{
		`bobosync_ingest_files_finished_total{outcome="done"}`:                   1,
		`bobosync_ingest_rows_settled_total{outcome="applied"}`:                  2,
		`bobosync_ingest_rows_rejected_total{reason="columns"}`:                  1,
		`bobosync_ingest_entries_published_total`:                                2,
		`bobosync_resolver_entries_total`:                                        2,
		`bobosync_resolver_updates_published_total`:                              2,
		`bobosync_resolver_workers_on_duty`:                                      2,
		`bobosync_resolver_workers_unconfirmed`:                                  0,
		`bobosync_publisher_users_total{outcome="applied"}`:                      2,
		`bobosync_publisher_freshness_seconds_count`:                             2,
		`bobosync_janitor_runs_total{duty="mapping",outcome="ok"}`:               1,
		`bobosync_janitor_mapping_ids`:                                           3,
		`bobosync_janitor_at_work`:                                               1,
		`bobosync_brake_trouble{trouble="outage"}`:                               0,
		`bobosync_broker_dead_letters`:                                           0,
		`bobosync_broker_pending_messages{consumer="resolver",stream="ENTRIES"}`: 0,
		`bobosync_ingest_files_waiting`:                                          0,
	}

	var missed []string
	t.Cleanup(func() {
		if len(missed) > 0 {
			t.Log("not as they should be:", missed)
		}
	})
	s.until("the metrics tell of it", func() bool { // gauges are up to five seconds old
		values := web.Scrape(t)
		missed = missed[:0]
		for name, value := range want {
			if got, there := values[name]; !there || got != value {
				missed = append(missed, name)
			}
		}

		return len(missed) == 0
	})

	sum := sha256.Sum256([]byte(content))
	trace := hex.EncodeToString(sum[:16])
	spans := []string{"read file", "resolve entries", "call AtHoc", "settle rows", "move file"}
	s.until("the spans are there", func() bool {
		return !slices.ContainsFunc(spans, func(name string) bool { return collector.Named(name)[trace] == nil })
	})
	stop()
	s.fails(1, "ask for the health", "healthcheck")

	for _, name := range spans {
		span := collector.Named(name)[trace]
		if span == nil {
			t.Errorf("the file's trace has no %q", name)
			continue
		}

		if parent := hex.EncodeToString(span.GetParentSpanId()); name != "read file" && parent != hex.EncodeToString(sum[16:24]) {
			t.Errorf("%q has the parent %s, which is not the reading of the file", name, parent)
		}
	}

	if !strings.Contains(strings.Join(collector.Resources(), " "), "service.name=bobosync") {
		t.Errorf("the traces do not name the program: %v", collector.Resources())
	}
}
