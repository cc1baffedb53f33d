package commands

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/breaker"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

func TestPauseAndResume(t *testing.T) {
	r := newResponders(t)
	now := time.Now()
	paused := breaker.Pause{By: "jo@desk", Reason: "upgrade", At: now, Until: now.Add(time.Hour)}

	r.fails(1, "no such service answers", "pause", "--for", "1h", "--reason", "upgrade")
	var orders asked[control.PauseRequest]
	var notes asked[control.JournalEntry]
	var answer control.ResumeAnswer
	r.serve(topology.Publisher, hears(&orders, control.Pause, func(req control.PauseRequest) (breaker.Pause, error) {
		if req.Seconds > 86400 {
			return breaker.Pause{}, control.Refuse("a pause has an end")
		}
		return paused, nil
	}), hears(&asked[control.RunRequest]{}, control.Resume, func(control.RunRequest) (control.ResumeAnswer, error) { return answer, nil }))
	r.serve(topology.Janitor, hears(&notes, control.JournalNote, func(control.JournalEntry) (control.Nothing, error) { return control.Nothing{}, nil }))
	r.serve(topology.Resolver, states(control.ResolverState{Unresolved: 30, Unconfirmed: 7}))

	out := r.succeeds("pause", "--for", "1h", "--reason", "upgrade")
	require.Contains(t, out, "PAUSED until ")
	require.Contains(t, out, "37 workers wait.")
	var told struct {
		breaker.Pause
		Waiting int
	}
	require.NoError(t, json.Unmarshal([]byte(r.succeeds("pause", "--for", "90m", "--reason", "upgrade", "--all", "--json")), &told))
	require.Equal(t, 37, told.Waiting)
	require.Equal(t, "upgrade", told.Reason)
	r.fails(1, "a pause has an end", "pause", "--for", "25h", "--reason", "upgrade")
	r.fails(2, "required flag", "pause", "--reason", "upgrade")
	r.fails(2, "required flag", "pause", "--for", "1h")
	require.Equal(t, 5400, orders.got()[1].Seconds)
	require.True(t, orders.got()[1].All)
	require.NotEmpty(t, orders.got()[0].By)

	require.Contains(t, r.succeeds("resume"), "nothing is changed")
	require.Len(t, notes.got(), 2, "only what was done is noted")

	answer.Ended = &paused
	answer.Ended.Resumed = now.Add(12 * time.Minute)

	require.Contains(t, r.succeeds("resume"), "by jo@desk has ended after 12 min")
	require.Contains(t, notes.got()[2].Text, "resumed")
	require.Contains(t, r.succeeds("resume", "--json"), `"by": "jo@desk"`)
}

// TestAPauseShows checks that status reads the pause from the broker even if no publisher is alive, and that a replay
// reports that it waits.
func TestAPauseShows(t *testing.T) {
	r := newResponders(t)
	stop := r.allWell()
	kv, err := r.conn.JS.KeyValue(t.Context(), topology.BucketState)
	require.NoError(t, err)

	now := time.Now()
	p := breaker.Pause{By: "jo@desk", Reason: "upgrade", At: now, Until: now.Add(time.Hour)}
	value, err := json.Marshal(p)
	require.NoError(t, err)
	_, err = kv.Put(t.Context(), breaker.PauseKey, value)
	require.NoError(t, err)
	r.until(func(t require.TestingT) {
		level, causes, facts := r.told(t, 1)
		require.Equal(t, "warning", level)
		require.Equal(t, []string{"paused"}, causes)
		require.Equal(t, "jo@desk", facts.Pause.By)
	})
	require.Contains(t, r.fails(1, "WARNING: PAUSED until", "status"), "by jo@desk")
	stop()

	_, causes, _ := r.told(t, 2)
	require.Contains(t, causes, "paused")

	r.serve(topology.Resolver, says(control.Replay, control.ReplayState{ID: "1", Users: 9, What: "everyone"}))
	r.serve(topology.Publisher, says(control.Sending, control.SendingState{BatchSize: 10, RateLimit: 1, Pause: &p}))
	require.Contains(t, r.succeeds("replay", "--all", "--dry-run"), "nothing of it is sent before that ends")
}
