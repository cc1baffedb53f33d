// Package teletest lets tests see a process's telemetry as an operator's monitoring does: over a socket.
package teletest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"bobosync/shared/telemetry"
)

// timeout is how long an answer may take.
const timeout = 20 * time.Second

// Server is a telemetry that is served until the end of the test.
type Server struct {
	*telemetry.Telemetry
	// URL is its address, without a path.
	URL string
}

// Start serves a new telemetry on a free port.
func Start(tb testing.TB) *Server {
	tb.Helper()

	t := telemetry.New("v1.2.3")

	s, err := t.Serve(tb.Context(), "127.0.0.1:0", slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}

	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})

	return &Server{t, "http://" + s.Addr()}
}

// Get returns the status and the body at a path.
func (s *Server) Get(tb testing.TB, path string) (int, string) {
	tb.Helper()

	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
	if err != nil {
		tb.Fatal(err)
	}

	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

	resp, err := client.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()

	text, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}

	return resp.StatusCode, string(text)
}

// Scrape reads /metrics as Prometheus does. The values have keys such as
// bobosync_ingest_files_finished_total{outcome="done"}, with the labels sorted by name; a histogram has its _count and
// its _sum.
func (s *Server) Scrape(tb testing.TB) map[string]float64 {
	tb.Helper()

	status, text := s.Get(tb, "/metrics")
	if status != http.StatusOK {
		tb.Fatalf("/metrics: status %d: %s", status, text)
	}

	parser := expfmt.NewTextParser(model.LegacyValidation)

	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		tb.Fatalf("/metrics cannot be read: %v", err)
	}

	values := map[string]float64{}
	for name, family := range families {
		for _, m := range family.GetMetric() {
			labels := labelsOf(m)
			switch family.GetType() {
			case dto.MetricType_COUNTER:
				values[name+labels] = m.GetCounter().GetValue()
			case dto.MetricType_GAUGE:
				values[name+labels] = m.GetGauge().GetValue()
			case dto.MetricType_HISTOGRAM:
				values[name+"_count"+labels] = float64(m.GetHistogram().GetSampleCount())
				values[name+"_sum"+labels] = m.GetHistogram().GetSampleSum()
			}
		}
	}

	return values
}

func labelsOf(m *dto.Metric) string {
	var pairs []string
	for _, l := range m.GetLabel() {
		pairs = append(pairs, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
	}

	if len(pairs) == 0 {
		return ""
	}

	slices.Sort(pairs)

	return "{" + strings.Join(pairs, ",") + "}"
}
