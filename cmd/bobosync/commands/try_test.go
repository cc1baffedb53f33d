package commands

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/breaker"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// rowOf returns a row of a BOBO file.
func rowOf(kind, employee, at string) string {
	return fmt.Sprintf("%s,%s,p,%s,%s,%s%s,a,b,c,d\n", kind, employee, at[:8], at[8:], at[:8], at[8:])
}

func TestFilesTry(t *testing.T) {
	r := newResponders(t)
	path := filepath.Join(t.TempDir(), "monday.csv")
	content := rowOf("BON", "1", "20240617080000") + rowOf("BOF", "1", "20240617160000") + rowOf("BON", "2", "20240617090000") + "BON,3\n"
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	var tried asked[control.TryRequest]
	stop := r.serve(topology.Resolver, hears(&tried, control.Try, func(req control.TryRequest) (control.TryAnswer, error) {
		g := control.TryGuard{Mode: "hold", Holding: true, Changes: map[string]int{"off": req.Changes["off"] + len(req.Entries)}}
		if n := g.Changes["off"]; n > control.MaxTryEntries {
			g.Unusual = []control.TryUnusual{{UnusualChange: control.UnusualChange{Kind: "off", Users: n + 7, Allowed: 19}, Hold: true}}
		}

		return control.TryAnswer{On: 1, Off: 1, Beaten: len(req.Entries) - 2, Guard: &g}, nil
	}))
	r.serve(topology.Ingest, states(control.IngestState{Zone: "Asia/Kolkata", ZoneOffset: 19800}),
		says(control.FindFile, []control.FoundFile{{ID: fileA, Name: "sunday.csv"}}))

	out := r.succeeds("files", "try", path)
	for _, want := range []string{"3 good, 1 rejected (1 columns); 1 beaten", "as sunday.csv", "no publisher is there", "not ten columns", "nothing unusual. The guard holds"} {
		require.Contains(t, out, want)
	}

	entries := tried.got()[0].Entries
	require.Len(t, entries, 2, "the latest of each worker")
	require.Equal(t, time.Date(2024, 6, 17, 10, 30, 0, 0, time.UTC).Unix(), entries[0].At, "in ingest's zone")
	require.False(t, entries[0].On)
	require.Equal(t, 2, entries[0].Row)

	p := breaker.Pause{By: "jo", At: time.Now(), Until: time.Now().Add(time.Hour)}
	r.serve(topology.Publisher, says(control.Sending, control.SendingState{BatchSize: 1, RateLimit: 1, Pause: &p}))
	require.Contains(t, r.succeeds("files", "try", path), "2. PAUSED until")
	var told struct {
		Good, Bad, Calls int
		Workers          control.TryAnswer
		Rejected         []struct{ Line int }
	}
	require.NoError(t, json.Unmarshal([]byte(r.succeeds("files", "try", path, "--json")), &told))
	require.Equal(t, []int{3, 1, 2, 1, 4}, []int{told.Good, told.Bad, told.Calls, told.Workers.On, told.Rejected[0].Line})

	require.NoError(t, os.WriteFile(path, []byte("\x00\x01"), 0o600))
	r.fails(1, "is no text", "files", "try", path)
	require.NoError(t, os.WriteFile(path, []byte("nothing\n"), 0o600))
	r.fails(1, "0 good, 1 rejected", "files", "try", path)
	r.fails(1, "no such file", "files", "try", path+".gone")

	var many strings.Builder
	for i := range control.MaxTryEntries + 5 {
		many.WriteString(rowOf("BON", fmt.Sprint(100+i), "20240617080000"))
	}

	require.NoError(t, os.WriteFile(path, []byte(many.String()), 0o600))
	out = r.succeeds("files", "try", path)
	require.Contains(t, out, fmt.Sprint(control.MaxTryEntries+1))
	require.Contains(t, out, "1005 users go off duty, which would wait for a decision (bobosync held): with those of just now they are 1012, where at most 19 are allowed")
	stop()
	r.fails(1, "no such service answers", "files", "try", path)
}

func TestZoneOfATrial(t *testing.T) {
	t.Parallel()

	now := time.Date(2024, 6, 17, 12, 0, 0, 0, time.UTC)
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)

	for name, c := range map[string]struct {
		states []control.IngestState
		want   string
	}{
		"ingest is away":            {nil, "Europe/Berlin"},
		"an older ingest":           {[]control.IngestState{{}}, "Europe/Berlin"},
		"what ingest says":          {[]control.IngestState{{Zone: "UTC"}}, "UTC"},
		"its machine's, as is here": {[]control.IngestState{{Zone: "Local", ZoneOffset: 7200}}, "Europe/Berlin"},
		"its machine's, another":    {[]control.IngestState{{Zone: "Local"}}, ""},
	} {
		zone, err := zoneOf(c.states, berlin, now)
		if c.want == "" {
			require.ErrorContains(t, err, "BOBO_TIMEZONE", name)
			continue
		}

		require.NoError(t, err, name)
		require.Equal(t, c.want, zone.String(), name)
	}
}
