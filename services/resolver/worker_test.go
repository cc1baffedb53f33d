package resolver_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

func (b *bench) worker(text string) (control.WorkerAnswer, error) {
	b.t.Helper()
	return ask[control.WorkerAnswer](b, control.WorkerShow, control.WorkerRequest{Text: text})
}

func TestAWorkerIsShown(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ready()

	first, second := booked("00001", 90, false), booked("00001", 60, true)
	b.file("a", 1, first, booked("00002", 60, true), booked("99999", 5, true))
	b.file("b", 2, second)
	b.file("a", 1, first) // read again: its events are listed once
	b.wants(map[string]bool{"one@example.org": true, "Two@example.org": true})
	b.idle()

	for _, text := range []string{"00001", " ONE@example.org "} {
		got, err := b.worker(text)
		require.NoError(t, err)
		require.Regexp(t, `^on duty since .*; on its way to AtHoc since `, got.Status)
		got.Status = ""
		latest := control.WorkerEvent{On: true, At: time.Unix(second.At, 0).UTC(), File: "b", Row: 2}
		require.Equal(t, control.WorkerAnswer{
			Employee: "00001", User: "one@example.org", Known: true, Latest: &latest,
			Sent:   &control.WorkerStatus{User: "one@example.org", On: true, At: latest.At, File: "b", Row: 2},
			Events: []control.WorkerEvent{latest, {At: time.Unix(first.At, 0).UTC(), File: "a", Row: 2}},
		}, got)
	}

	when := time.Now().Add(-time.Minute)
	b.answered(b.table()["one@example.org"], event.Applied, when)
	got, err := b.worker("00001")
	require.NoError(t, err)
	require.Contains(t, got.Status, "confirmed by AtHoc at "+when.Format(time.DateTime))
	require.Equal(t, "applied", got.Confirmed.Outcome)
	require.Equal(t, when.Unix(), got.Confirmed.Answered.Unix())

	got, err = b.worker("99999")
	require.NoError(t, err)
	require.Contains(t, got.Status, "no AtHoc user has this employee id: on duty since")

	got, err = b.worker("three@example.org")
	require.NoError(t, err)
	require.Equal(t, control.WorkerAnswer{Employee: "00003", User: "three@example.org", Status: got.Status}, got)
	require.Contains(t, got.Status, "BOBO has sent nothing")

	for text, why := range map[string]string{"": "employee id or AtHoc username", "1": "leading zeros count", "nobody@example.org": "neither"} {
		_, err = b.worker(text)
		refused(t, err, why)
	}

	b.mapping("m2", map[string]string{"00002": "Two@example.org"})
	b.idle()
	got, err = b.worker("one@example.org")
	require.NoError(t, err, "the user was somebody's until now")
	require.Equal(t, "00001", got.Employee)
	require.Contains(t, got.Status, "no AtHoc user has this employee id")
}

// TestTheNewestEventsAreShown: they are, of more events than fit into an answer.
func TestTheNewestEventsAreShown(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ready()

	var all []event.Entry
	for i := range 120 {
		all = append(all, booked("00001", 1000-i, i%2 == 0), booked("00002", 1000-i, true))
	}

	b.file("a", 1, all...)
	b.idle()
	got, err := b.worker("00001")
	require.NoError(t, err)
	require.Len(t, got.Events, 50)
	require.Equal(t, *got.Latest, got.Events[0])

	for i := range 49 {
		require.True(t, got.Events[i].At.After(got.Events[i+1].At))
	}

	require.False(t, got.Partial)
}

func TestTheMappingIsListedInParts(t *testing.T) {
	t.Parallel()
	const n = 12_000
	b := newBench(t)
	b.start()
	b.recovered("")

	users := map[string]string{}
	for i := range n {
		users[fmt.Sprintf("%06d", i)] = fmt.Sprintf("Firstname.Lastname.%06d@example.org", i)
	}

	b.mapping("m1", users)
	b.idle()

	got := map[string]string{}
	req, parts := control.MappingListRequest{}, 0
	for {
		answer, err := ask[control.MappingListAnswer](b, control.MappingList, req)
		require.NoError(t, err)
		data, err := json.Marshal(answer)
		require.NoError(t, err)
		require.Less(t, len(data), 512<<10)

		for _, p := range answer.Pairs {
			require.Greater(t, p.Employee, req.After, "in order, and none twice")
			req.After = p.Employee
			got[p.Employee] = p.User
		}

		parts++

		if answer.Next == "" {
			break
		}

		require.Equal(t, req.After, answer.Next)
	}

	require.Equal(t, users, got)
	require.Greater(t, parts, 1)

	for text, want := range map[string][]control.MappingPair{
		"lastname.004711@": {{Employee: "004711", User: users["004711"]}},
		"004711":           {{Employee: "004711", User: users["004711"]}},
		"nobody":           {},
	} {
		answer, err := ask[control.MappingListAnswer](b, control.MappingList, control.MappingListRequest{Text: text})
		require.NoError(t, err)
		require.Equal(t, control.MappingListAnswer{Pairs: want}, answer)
	}
}

