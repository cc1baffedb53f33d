package audit_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/e2e/audit"
)

// The tests' run: files are dropped at seconds 1 to 4, calls follow at later seconds.
var (
	begin    = time.Date(2024, 6, 17, 12, 0, 0, 0, time.UTC)
	bobo     = time.FixedZone("bobo", 3600)
	athoc    = time.FixedZone("athoc", -7*3600)
	timeout  = 2 * time.Second
	noPlaces = ",0,,,"
)

const (
	duty   = "On-Duty-DTG"
	collar = "Collar-Number"
)

func at(seconds float64) time.Time { return begin.Add(time.Duration(seconds * float64(time.Second))) }

// ago returns a moment before the run.
func ago(d time.Duration) time.Time { return begin.Add(-d) }

func row(kind, employee string, t time.Time) string {
	t = t.In(bobo)
	return kind + "," + employee + ",P," + t.Format("20060102,150405,20060102150405") + noPlaces
}

// written returns the value that AtHoc gets for a moment.
func written(t time.Time) string { return t.In(athoc).Format(sim.DateLayout) }

func file(name string, second float64, rows ...string) audit.File {
	return audit.File{Name: name, Appeared: at(second), Content: []byte(strings.Join(rows, "\n") + "\n")}
}

type sent struct{ login, value string }

// update returns a call that took 100 ms, was answered, and wrote everything.
func update(seq uint64, second float64, users ...sent) sim.Call {
	c := sim.Call{
		Run: 1, Seq: seq, Arrived: at(second).UnixNano(), Finished: at(second + 0.1).UnixNano(), Endpoint: sim.EndpointUpdate,
		Status: 200, Parameters: sim.Fields{{Name: "syncExistingUsersOnly", Value: "true"}, {Name: "AllowPartialUpdate", Value: "false"}},
	}
	for _, u := range users {
		c.Users = append(c.Users, sim.UserCall{
			LoginID: u.login, Fields: sim.Fields{{Name: duty, Value: u.value}}, Outcome: sim.OutcomeUpdated, Applied: true,
			AppliedAt: at(second + 0.05).UnixNano(),
		})
	}

	return c
}

func user(login, number, status string) audit.User {
	return audit.User{Login: login, Collar: number, Attributes: map[string]string{collar: number, duty: status, "Phone": "1"}}
}

var (
	hour1, hour2, hour3 = ago(time.Hour), ago(2 * time.Hour), ago(3 * time.Hour)
	stale               = ago(26 * time.Hour)
)

// firstFile has a header, valid rows, one of them with blanks and quotes, and a rejected row.
var firstFile = []string{
	"Transaction_Type,Employee_ID,...", row("BON", "00001", hour2), row("BOF", "00002", hour3),
	strings.Replace(row("BON", "00003", hour1), "BON,00003", `"BON" , 00003 `, 1), "BON,00001,too,few",
}

