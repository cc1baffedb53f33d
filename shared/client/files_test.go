package client

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/breaker"
	"bobosync/shared/control"
	"bobosync/shared/verdict"
)

// TestWhereaboutsNameWhoIsNeeded: a file that waits for a person, or cannot be moved, is not said to go on by itself.
func TestWhereaboutsNameWhoIsNeeded(t *testing.T) {
	t.Parallel()

	at := time.Date(2026, 6, 17, 3, 0, 0, 0, time.UTC)
	held := verdict.Facts{At: at, Resolver: []control.ResolverState{{Guard: &control.GuardState{
		Held: []control.HeldGroup{{ID: "off-1", Kind: "off", Users: 40, Since: at}}, Rows: map[string]int{"aa": 40},
	}}}}
	paused := verdict.Facts{At: at, Pause: &breaker.Pause{By: "ann", Reason: "ticket 4711", At: at, Until: at.Add(time.Hour)}}
	const byItself = "it goes on by itself"
	for name, c := range map[string]struct {
		file      control.FileState
		facts     verdict.Facts
		says, not string
	}{
		"held":       {control.FileState{ID: "aa", Status: "waiting", Rows: 50, Pending: 40}, held, "bobosync held list", byItself},
		"partly":     {control.FileState{ID: "aa", Status: "waiting", Rows: 50, Pending: 45}, held, "40 rows of it, which time alone does not release", "45 rows of it"},
		"not held":   {control.FileState{ID: "bb", Status: "waiting", Rows: 50, Pending: 40}, held, byItself, "bobosync held"},
		"blocked":    {control.FileState{ID: "aa", Status: "done", Blocked: &control.Problem{Reason: "operation not permitted", Since: at}}, verdict.Facts{}, "operation not permitted", byItself},
		"to be done": {control.FileState{ID: "aa", Status: "done"}, verdict.Facts{}, "still to be moved", "cannot"},
		"paused":     {control.FileState{ID: "aa", Status: "waiting", Pending: 1}, paused, "ticket 4711", byItself},
	} {
		v := verdict.Judge(c.facts, verdict.Limits{})
		v.Findings = withoutServices(v.Findings)
		got := Whereabouts(c.file, c.facts, v)
		require.Contains(t, got, c.says, name)
		require.NotContains(t, got, c.not, name)
	}
}

// withoutServices leaves out the findings that no service runs, because a table's facts contain no services.
func withoutServices(all []verdict.Finding) (left []verdict.Finding) {
	for _, f := range all {
		if f.Level != verdict.Problem {
			left = append(left, f)
		}
	}

	return left
}
