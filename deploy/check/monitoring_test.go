package check_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// rule is a recording rule or an alert.
type rule struct {
	Record, Alert, Expr string
	Labels, Annotations map[string]string
}

func rules(t *testing.T) (all []rule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	readYAML(t, "../prometheus/bobosync.rules.yaml", &file)

	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}

	require.NotEmpty(t, all)

	return all
}

func readYAML(t *testing.T, path string, into any) {
	t.Helper()

	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, into), path)
}

// panel is a panel of the dashboard.
type panel struct {
	ID      int
	Type    string
	Title   string
	GridPos struct{ H, W, X, Y int }
	Targets []struct {
		Expr       string
		Datasource struct{ UID string }
	}
}

type dashboard struct {
	UID, Title string
	Panels     []panel
	Templating struct {
		List []struct{ Name, Type, Query string }
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()

	text, err := os.ReadFile("../grafana/bobosync.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &d))

	return d
}

// queries returns the expressions of all panels.
func (d dashboard) queries() (all []string) {
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			all = append(all, target.Expr)
		}
	}

	return all
}

// metric is what docs/metrics.md says about a metric; a test of the telemetry keeps that page true.
type metric struct {
	kind   string
	labels []string
}

func documented(t *testing.T) map[string]metric {
	t.Helper()

	text, err := os.ReadFile("../../docs/metrics.md")
	require.NoError(t, err)

	found := map[string]metric{}
	row := regexp.MustCompile("(?m)^\\| `(bobosync_[a-z_]+)` \\| ([a-z]+) \\| ([^|]*) \\|")
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		var labels []string
		for _, label := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(m[3], -1) {
			labels = append(labels, label[1])
		}

		found[m[1]] = metric{m[2], labels}
	}

	require.NotEmpty(t, found)

	return found
}

var (
	metricName = regexp.MustCompile(`\b(?:bobosync[_:]|process_|go_)[a-z0-9_:]+\b`)
	// Labels are the names in parentheses after by, on and the like, and the names that are compared with a text.
	grouping = regexp.MustCompile(`\b(?:by|without|on|ignoring)\s*\(([^)]*)\)`)
	matcher  = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)\s*"`)
)

// byPrometheus are labels and metrics that Prometheus and its client library add.
var byPrometheus = []string{"le", "job", "instance", "process_start_time_seconds", "process_resident_memory_bytes", "process_cpu_seconds_total"}

// TestQueriesNameWhatExists checks that each metric in a rule or on the dashboard exists, is of the kind that the
// query assumes, and has the labels that the query uses.
func TestQueriesNameWhatExists(t *testing.T) {
	known := documented(t)
	queries := readDashboard(t).queries()
	for _, r := range rules(t) {
		queries = append(queries, r.Expr)
		if r.Record != "" {
			known[r.Record] = metric{labels: labelsOf(r.Expr)}
		}
	}

	require.Greater(t, len(queries), 100)

	for _, query := range queries {
		labels := slices.Clone(byPrometheus)
		for _, name := range metricName.FindAllString(query, -1) {
			family := strings.TrimSuffix(name, "_bucket")
			m, exists := known[family]
			require.True(t, exists || slices.Contains(byPrometheus, name), "there is no metric %s: %s", name, query)
			require.Equal(t, family != name, m.kind == "histogram", "%s: only a histogram has buckets: %s", name, query)

			if m.kind == "counter" {
				require.Regexp(t, `absent\(|group by|unless|(rate|increase)\([^)]*`+name, query, "a counter says nothing but by how it grows")
			}

			labels = append(labels, m.labels...)
		}

		for _, label := range labelsOf(query) {
			require.Contains(t, labels, label, query)
		}
	}
}

// labelsOf lists the labels that an expression uses.
func labelsOf(query string) (labels []string) {
	for _, m := range grouping.FindAllStringSubmatch(query, -1) {
		for label := range strings.SplitSeq(m[1], ",") {
			labels = append(labels, strings.TrimSpace(label))
		}
	}

	for _, m := range matcher.FindAllStringSubmatch(query, -1) {
		labels = append(labels, m[1])
	}

	return labels
}

// TestEachAlertIsTested checks that each alert has a case in which it fires and one in which it does not.
func TestEachAlertIsTested(t *testing.T) {
	var file struct {
		Tests []struct {
			Exprs []struct {
				Expr    string
				Samples []any `json:"exp_samples"`
			} `json:"promql_expr_test"`
		}
	}
	readYAML(t, "../prometheus/bobosync.rules.test.yaml", &file)

	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, c := range test.Exprs {
			if m := regexp.MustCompile(`alertname="(\w+)"`).FindStringSubmatch(c.Expr); m != nil {
				if len(c.Samples) > 0 {
					fires[m[1]] = true
				} else {
					quiet[m[1]] = true
				}
			}
		}
	}

	alerts := map[string]bool{}
	for _, r := range rules(t) {
		if r.Alert != "" {
			require.False(t, alerts[r.Alert], "%s is there twice", r.Alert)
			alerts[r.Alert] = true
			require.Contains(t, []string{"critical", "warning"}, r.Labels["severity"], r.Alert)
			require.ElementsMatch(t, []string{"summary", "description", "command", "runbook"}, slices.Collect(maps.Keys(r.Annotations)), r.Alert)
		}
	}

	require.Equal(t, alerts, fires, "alerts with a case in which they fire")
	require.Equal(t, alerts, quiet, "alerts with a case in which they do not")
}

// TestDashboard checks that Grafana can load the dashboard, that it shows first whether data is fresh, and that no
// panels overlap.
func TestDashboard(t *testing.T) {
	d := readDashboard(t)
	require.NotEmpty(t, d.UID)
	require.NotEmpty(t, d.Title)
	require.Len(t, d.Templating.List, 1)
	source := d.Templating.List[0]
	require.Equal(t, []string{"datasource", "datasource", "prometheus"}, []string{source.Name, source.Type, source.Query})
	require.Equal(t, "Is duty data fresh?", d.Panels[0].Title)

	ids, titles, taken := map[int]bool{}, map[string]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		require.False(t, ids[p.ID], "two panels are number %d", p.ID)
		require.NotEmpty(t, p.Title)
		require.False(t, titles[p.Title], "two panels are called %s", p.Title)
		ids[p.ID], titles[p.Title] = true, true
		require.Equal(t, p.Type == "row", len(p.Targets) == 0, p.Title)

		for _, target := range p.Targets {
			require.Equal(t, "${datasource}", target.Datasource.UID, p.Title)
		}

		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)

		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				place := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				require.Empty(t, taken[place], "%s lies on it", p.Title)
				taken[place] = p.Title
			}
		}
	}
}

// TestDashboardQueriesAreValid lets promtool check each query. make check-alerts sets PROMTOOL to its path.
func TestDashboardQueriesAreValid(t *testing.T) {
	promtool := os.Getenv("PROMTOOL")
	if promtool == "" {
		t.Skip("PROMTOOL does not name promtool: make check-alerts does")
	}

	type entry struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}

	var entries []entry
	for i, query := range readDashboard(t).queries() {
		entries = append(entries, entry{fmt.Sprintf("dashboard:query:%d", i), strings.ReplaceAll(query, "$__rate_interval", "5m")})
	}

	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": entries}}})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "dashboard.yaml")
	require.NoError(t, os.WriteFile(path, text, 0o600))
	out, err := exec.CommandContext(t.Context(), promtool, "check", "rules", path).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), fmt.Sprintf("%d rules found", len(entries)))
}