// clean returns a run in which everything went well. Files arrive out of order, with a correction at the same second,
// a copy, an unknown worker, a stale row, rejected rows, a file that is not text, and users who must not be touched.
func clean() audit.Input {
	in := audit.Input{
		Rules: audit.Rules{
			BoboZone: bobo, AtHocZone: athoc, Lifetime: 24 * time.Hour, MaxSkew: 15 * time.Minute, Duty: duty,
			Rate: 10, Burst: 1, Jitter: 50 * time.Millisecond, CallTimeout: timeout,
		},
		Users: []audit.User{
			user("ann@x", "00001", ""), user("Bob@x", "00002", written(ago(40*time.Hour))), user("cat@x", "00003", ""),
			user("dan@x", "00004", written(hour1)), user("eve@x", "00005", ""), user("fay@x", "00006", ""), user("gus@x", "00007", ""),
		},
		Files: []audit.File{
			file("a.csv", 1, firstFile...),
			file("b.csv", 2, row("BON", "00001", hour3), row("BON", "00002", hour2), row("BON", "99999", hour1), row("BON", "00003", begin.Add(48*time.Hour))),
			file("c.csv", 3, row("BOF", "00002", hour2), row("BON", "00005", stale), row("BON", "00006", hour2), row("BON", "00007", hour2)),
			file("a copy.csv", 3.5, firstFile...),
			{Name: "binary.csv", Appeared: at(4), Content: []byte{0x89, 'P', 'N', 'G', 0xff, 0}},
		},
		Started: at(0), Ended: at(20),
	}
	in.Users[5].Forbidden = true
	in.Users[6].Removed = true
	in.Calls = []sim.Call{
		update(1, 1.5, sent{"ann@x", written(hour2)}, sent{"bob@x", ""}, sent{"cat@x", written(hour1)}),
		update(2, 2.5, sent{"Bob@x", written(hour2)}),
		update(3, 3.5, sent{"Bob@x", ""}, sent{"fay@x", written(hour2)}, sent{"gus@x", written(hour2)}),
	}
	refuse(&in.Calls[2].Users[1], sim.OutcomeDenied)
	refuse(&in.Calls[2].Users[2], sim.OutcomeUnknownUser)

	in.Final = map[string]map[string]string{}
	for _, u := range in.Users {
		in.Final[u.Login] = map[string]string{collar: u.Collar, duty: u.Attributes[duty], "Phone": "1"}
	}

	delete(in.Final, "gus@x")

	in.Final["ann@x"][duty] = written(hour2)
	in.Final["Bob@x"][duty] = ""
	in.Final["cat@x"][duty] = written(hour1)
	for i, f := range in.Files {
		in.Departures = append(in.Departures, audit.Departure{File: i, Gone: at(5)})
		in.Kept = append(in.Kept, audit.Kept{Name: f.Name, Content: f.Content, Failed: i == 4})
	}

	return in
}

func refuse(u *sim.UserCall, outcome string) {
	u.Outcome, u.Applied, u.AppliedAt = outcome, false, 0
}

func TestCleanRunHasNoFindings(t *testing.T) {
	r := audit.Audit(clean())
	require.Empty(t, r.Findings)
	require.Equal(t, 12, r.Rows)
	require.Equal(t, 2, r.Rejected)
	require.Equal(t, 3, r.Updates)
	require.Equal(t, 7, r.Sent)
}

// TestWhatIsRightInSpiteOfItsLooks has runs that an auditor that is too simple would reject.
func TestWhatIsRightInSpiteOfItsLooks(t *testing.T) {
	t.Run("calls pile up while AtHoc is frozen", func(t *testing.T) {
		in := clean()
		in.Frozen = []audit.Window{{From: at(8), To: at(9)}}
		for i := range 8 {
			in.Calls = append(in.Calls, sim.Call{Run: 1, Seq: uint64(10 + i), Endpoint: sim.EndpointSearch, Arrived: at(9).UnixNano()})
		}

		require.Empty(t, audit.Audit(in).Findings)
	})
	t.Run("a row that another one stands for, whichever was read later", func(t *testing.T) {
		in := clean()
		in.Files = append(in.Files, file("d.csv", 4.2, row("BON", "00001", hour1)), file("e.csv", 4.3, row("BOF", "00002", hour3), row("BON", "00001", hour1)))
		in.Departures = append(in.Departures, audit.Departure{File: 6, Gone: at(5)}, audit.Departure{File: 5, Gone: at(7)})
		in.Kept = append(in.Kept, audit.Kept{Name: "d.csv", Content: in.Files[5].Content}, audit.Kept{Name: "e.csv", Content: in.Files[6].Content})
		in.Calls = append(in.Calls, update(9, 6, sent{"ann@x", written(hour1)}))
		in.Final["ann@x"][duty] = written(hour1)
		require.Empty(t, audit.Audit(in).Findings)
	})
	t.Run("a value that AtHoc confirmed, sent once more with no answer", func(t *testing.T) {
		in := clean()
		again := update(8, 3.8, sent{"Bob@x", ""})
		again.Status, again.Fault = 200, sim.FaultBrokenJSON
		in.Calls = append(in.Calls, again)
		in.Files = append(in.Files, file("d.csv", 4, row("BOF", "00002", hour1)))
		in.Departures = append(in.Departures, audit.Departure{File: 5, Gone: at(5)})
		in.Kept = append(in.Kept, audit.Kept{Name: "d.csv", Content: in.Files[5].Content})
		require.Empty(t, audit.Audit(in).Findings)
	})
}