// stateIs asks for the state until it is as wanted, apart from the fields that say who answers.
func (b *bench) stateIs(want control.ResolverState) {
	b.t.Helper()
	b.eventually(func() any {
		all, err := control.AskAll[control.ResolverState](b.t.Context(), b.conn.NC, topology.Resolver, control.State, control.Nothing{})
		if err != nil || len(all) != 1 {
			return fmt.Sprint(len(all), err)
		}

		all[0].Instance, all[0].Guard = control.Instance{}, nil // the guard has tests of its own
		if all[0].Recovered == all[0].Recovering.IsZero() {
			all[0].Recovering = time.Time{} // it is set only while a recovery lasts
		}

		if all[0].FreeBytes != nil && *all[0].FreeBytes > 0 {
			all[0].FreeBytes = nil
		} else if runtime.GOOS == "linux" {
			return "it says nothing of its disk"
		}

		return all[0]
	}, want)
}

func TestState(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start()
	b.stateIs(control.ResolverState{})
	b.recovered("")
	b.mapping("m1", staff)

	want := control.ResolverState{Recovered: true, Snapshot: "m1", Mapped: 3}
	b.stateIs(want)

	oldest := booked("00002", 60, false)
	b.file("a", 1, booked("00001", 10, true), oldest, booked("99999", 5, true), booked("00003", 60*30, true))
	want.Workers, want.OnDuty, want.Unmapped, want.Unconfirmed, want.Oldest = 4, 2, 1, 2, time.Unix(oldest.At, 0).UTC()
	b.stateIs(want)
	b.restart()

	want.Recovered = true
	b.stateIs(want)

	b.confirmed("one@example.org", "Two@example.org")

	want.Unconfirmed, want.Oldest = 0, time.Time{}
	b.stateIs(want)

	held := booked("00003", 3, true)
	held.Row = 2
	b.publish(topology.EntriesSubject("b"), &event.Entries{File: "b", Sequence: 2, Entries: []event.Entry{held}})
	want.OnDuty, want.Unresolved, want.Oldest = 3, 1, time.Unix(held.At, 0).UTC()
	b.stateIs(want)
	b.publish(topology.EntriesSubject("b"), &event.Entries{File: "b", Sequence: 2, Last: true})

	want.Unresolved, want.Unconfirmed = 0, 1
	b.stateIs(want)

	b.mapping("m2", map[string]string{"00001": "one@example.org"})

	want.Snapshot, want.Mapped, want.Unmapped, want.Unconfirmed, want.Oldest = "m2", 1, 3, 0, time.Time{}
	b.stateIs(want)
}

// TestATrialChangesNothing: a trial says what a file would do when it arrives, and until then nothing of the file is
// sent or known.
func TestATrialChangesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ready()
	b.file("a", 1, booked("00001", 60, true), booked("00003", 10, true))
	b.wants(map[string]bool{"one@example.org": true, "three@example.org": true})
	b.idle()

	entries := []event.Entry{booked("00001", 5, false), booked("00002", 5, true), booked("00003", 30, false), booked("99999", 5, true)}
	for range 2 {
		got, err := ask[control.TryAnswer](b, control.Try, control.TryRequest{File: "b", Entries: entries})
		require.NoError(t, err)
		require.Equal(t, map[string]int{"on": 1, "off": 1}, got.Guard.Changes)
		got.Guard = nil // TestATrialAsksTheGuard
		require.Equal(t, control.TryAnswer{On: 1, Off: 1, Beaten: 1, Unmapped: 1}, got)
	}

	got, err := b.worker("00002")
	require.NoError(t, err)
	require.False(t, got.Known)
	b.file("b", 2, entries...)
	b.wants(map[string]bool{"one@example.org": false, "Two@example.org": true, "three@example.org": true})
	var refusal *control.Refusal
	_, err = ask[control.TryAnswer](b, control.Try, control.TryRequest{Entries: make([]event.Entry, control.MaxTryEntries+1)})
	require.ErrorAs(t, err, &refusal)
}
