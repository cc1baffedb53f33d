package commands

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/control"
	"bobosync/shared/topology"
)

func TestHeldIsShownAndDecided(t *testing.T) {
	r := newResponders(t)
	now := time.Now()
	group := control.HeldGroup{ID: "off-1", Kind: "off", Since: now.Add(-time.Hour), Last: now, Users: 3, Sent: 2, Allowed: 60, Usual: 30, OnDuty: 200}
	rejected := control.HeldGroup{ID: "stale-1", Kind: "stale", Since: now, Users: 9, Decision: "rejected", By: "jo@desk", Reason: "a test"}
	set := control.HeldSet{
		HeldGroup: group, Token: "3-1-ab", OnDutyNow: 198, OnDutyAfter: 195, UsualLeast: 180, UsualMost: 210, Files: map[string]int{"f00": 2, "": 1},
	}
	workers := []control.HeldWorker{{Employee: "00001", User: "a@b", File: "f00", Row: 2}, {Employee: "00002", User: "c@d", File: "f00", Row: 3}, {User: "e@f"}}
	var decisions, requeues asked[control.HeldDecision]
	var notes asked[control.JournalEntry]

	r.serve(topology.Resolver,
		says(control.Held, control.HeldAnswer{
			GuardState: control.GuardState{Mode: "hold", Holding: true, Held: []control.HeldGroup{group}}, OnDuty: 198, Decided: []control.HeldGroup{rejected},
		}),
		hears(&asked[control.HeldRequest]{}, control.HeldShow, func(req control.HeldRequest) (control.HeldSet, error) {
			part := set // the workers are in two parts
			part.Workers = workers[:2]
			if part.Next = 2; req.After > 0 {
				part.Workers, part.Next = workers[2:], 0
			}

			return part, nil
		}),
		hears(&decisions, control.HeldDecide, func(d control.HeldDecision) (control.HeldResult, error) {
			if d.Token == "old" {
				return control.HeldResult{}, control.Refuse("2 more came and 0 left since you looked")
			}
			return control.HeldResult{ID: d.ID, Users: 3 - len(d.Except), Rest: "off-1-rest"}, nil
		}),
		hears(&requeues, control.HeldRequeue, func(d control.HeldDecision) (control.HeldResult, error) {
			return control.HeldResult{ID: d.ID, Users: 9, Superseded: 1}, nil
		}))
	r.serve(topology.Ingest, says(control.FindFile, []control.FoundFile{{ID: "f00", Name: "monday.csv"}}))
	r.serve(topology.Janitor, hears(&notes, control.JournalNote, func(control.JournalEntry) (control.Nothing, error) { return control.Nothing{}, nil }))

	for _, args := range [][]string{{"held"}, {"held", "list"}} {
		out := r.succeeds(args...)
		require.Contains(t, out, "The guard holds what is not usual. 198 users are on duty")
		require.Regexp(t, `off-1 .* 3 +go off duty +WAITS`, out)
		require.Regexp(t, `stale-1 .* 9 +are cleared for their age +rejected +jo@desk +a test`, out)
	}

	require.Contains(t, r.succeeds("held", "list", "--json"), `"mode": "hold"`)

	out := r.succeeds("held", "show", "off-1")
	for _, says := range []string{"198 now, 195 after an approval; usually 180 to 210", "2 from monday.csv", "1 users whom no known worker", "--token 3-1-ab", "00002", "e@f"} {
		require.Contains(t, out, says)
	}

	var shown control.HeldSet
	require.NoError(t, json.Unmarshal([]byte(r.succeeds("held", "show", "off-1", "--json")), &shown))
	require.Len(t, shown.Workers, 3)

	out = r.succeeds("held", "approve", "off-1", "--reason", "an exercise", "--except", "00001")
	require.Contains(t, out, "198 now, 195 after", "the forecast comes first")
	require.Contains(t, out, "off-1 is approved: 2 users")
	require.Contains(t, out, "in off-1-rest")

	got := decisions.got()[0]
	require.True(t, got.Approve)
	require.Equal(t, []any{"3-1-ab", []string{"00001"}, "an exercise"}, []any{got.Token, got.Except, got.Reason})
	require.NotEmpty(t, got.By)
	require.Contains(t, r.succeeds("held", "reject", "off-1", "--reason", "a test", "--token", "3-1-ab"), "off-1 is rejected: 3 users")
	require.False(t, decisions.got()[1].Approve)
	r.fails(1, "2 more came", "held", "approve", "off-1", "--reason", "an exercise", "--token", "old")
	r.fails(2, "required flag", "held", "approve", "off-1")
	r.fails(2, "unknown command", "held", "of-1")

	require.Contains(t, r.succeeds("held", "requeue", "stale-1", "--reason", "it was right"), "of 1 a newer event has won")
	require.Len(t, requeues.got(), 1)
	require.Len(t, notes.got(), 3, "what was done is noted")
	require.Contains(t, notes.got()[0].Text, "off-1 approved: an exercise")
}