// TestLate checks when a status counts as late: longer after the last fault than the rules allow. A clean run is in
// time.
func TestLate(t *testing.T) {
	t.Parallel()

	in := clean()
	in.Rules.Batch, in.Rules.Settle, in.Rules.Start, in.Calm = 4, 100*time.Millisecond, time.Second, at(4)
	require.Empty(t, audit.Audit(in).Findings)

	// 1 s start, 0.1 s settling, 2 leases of 5 s, 2 s for a probe, and 4 calls at 10 a second: 13.5 s. If nothing was
	// done to services and network: twice 0.1 s, a call of 2 s, 4 calls, and 3 s for the machine: 5.6 s.
	for _, tc := range []struct {
		start   time.Duration
		seconds float64
		late    bool
	}{{time.Second, 4 + 13.3, false}, {time.Second, 4 + 13.6, true}, {0, 4 + 5.5, false}, {0, 4 + 5.7, true}} {
		in, seconds, late := in, tc.seconds, tc.late
		in.Rules.Start = tc.start
		in.Files = append(slices.Clone(in.Files), file("d.csv", 3.9, row("BOF", "00001", hour1)))
		in.Departures = append(slices.Clone(in.Departures), audit.Departure{File: 5, Gone: at(19)})
		in.Kept = append(slices.Clone(in.Kept), audit.Kept{Name: "d.csv", Content: in.Files[5].Content})
		in.Calls = append(slices.Clone(in.Calls), update(9, seconds, sent{"ann@x", ""}))
		in.Final = maps.Clone(clean().Final)
		in.Final["ann@x"][duty] = ""

		findings := audit.Audit(in).Findings
		if !late {
			require.Empty(t, findings)
			continue
		}

		require.Len(t, findings, 1)
		require.Equal(t, audit.Late, findings[0].Kind)
	}
}

// TestWhatIsTakenAwayAgain checks that what a hostile bringer brings may be kept once, twice or not at all, that it
// is not taken for anybody else's file, and that it is set aside like any other.
func TestWhatIsTakenAwayAgain(t *testing.T) {
	t.Parallel()

	in := clean()
	kept := []audit.Kept{{Name: "x.csv", Content: []byte("x\n")}, {Name: "x (2).csv", Content: []byte("x\n")}, {Name: "y.csv", Content: []byte("y\x00"), Failed: true}}
	in.Kept = append(in.Kept, kept...)
	require.Len(t, audit.Audit(in).Findings, 3)
	in.Loose = map[string]bool{audit.FileID([]byte("x\n")): true, audit.FileID([]byte("y\x00")): true, audit.FileID([]byte("z")): true}
	require.Empty(t, audit.Audit(in).Findings)
	in.Kept[len(in.Kept)-1].Failed = false
	require.Len(t, audit.Audit(in).Findings, 1)
}

// look returns a Look at a hold with one row.
func look(in *audit.Input, second float64, file, line int) audit.Look {
	return audit.Look{Asked: at(second), Answered: at(second + 0.1), Rows: []audit.Row{{File: audit.FileID(in.Files[file].Content), Line: line}}}
}

func decision(in *audit.Input, verb audit.Verb, second float64, file, line int) audit.Decision {
	return audit.Decision{Verb: verb, Asked: at(second), Answered: at(second + 0.1), Rows: look(in, 0, file, line).Rows, Followed: true}
}

