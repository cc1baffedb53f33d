package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/audit"
	"bobosync/shared/control"
	"bobosync/shared/history"
)

// TestThePastIsKnown checks that the commands show what AtHoc held for a worker at a moment and by which call, who was
// on duty, and what became of each row of a file.
func TestThePastIsKnown(t *testing.T) {
	s := newSite(t, 3)
	s.start()

	before := time.Now()

	s.drop("monday.csv", booking(1, 50, true), booking(2, 50, true), booking(2, 45, true), booking(9, 50, true), "BON,1\n")
	s.arrives("done", "monday.csv")

	between := time.Now()

	s.drop("tuesday.csv", booking(1, 10, false))
	s.arrives("done", "tuesday.csv")

	var past struct {
		control.PastAnswer
		Sentence string
		Files    map[string]string
	}
	ask := func(at time.Time) {
		t.Helper()

		past.PastAnswer = control.PastAnswer{}
		require.NoError(t, json.Unmarshal([]byte(s.succeeds("worker", "00001", "--at", at.Format(time.RFC3339Nano), "--json")), &past))
	}
	s.until("the history has the answer", func() bool { ask(time.Now()); return past.State == history.Off })
	require.Equal(t, "tuesday.csv", past.Files[past.Confirmed.File])
	ask(between)
	require.Equal(t, history.On, past.State)
	require.Equal(t, username(1), past.User)
	require.Equal(t, 1, past.Confirmed.Line)
	require.NotEmpty(t, past.Confirmed.Call)
	require.Equal(t, 200, past.Confirmed.Status)
	require.Equal(t, past.Next.Call, past.Deliveries[0].Call)
	require.Contains(t, past.Sentence, "AtHoc was told on duty since")
	require.Contains(t, past.Sentence, "monday.csv line 1; not told otherwise until")
	ask(before)
	require.Equal(t, history.Unknown, past.State)
	require.Contains(t, s.succeeds("worker", "00001", "--at", "1ms"), "AtHoc was told off duty")

	var booked control.BookingsAnswer
	require.NoError(t, json.Unmarshal([]byte(s.succeeds("worker", "00002", "--bookings", "--json")), &booked))
	require.Len(t, booked.Bookings, 2)

	for i, want := range []control.Booking{{Name: "monday.csv", Line: 2, Outcome: "superseded"}, {Name: "monday.csv", Line: 3, Outcome: "applied"}} {
		got := booked.Bookings[i]
		require.Equal(t, want, control.Booking{Name: got.Name, Line: got.Line, Outcome: got.Outcome})
		require.True(t, got.On)
	}

	require.Contains(t, s.succeeds("worker", username(2), "--bookings", "--at", "1ms"), "superseded")
	require.NoError(t, os.Remove(s.path("done", "monday.csv")))
	require.Contains(t, s.succeeds("worker", "00002", "--bookings"), "1 file is not there any more")

	require.Contains(t, s.succeeds("onduty"), "1 on duty at")
	csv := s.succeeds("onduty", "--at", between.Format(time.RFC3339Nano), "--csv")
	require.Equal(t, 3, strings.Count(csv, "\n"), "a head and two workers: %s", csv)
	require.Contains(t, csv, "00001,"+username(1)+",on,")
	s.fails(1, "is in the future", "onduty", "--at", time.Now().Add(time.Hour).Format(time.RFC3339))

	var receipts []struct{ Rows []control.ReceiptRow }
	require.NoError(t, json.Unmarshal([]byte(s.succeeds("files", "receipt", "monday.csv", "--json")), &receipts))
	rows := receipts[0].Rows
	require.Len(t, rows, 5)

	for _, row := range rows {
		switch row.Outcome {
		case "applied":
			require.NotEmpty(t, row.Calls)
			require.NotEmpty(t, row.Calls[0].Call)
		default:
			require.NotEmpty(t, row.Why, "line %d: %s", row.Line, row.Outcome)
		}
	}

	require.Contains(t, s.succeeds("files", "receipt", "tuesday.csv"), "line 1: applied: call ")
	require.Equal(t, 6, strings.Count(s.succeeds("files", "receipt", "monday.csv", "--csv"), "\n"))

	var looks []audit.Entry
	require.NoError(t, json.Unmarshal([]byte(s.succeeds("audit", "list", "--most", "1000", "--json")), &looks))
	require.GreaterOrEqual(t, len(looks), 7, "each look is recorded")
	require.True(t, slices.ContainsFunc(looks, func(e audit.Entry) bool { return e.Kind == audit.Read && e.Endpoint == control.Bookings }))
	require.Equal(t, audit.Read, looks[0].Kind)
	require.Contains(t, s.succeeds("audit", "verify"), "are as they were written")
}
