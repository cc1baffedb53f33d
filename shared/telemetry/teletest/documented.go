package teletest

import (
	"context"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"bobosync/shared/telemetry"
	"bobosync/shared/telemetry/metric"
)

// family is a metric, as Prometheus sees it or as docs/metrics.md describes it.
type family struct{ name, kind, labels, help string }

// families gathers this project's own metrics.
func families(tb testing.TB, all *telemetry.Telemetry) map[string]family {
	tb.Helper()

	gathered, err := all.Gatherer().Gather()
	require.NoError(tb, err)

	found := map[string]family{}
	for _, f := range gathered {
		if !strings.HasPrefix(f.GetName(), metric.Namespace+"_") {
			continue
		}

		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}

		slices.Sort(labels)
		found[f.GetName()] = family{f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp()}
	}

	return found
}

var row = regexp.MustCompile("(?m)^\\| `(bobosync_[a-z_]+)` \\| ([a-z]+) \\| ([^|]*) \\| ([^|]*) \\|$")

// listed returns the metrics that docs/metrics.md lists; root is the path to the repository.
func listed(tb testing.TB, root string) map[string]family {
	tb.Helper()

	text, err := os.ReadFile(root + "/docs/metrics.md")
	require.NoError(tb, err)

	out := map[string]family{}
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		out[m[1]] = family{m[1], m[2], strings.ReplaceAll(strings.TrimSpace(m[3]), "`", ""), m[4]}
	}

	return out
}

// Documented checks metrics that a test has fed. It checks that docs/metrics.md lists each with its type, labels and
// help, and no other metric whose name begins with one of the parts; that every metric was fed; that names follow
// Prometheus's rules; and that no label value contains "secret-", which a test puts into every name that it feeds. With
// PRINT_METRICS=1 it prints the table's rows.
func Documented(tb testing.TB, root string, all *telemetry.Telemetry, parts []string, sets ...telemetry.Set) {
	tb.Helper()

	found := families(tb, all)
	if os.Getenv("PRINT_METRICS") != "" {
		printRows(found)
	}

	own := listed(tb, root)
	for _, name := range []string{metric.Namespace + "_build_info", metric.Namespace + "_ready"} { // every telemetry has them
		require.Equal(tb, own[name], found[name])
		delete(own, name)
		delete(found, name)
	}

	maps.DeleteFunc(own, func(name string, _ family) bool {
		return !slices.ContainsFunc(parts, func(part string) bool { return strings.HasPrefix(name, metric.Namespace+"_"+part+"_") })
	})
	require.Equal(tb, own, found)
	require.Equal(tb, slices.Sorted(maps.Keys(described(sets))), slices.Sorted(maps.Keys(found)), "described and fed")

	problems, err := testutil.GatherAndLint(all.Gatherer())
	require.NoError(tb, err)
	require.Empty(tb, problems)

	gathered, err := all.Gatherer().Gather()
	require.NoError(tb, err)

	for _, f := range gathered {
		require.NotContains(tb, f.String(), "secret-")
	}
}

// OnlyOf checks that docs/metrics.md lists no metric of any other part.
func OnlyOf(tb testing.TB, root string, parts ...string) {
	tb.Helper()

	for name := range listed(tb, root) {
		part, _, _ := strings.Cut(strings.TrimPrefix(name, metric.Namespace+"_"), "_")
		require.Contains(tb, parts, part, name)
	}
}

func printRows(found map[string]family) {
	for _, name := range slices.Sorted(maps.Keys(found)) {
		f := found[name]
		labels := ""
		if f.labels != "" {
			labels = "`" + strings.ReplaceAll(f.labels, ", ", "`, `") + "`"
		}

		fmt.Printf("| `%s` | %s | %s | %s |\n", f.name, f.kind, labels, f.help)
	}
}

var fqName = regexp.MustCompile(`fqName: "([^"]+)"`)

// described returns the names of all metrics of some sets.
func described(sets []telemetry.Set) map[string]bool {
	names := map[string]bool{}
	for _, set := range sets {
		for _, c := range set.Collectors() {
			descs := make(chan *prometheus.Desc, 100)
			c.Describe(descs)
			close(descs)

			for d := range descs {
				names[fqName.FindStringSubmatch(d.String())[1]] = true
			}
		}
	}

	return names
}

// Values returns the values of all counters and gauges, keyed by name and label values, separated by spaces.
func Values(tb testing.TB, all *telemetry.Telemetry) map[string]float64 {
	tb.Helper()

	gathered, err := all.Gatherer().Gather()
	require.NoError(tb, err)

	values := map[string]float64{}
	for _, f := range gathered {
		for _, m := range f.GetMetric() {
			key := []string{f.GetName()}
			for _, l := range m.GetLabel() {
				key = append(key, l.GetValue())
			}

			values[strings.Join(key, " ")] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}

	return values
}

// HasValues checks some of the values.
func HasValues(tb testing.TB, all *telemetry.Telemetry, want map[string]float64) {
	tb.Helper()

	values := Values(tb, all)
	for key, want := range want {
		got, there := values[key]
		require.True(tb, there, key)
		require.InDelta(tb, want, got, 1e-9, key)
	}
}

// Always returns a function that returns s each time, for use with Watch.
func Always[S any](s S) func(context.Context) (S, error) {
	return func(context.Context) (S, error) { return s, nil }
}