// held adds a file whose only row is held and never sent, for a user whom AtHoc shows on duty.
func held(in *audit.Input) {
	in.Files = append(in.Files, file("held.csv", 3.6, row("BOF", "00001", hour1)))
	in.Departures = append(in.Departures, audit.Departure{File: 5, Gone: at(7)})
	in.Kept = append(in.Kept, audit.Kept{Name: "held.csv", Content: in.Files[5].Content})
	in.Looks = []audit.Look{look(in, 3.8, 5, 1)}
}

// TestViolations spoils the clean run in one way at a time, and expects findings of that kind only.
func TestViolations(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*audit.Input)
		kind  audit.Kind
		text  string
	}{
		{"an older status at the end", func(in *audit.Input) { in.Final["ann@x"][duty] = written(hour3) }, audit.EndState, "should be"},
		{"a status that was never cleared", func(in *audit.Input) { in.Final["Bob@x"][duty] = written(hour2) }, audit.EndState, "should be \"\""},
		{"a user of whom no file speaks changes", func(in *audit.Input) { in.Final["dan@x"][duty] = "" }, audit.EndState, "no file speaks"},
		{"a forbidden user changes", func(in *audit.Input) { in.Final["fay@x"][duty] = written(hour2) }, audit.EndState, "cannot write"},
		{"a stale status of old is not cleared", func(in *audit.Input) {
			in.Rules.Cleans = true
			in.Users[3].Attributes[duty], in.Final["dan@x"][duty] = written(stale), written(stale)
		}, audit.EndState, "stale"},
		{"a stale booking shows", func(in *audit.Input) { in.Final["eve@x"][duty] = written(stale) }, audit.EndState, "stale"},
		{"the wrong zone", func(in *audit.Input) { in.Final["cat@x"][duty] = hour1.In(bobo).Format(sim.DateLayout) }, audit.EndState, "should be"},

		{"another attribute changed", func(in *audit.Input) { in.Final["ann@x"]["Phone"] = "2" }, audit.Touched, "Phone"},
		{"a user was created", func(in *audit.Input) { in.Final["new@x"] = map[string]string{} }, audit.Touched, "not there at the start"},
		{"a removed user came back", func(in *audit.Input) { in.Final["gus@x"] = map[string]string{duty: written(hour2)} }, audit.Touched, "removed"},
		{"a user is gone", func(in *audit.Input) { delete(in.Final, "dan@x") }, audit.Touched, "at the end: false"},
		{"another attribute is sent", func(in *audit.Input) {
			u := &in.Calls[0].Users[0]
			u.Fields = append(u.Fields, sim.Field{Name: "Phone", Value: "1"})
		}, audit.Touched, "not just the duty status"},
		{"an unknown user is sent", func(in *audit.Input) {
			in.Calls = append(in.Calls, update(4, 4, sent{"nobody@x", ""}))
		}, audit.Touched, "never had this user"},

		{"an older event after a newer one", func(in *audit.Input) {
			in.Calls = append(in.Calls, update(4, 2.9, sent{"ann@x", written(hour3)}), update(5, 3.1, sent{"ann@x", written(hour2)}))
		}, audit.WentBack, "older than what was sent before"},
		{"an off that is older", func(in *audit.Input) { // Ann's off is older than what was sent
			in.Files[2].Content = append(in.Files[2].Content, []byte(row("BOF", "00001", ago(4*time.Hour))+"\n")...)
			in.Kept[2].Content = in.Files[2].Content
			in.Calls = append(in.Calls, update(4, 4, sent{"ann@x", ""}), update(5, 4.2, sent{"ann@x", written(hour2)}))
		}, audit.WentBack, "sends \"\""},
		{"a correction at the same second undone", func(in *audit.Input) {
			in.Calls = append(in.Calls, update(4, 4, sent{"Bob@x", written(hour2)}), update(5, 4.2, sent{"Bob@x", ""}))
		}, audit.WentBack, "older"},
		{"a value of no file", func(in *audit.Input) {
			in.Calls = append(in.Calls, update(4, 0.5, sent{"ann@x", written(hour1)}))
		}, audit.Unexplained, "no event"},
		{"a value before its file", func(in *audit.Input) {
			in.Calls = append(in.Calls, update(4, 0.5, sent{"ann@x", written(hour2)}))
		}, audit.Unexplained, "no event"},
		{"an off for nothing", func(in *audit.Input) {
			in.Calls = append(in.Calls, update(4, 0.5, sent{"dan@x", ""}))
		}, audit.Unexplained, "no event"},

		{"a user in two calls", func(in *audit.Input) {
			in.Calls = append(in.Calls, update(4, 2.58, sent{"BOB@x", written(hour2)}))
		}, audit.Overlap, "before call 2"},
		{"a user in a hanging call", func(in *audit.Input) {
			in.Calls[1].Finished = at(3.6).UnixNano()
		}, audit.Overlap, "before call 2"},
		{"a user in a call that the simulator did not live to end", func(in *audit.Input) {
			in.Calls[1].Unfinished, in.Calls[1].Finished = true, 0
		}, audit.Overlap, "before call 2"},

		{"a file gone too early", func(in *audit.Input) { in.Departures[0].Gone = at(1.2) }, audit.Unconfirmed, "nothing had settled"},
		{"a file gone after a lost answer", func(in *audit.Input) {
			in.Calls[2].Fault = sim.FaultLostAnswer
			in.Calls[2].Status = 0
		}, audit.Unconfirmed, "off at"},
		{"a file gone though the user was left out", func(in *audit.Input) {
			refuse(&in.Calls[0].Users[2], sim.OutcomeNotProcessed)
			in.Calls[0].Users[2].LeftOut = true
		}, audit.Unconfirmed, "00003"},
		{"a file gone after Partial", func(in *audit.Input) {
			refuse(&in.Calls[0].Users[2], sim.OutcomePartial)
		}, audit.Unconfirmed, "00003"},
		{"a file gone on the strength of an older off", func(in *audit.Input) { in.Departures[2].Gone = at(3.4) }, audit.Unconfirmed, "off at"},

		{"a file still there", func(in *audit.Input) {
			in.Left, in.Departures, in.Kept = []string{"b.csv"}, slices.Delete(in.Departures, 1, 2), slices.Delete(in.Kept, 1, 2)
		}, audit.Stuck, "still in"},
		{"a file lost", func(in *audit.Input) { in.Kept = slices.Delete(in.Kept, 1, 2) }, audit.Unaccounted, "kept 0 times"},
		{"a copy lost", func(in *audit.Input) { in.Kept = slices.Delete(in.Kept, 3, 4) }, audit.Unaccounted, "dropped 2 times, kept 1"},
		{"a file kept twice", func(in *audit.Input) { in.Kept = append(in.Kept, in.Kept[1]) }, audit.Unaccounted, "kept 2 times"},
		{"a file changed", func(in *audit.Input) { in.Kept[1].Content = []byte("x") }, audit.Unaccounted, "never dropped"},
		{"a good file failed", func(in *audit.Input) { in.Kept[1].Failed = true }, audit.Failed, "failed: true"},
		{"a binary not failed", func(in *audit.Input) { in.Kept[4].Failed = false }, audit.Failed, "failed: false"},

		{"users could be created", func(in *audit.Input) { in.Calls[0].Parameters[0].Value = "false" }, audit.BadCall, "syncExistingUsersOnly"},
		{"a parameter is missing", func(in *audit.Input) { in.Calls[0].Parameters = in.Calls[0].Parameters[1:] }, audit.BadCall, "syncExistingUsersOnly"},
		{"a call to nowhere", func(in *audit.Input) {
			in.Calls = append(in.Calls, sim.Call{Run: 1, Seq: 9, Endpoint: sim.EndpointOther, Path: "/x", Arrived: at(7).UnixNano()})
		}, audit.BadCall, "/x"},
		{"too many calls", func(in *audit.Input) {
			for i := range 10 {
				in.Calls = append(in.Calls, sim.Call{Run: 1, Seq: uint64(10 + i), Endpoint: sim.EndpointSearch, Arrived: at(8 + 0.08*float64(i)).UnixNano()})
			}
		}, audit.Rate, "before the limit"},
		{"too many calls for the time in which AtHoc was frozen", func(in *audit.Input) {
			in.Frozen = []audit.Window{{From: at(8), To: at(9)}}
			for i := range 20 {
				in.Calls = append(in.Calls, sim.Call{Run: 1, Seq: uint64(10 + i), Endpoint: sim.EndpointSearch, Arrived: at(9).UnixNano()})
			}
		}, audit.Rate, "before the limit"},
		{"what was held is sent", func(in *audit.Input) {
			in.Looks = []audit.Look{look(in, 3.1, 2, 1)}
		}, audit.Held, "call 3"},
		{"what was approved is not all that is sent", func(in *audit.Input) {
			in.Looks = []audit.Look{look(in, 3.1, 2, 1)}
			in.Decisions = []audit.Decision{decision(in, audit.Approve, 3.2, 2, 3)}
		}, audit.Held, "nobody had let go"},
		{"what was held is sent and approved afterwards", func(in *audit.Input) {
			in.Looks = []audit.Look{look(in, 3.1, 2, 1)}
			in.Decisions = []audit.Decision{decision(in, audit.Approve, 3.6, 2, 1)}
		}, audit.Held, "off at"},
		{"what was rejected is sent", func(in *audit.Input) {
			in.Looks = []audit.Look{look(in, 3.1, 2, 1)}
			in.Decisions = []audit.Decision{decision(in, audit.Reject, 3.2, 2, 1)}
		}, audit.Held, "call 3"},
		{"what was approved is not sent", func(in *audit.Input) {
			held(in)
			in.Decisions, in.Departures = []audit.Decision{decision(in, audit.Approve, 4, 5, 1)}, in.Departures[:5]
		}, audit.EndState, "decided about"},
		{"what was requeued is not sent", func(in *audit.Input) {
			held(in)
			in.Decisions = []audit.Decision{decision(in, audit.Reject, 4, 5, 1), decision(in, audit.Requeue, 6, 5, 1)}
		}, audit.EndState, "decided about"},
		{"a row failed that nobody has rejected", func(in *audit.Input) {
			held(in)
			in.Decisions = []audit.Decision{decision(in, audit.Reject, 4, 5, 1)}
			in.Kept[1].Failed = true
		}, audit.Failed, "b.csv"},
		{"more go off duty than may", func(in *audit.Input) {
			in.Rules.Guard = audit.Guard{Window: time.Minute, MinUsers: 1}
		}, audit.Held, "1 users were sent off duty"},
		{"a call during a pause", func(in *audit.Input) {
			in.Pauses = []audit.Pause{{Window: audit.Window{From: at(3), To: at(4)}}}
		}, audit.Paused, "call 3"},
		{"a search during a pause of all calls", func(in *audit.Input) {
			in.Pauses = []audit.Pause{{Window: audit.Window{From: at(4), To: at(5)}, All: true}}
			in.Calls = append(in.Calls, sim.Call{Run: 1, Seq: 9, Endpoint: sim.EndpointSearch, Arrived: at(4.5).UnixNano()})
		}, audit.Paused, "call 9"},
		{"two rows that say the same, and neither was sent", func(in *audit.Input) {
			in.Files = append(in.Files, file("d.csv", 4.2, row("BON", "00001", hour1)), file("e.csv", 4.3, row("BOF", "00002", hour3), row("BON", "00001", hour1)))
			in.Departures = append(in.Departures, audit.Departure{File: 5, Gone: at(5)}, audit.Departure{File: 6, Gone: at(5.5)})
			in.Kept = append(in.Kept, audit.Kept{Name: "d.csv", Content: in.Files[5].Content}, audit.Kept{Name: "e.csv", Content: in.Files[6].Content})
			in.Calls = append(in.Calls, update(9, 6, sent{"ann@x", written(hour1)}))
			in.Final["ann@x"][duty] = written(hour1)
		}, audit.Unconfirmed, "e.csv"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := clean()
			tt.spoil(&in)
			found := audit.Audit(in).Findings
			require.NotEmpty(t, found)

			for _, f := range found {
				require.Equal(t, tt.kind, f.Kind, f.String())
			}

			require.Contains(t, found[0].String(), tt.text)
		})
	}
}

