package web

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/services/console/internal/auth"
	"bobosync/shared/bustest"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// TestReportTime checks the period of a report: the latest shift of a name that has begun, or from and to, up to now.
func TestReportTime(t *testing.T) {
	t.Parallel()

	london, err := time.LoadLocation("Europe/London")
	require.NoError(t, err)

	now := time.Date(2026, 10, 25, 3, 12, 0, 0, london)
	at := func(words string) time.Time {
		at, err := time.ParseInLocation("2006-01-02 15:04", words, london)
		require.NoError(t, err)
		return at
	}
	for name, c := range map[string]struct {
		shift, from, to string
		begin, end      time.Time
		wrong           string
	}{
		"twelve hours":          {"", "", "", now.Add(-12 * time.Hour), now, ""},
		"the night":             {"night", "", "", at("2026-10-24 22:00"), now, ""},
		"yesterday's late one":  {"late", "", "", at("2026-10-24 14:00"), at("2026-10-24 22:00"), ""},
		"yesterday's early one": {"early", "", "", at("2026-10-24 06:00"), at("2026-10-24 14:00"), ""},
		"named times":           {"", "2026-10-24 22:00", "2026-10-25 06:00", at("2026-10-24 22:00"), now, ""},
		"a day":                 {"", "24h", "", now.Add(-24 * time.Hour), now, ""},
		"no such shift":         {"lunch", "", "", now.Add(-12 * time.Hour), now, ""},
		"no time at all":        {"", "2026-10-25 01:00+01:00", "", time.Time{}, time.Time{}, "is no time"},
		"ends before it begins": {"", "1h", "2h", time.Time{}, time.Time{}, "would end before it begins"},
		"twice that day":        {"", "2026-10-25 01:30", "", time.Time{}, time.Time{}, "comes twice"},
		"too long":              {"", "2026-01-01", "", time.Time{}, time.Time{}, "35 days at most"},
	} {
		begin, end, err := reportTime(c.shift, c.from, c.to, now)
		if c.wrong != "" {
			require.ErrorContains(t, err, c.wrong, name)
			continue
		}

		require.NoError(t, err, name)
		require.Equal(t, []time.Time{c.begin, c.end}, []time.Time{begin, end}, name)
	}
}

// TestReport checks that a report has what was not well, was ordered, and failed in its period, and nothing from before
// or after.
func TestReport(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t).Connect(t)
	played(t, conn)
	playedPersons(t, conn)
	s := site(t, conn, well(), auth.Identity{Name: "v", Role: auth.Viewer})
	code, body := get(t, s, "/report?from=2h")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "PROBLEM")
	require.Contains(t, body, "13 min")
	code, body = get(t, s, "/report?from=2h&to=1h")
	require.Equal(t, http.StatusOK, code)
	require.NotContains(t, body, "13 min")
	require.Contains(t, body, "Nothing was ordered.")
}

// TestAReportSaysWhatItLacks checks that a report says so when there are more entries of the journal than it goes
// through.
func TestAReportSaysWhatItLacks(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t).Connect(t)
	played(t, conn)

	left := maxReported + 1000
	serve(t, conn, topology.Janitor, control.On(control.Journal, func(_ context.Context, req control.JournalRequest) (a control.JournalAnswer, _ error) {
		for range min(req.Most, left) {
			left--
			at := night.Add(-time.Duration(maxReported+1000-left) * time.Second)
			a.Entries = append(a.Entries, control.JournalEntry{ID: fmt.Sprintf("%08d", left), Kind: control.JobCleanup, Started: at, Ended: at, Outcome: control.OutcomeOK})
		}

		a.More = left > 0

		return a, nil
	}))
	serve(t, conn, topology.Resolver, control.On(control.Replays, func(context.Context, control.Nothing) ([]control.ReplayState, error) { return nil, nil }))

	s := site(t, conn, well(), auth.Identity{Name: "v", Role: auth.Viewer})
	for from, lacks := range map[string]bool{"2h": false, "7h": true} {
		left = maxReported + 1000
		_, body := get(t, s, "/report?from="+from)
		require.Equal(t, lacks, strings.Contains(body, "Something is missing here"), from)
	}
}

// TestAReportWhileItIsNotWell checks that a report made while things are not well does not say that all was well: such
// a period is in the journal only once it has ended.
func TestAReportWhileItIsNotWell(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t).Connect(t)
	played(t, conn)
	serve(t, conn, topology.Resolver, control.On(control.Replays, func(context.Context, control.Nothing) ([]control.ReplayState, error) { return nil, nil }))
	serve(t, conn, topology.Janitor, control.On(control.Journal, func(context.Context, control.JournalRequest) (control.JournalAnswer, error) {
		return control.JournalAnswer{}, nil
	}))

	for state, always := range map[string]bool{"well": true, "outage": false} {
		_, body := get(t, site(t, conn, states()[state], auth.Identity{Name: "v", Role: auth.Viewer}), "/report?from=2h")
		require.Equal(t, always, strings.Contains(body, ">never<"), state)
		require.Equal(t, always, strings.Contains(body, "It always was"), state)
		require.Equal(t, !always, strings.Contains(body, "what lasts still is not counted"), state)
	}
}

// TestWordsOfServicesAreInTheConsolesZone checks that a moment in UTC, as services in a container write it, is shown in
// the same zone as all others.
func TestWordsOfServicesAreInTheConsolesZone(t *testing.T) {
	t.Parallel()

	at := time.Date(2026, 6, 17, 3, 12, 7, 0, time.UTC)
	require.Equal(t, "on duty since "+at.Local().Format(time.DateTime)+"; all is well", inZone("on duty since 2026-06-17 03:12:07 UTC; all is well"))

	for _, said := range []string{"", "on duty since 2026-06-17 03:12:07 CEST", "2026-99-17 03:12:07 UTC"} {
		require.Equal(t, said, inZone(said))
	}
}
