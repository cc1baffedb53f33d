package commands

import (
	"testing"

	"github.com/stretchr/testify/require"

	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// TestAnEmptyTextIsNoChoice: a variable of a script that is not set must not widen what is ordered or asked.
func TestAnEmptyTextIsNoChoice(t *testing.T) {
	r := newResponders(t)
	var decided asked[control.HeldDecision]
	r.serve(topology.Resolver, says(control.HeldShow, control.HeldSet{HeldGroup: control.HeldGroup{ID: "off-1", Users: 40}, Token: "those-of-now"}),
		hears(&decided, control.HeldDecide, func(control.HeldDecision) (control.HeldResult, error) {
			return control.HeldResult{ID: "off-1", Users: 40}, nil
		}))
	for says, args := range map[string][]string{
		"--token is empty":    {"held", "approve", "off-1", "--reason", "shown", "--token", ""},
		"--except is empty":   {"held", "approve", "off-1", "--reason", "shown", "--except", ""},
		"--except has an":     {"held", "reject", "off-1", "--reason", "shown", "--except", "12345,"},
		"--file is empty":     {"dead", "drop", "--reason", "not valid", "--file="},
		"--reason is empty":   {"dead", "drop", "--reason", "", "--all"},
		"--worker is empty":   {"replay", "--worker", ""},
		"--at is empty":       {"onduty", "--at", ""},
		"--env is empty":      {"mapping", "refresh", "--env", ""},
		"argument 1 is empty": {"files", "show", ""},
		"argument 2 is empty": {"dead", "drop", "17", ""},
	} {
		r.fails(2, says, args...)
	}
	require.Empty(t, decided.got())
	r.succeedsLoudly("held", "approve", "off-1", "--reason", "shown")
	require.Len(t, decided.got(), 1)
}