// TestForgiven has runs that look wrong and are not.
func TestForgiven(t *testing.T) {
	tests := []struct {
		name string
		with func(*audit.Input)
	}{
		{"a value sent again", func(in *audit.Input) {
			in.Calls = append(in.Calls, update(4, 4, sent{"ann@x", written(hour2)}), update(5, 4.2, sent{"ann@x", written(hour2)}))
		}},
		{"an older event before a newer one", func(in *audit.Input) {
			in.Files[1].Appeared = at(0.5)
			in.Calls = append(in.Calls, update(4, 1.2, sent{"ann@x", written(hour3)}))
		}},
		{"a stale status of old cleared", func(in *audit.Input) {
			in.Users[3].Attributes[duty] = written(stale)
			in.Final["dan@x"][duty] = ""
			in.Calls = append(in.Calls, update(4, 4, sent{"dan@x", ""}))
		}},
		{"a stale booking sent as off", func(in *audit.Input) { in.Calls = append(in.Calls, update(4, 4, sent{"eve@x", ""})) }},
		{"a row that asks for what AtHoc holds", func(in *audit.Input) {
			in.Files = append(in.Files, file("d.csv", 4.5, row("BOF", "00002", hour1)))
			in.Departures = append(in.Departures, audit.Departure{File: 5, Gone: at(5)})
			in.Kept = append(in.Kept, audit.Kept{Name: "d.csv", Content: in.Files[5].Content})
		}},
		{"a call that a client has given up", func(in *audit.Input) {
			in.Calls[0].Finished = at(9).UnixNano() // answered long afterwards
			in.Calls[0].ClientGone = true
			in.Calls = append(in.Calls, update(4, 4, sent{"ann@x", written(hour2)}, sent{"cat@x", written(hour1)}))
			in.Calls = slices.Delete(in.Calls, 1, 2)
			in.Calls[1].Arrived, in.Calls[1].Finished = at(3.6).UnixNano(), at(3.7).UnixNano()
		}},
		{"a user refused for a while", func(in *audit.Input) {
			refuse(&in.Calls[0].Users[2], sim.OutcomeDenied)
			in.Final["cat@x"][duty] = ""
		}},
		{"a clear of stale duty refused for a while", func(in *audit.Input) {
			in.Rules.Cleans = true
			in.Users[1].Attributes[duty] = ""
			in.Users[3].Attributes[duty], in.Final["dan@x"][duty] = written(stale), written(stale)
			in.Calls = append(in.Calls, update(4, 4, sent{"dan@x", ""}))
			refuse(&in.Calls[3].Users[0], sim.OutcomeDenied)
		}},
		{"what was held is sent once it is approved", func(in *audit.Input) {
			in.Looks = []audit.Look{look(in, 3.1, 2, 1)}
			in.Decisions = []audit.Decision{decision(in, audit.Approve, 3.2, 2, 1)}
		}},
		{"as many go off duty as may", func(in *audit.Input) {
			in.Rules.Guard = audit.Guard{Window: time.Minute, MinUsers: 2}
		}},
		{"who was approved does not count", func(in *audit.Input) {
			in.Rules.Guard = audit.Guard{Window: time.Minute, MinUsers: 1}
			in.Looks = []audit.Look{look(in, 3.1, 2, 1)}
			in.Decisions = []audit.Decision{decision(in, audit.Approve, 3.2, 2, 1)}
		}},
		{"what was rejected is sent once it is requeued", func(in *audit.Input) {
			in.Looks = []audit.Look{look(in, 3.1, 2, 1)}
			in.Decisions = []audit.Decision{decision(in, audit.Reject, 3.2, 2, 1), decision(in, audit.Requeue, 3.3, 2, 1)}
		}},
		{"what was rejected is not sent", func(in *audit.Input) {
			held(in)
			in.Decisions = []audit.Decision{decision(in, audit.Reject, 4, 5, 1)}
			in.Kept[5].Failed = true
		}},
		{"it is not known whether an order was followed", func(in *audit.Input) {
			held(in)
			in.Decisions = []audit.Decision{decision(in, audit.Reject, 4, 5, 1)}
			in.Decisions[0].Followed = false
		}},
		{"a hold that may have been forgotten", func(in *audit.Input) {
			in.Looks = []audit.Look{look(in, 3.1, 2, 1)}
			in.Forgotten = []audit.Window{{From: at(3), To: at(3.3)}}
		}},
		{"a search during a pause of updates", func(in *audit.Input) {
			in.Pauses = []audit.Pause{{Window: audit.Window{From: at(4), To: at(5)}}}
			in.Calls = append(in.Calls, sim.Call{Run: 1, Seq: 9, Endpoint: sim.EndpointSearch, Arrived: at(4.5).UnixNano()})
		}},
		{"a file gone while the mapping was lost", func(in *audit.Input) {
			in.Departures[2].Gone = at(3.2)
			in.MappingLost = []audit.Window{{From: at(3), To: at(3.3)}}
		}},
		{"calls at the limit, one of them late", func(in *audit.Input) {
			for i := range 20 {
				late := 0.0
				if i == 7 {
					late = 0.04
				}

				in.Calls = append(in.Calls, sim.Call{Run: 1, Seq: uint64(10 + i), Endpoint: sim.EndpointSearch, Arrived: at(8 + 0.1*float64(i) + late).UnixNano()})
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := clean()
			tt.with(&in)
			require.Empty(t, audit.Audit(in).Findings)
		})
	}
}

// TestRows uses the outcomes that the pipeline reports.
func TestRows(t *testing.T) {
	good := func() (audit.Input, map[int]string) {
		in := clean()
		in.Rows = map[string]map[int]string{}
		rows := []map[int]string{
			{2: "applied", 3: "superseded", 4: "applied", 5: "rejected"},
			{1: "superseded", 2: "superseded", 3: "unmapped", 4: "rejected"},
			{1: "applied", 2: "expired", 3: "forbidden_user", 4: "unknown_user"},
		}
		for i, r := range rows {
			in.Rows[audit.FileID(in.Files[i].Content)] = r
		}

		return in, rows[1]
	}
	in, _ := good()
	require.Empty(t, audit.Audit(in).Findings)

	for name, spoil := range map[string]func(map[int]string){
		"missing":      func(r map[int]string) { delete(r, 3) },
		"pending":      func(r map[int]string) { r[3] = "pending" },
		"not rejected": func(r map[int]string) { r[4] = "applied" },
		"rejected":     func(r map[int]string) { r[1] = "rejected" },
		"made up":      func(r map[int]string) { r[7] = "applied" },
	} {
		t.Run(name, func(t *testing.T) {
			in, rows := good()
			spoil(rows)

			found := audit.Audit(in).Findings
			require.Len(t, found, 1)
			require.Equal(t, audit.Unaccounted, found[0].Kind)
		})
	}
}
