package show

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/services/resolver/internal/latest"
	"bobosync/shared/event"
)

func TestDescribe(t *testing.T) {
	t.Parallel()

	now := time.Date(2024, 6, 18, 12, 0, 0, 0, time.Local)
	rules := latest.Rules{Lifetime: 24 * time.Hour, Lateness: time.Minute}
	at := func(hoursAgo int) time.Time { return now.Add(-time.Duration(hoursAgo) * time.Hour) }
	text := func(hoursAgo int) string { return at(hoursAgo).Format("2006-01-02 15:04:05 MST") }
	// sent returns a worker whose event was sent that long ago and was not answered.
	sent := func(hoursAgo int, on bool, change ...func(*latest.Worker)) latest.Worker {
		var w latest.Worker
		w.Take(latest.Event{Version: event.Version{Rank: at(hoursAgo).Unix(), Sequence: 1, Row: 2}, File: "a", On: on, At: at(hoursAgo).Unix()}, false)
		w.Resolve("007", "bond", event.ReasonEvent, at(hoursAgo), rules)

		for _, c := range change {
			c(&w)
		}

		return w
	}
	answered := func(o event.Outcome) func(*latest.Worker) {
		return func(w *latest.Worker) {
			s := *w.Sent
			w.Answer(event.Answer{User: s.User, File: s.File, Version: s.Version, On: s.On, At: s.At, Outcome: o, Answered: at(1).Unix()}, at(0), rules)
		}
	}
	for _, c := range []struct {
		worker    latest.Worker
		user      string
		published time.Time
		want      string
	}{
		{latest.Worker{}, "bond", time.Time{}, "BOBO has sent nothing about this worker so far, so nothing is sent to AtHoc"},
		{latest.Worker{InDoubt: 5}, "bond", time.Time{}, "BOBO has sent nothing about this worker so far, so nothing is sent to AtHoc"},
		{sent(2, true), "", time.Time{}, "no AtHoc user has this employee id: on duty since " + text(2) + ", which is sent when a user gets the id and the mapping has been refreshed"},
		{sent(2, true), "bond", time.Time{}, "on duty since " + text(2) + "; on its way to AtHoc"},
		{sent(2, false), "bond", at(1), "off duty since " + text(2) + "; on its way to AtHoc since " + text(1) + ", see the circuit breaker if that is long ago"},
		{sent(2, true, answered(event.Applied)), "bond", time.Time{}, "on duty since " + text(2) + "; confirmed by AtHoc at " + text(1)},
		{sent(5, false, answered(event.Applied), func(w *latest.Worker) {
			w.Take(latest.Event{Version: event.Version{Rank: at(0).Unix(), Sequence: 2, Row: 2}, File: "b", At: at(0).Unix()}, false)
			w.Resolve("007", "bond", event.ReasonEvent, at(0), rules)
		}), "bond", time.Time{}, "off duty since " + text(0) + "; not sent again, since AtHoc is known to hold that since " + text(1)},
		{sent(2, true, answered(event.UnknownUser)), "bond", time.Time{}, "on duty since " + text(2) + "; AtHoc answered at " + text(1) + " that it has no such user"},
		{sent(2, true, answered(event.ForbiddenUser)), "bond", time.Time{}, "on duty since " + text(2) + "; AtHoc answered at " + text(1) + " that this account may not change that user"},
		{sent(2, true, answered(event.Dead)), "bond", time.Time{}, "on duty since " + text(2) + "; AtHoc refused it at " + text(1) + ", see the dead letters"},
		{sent(30, true, answered(event.Applied)), "bond", time.Time{}, "booked on at " + text(30) + ", longer ago than AUTO_CLEANUP_HOURS, so it counts as off duty; " +
			"AtHoc was sent the duty and confirmed it at " + text(1) + "; the janitor clears it at its next look"},
		{sent(2, true, func(w *latest.Worker) { w.Unresolved = true }), "bond", time.Time{}, "on duty since " + text(2) + "; not sent yet: more entries are read first, or AtHoc has enough to do"},
		{sent(30, true, func(w *latest.Worker) { w.Sent = nil }), "bond", time.Time{}, "booked on at " + text(30) + ", longer ago than AUTO_CLEANUP_HOURS, so it counts as off duty; " +
			"AtHoc was sent nothing, and what it held before is cleared when it is stale as well"},
		{sent(2, true, answered(event.Applied), func(w *latest.Worker) { w.Replay = "r" }), "bond", time.Time{}, "on duty since " + text(2) + "; confirmed by AtHoc at " + text(1) + "; a replay sends it again"},
		{sent(2, true, answered(event.Applied), func(w *latest.Worker) { w.InDoubt = at(-1).Unix() }), "bond", time.Time{}, "on duty since " + text(2) + "; confirmed by AtHoc at " + text(1) + "; it is resent at " + text(-1) + ", since a call got no answer"},
		{sent(2, false, answered(event.Applied), func(w *latest.Worker) { w.Keep(latest.Hold{Group: "off-1", Seq: 1}) }), "bond", time.Time{}, "off duty since " + text(2) +
			"; not sent: it is part of the mass change off-1, which waits until a person decides, see bobosync held show off-1"},
		{sent(30, true, answered(event.Applied), func(w *latest.Worker) {
			w.Keep(latest.Hold{Group: "stale-1", Seq: 1})
			w.KeepDuty()
		}), "bond", time.Time{}, "on duty since " + text(30) + ", longer ago than AUTO_CLEANUP_HOURS, but a person has rejected that it is cleared; confirmed by AtHoc at " + text(1)},
	} {
		require.Equal(t, c.want, describe(c.worker, c.user, c.published, now, rules))
	}
}
