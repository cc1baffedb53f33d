package commands

import (
	"bytes"
	"errors"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// TestAnEmptyTextIsNoChoice checks that an unset variable of a script does not widen what is ordered or requested.
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

// full is a writer that cannot write anything, like a file on a full disk.
type full struct{}

// Write implements [io.Writer].
func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// TestAnAnswerThatCannotBeWrittenIsAFailure checks that a command fails whose report is empty or cut short.
func TestAnAnswerThatCannotBeWrittenIsAFailure(t *testing.T) {
	r := newResponders(t)
	r.serve(topology.Ingest, says(control.Files, control.FilesAnswer{Files: []control.FileState{{ID: fileA, Name: "monday.csv", Status: "moved"}}}),
		says(control.FileRows, control.RowsAnswer{}), says(control.Bookings, control.BookingsAnswer{}))
	r.serve(topology.Resolver, says(control.Replays, []control.ReplayState{}), says(control.MappingList, control.MappingListAnswer{}),
		says(control.WorkerShow, control.WorkerAnswer{Employee: "1"}), says(control.WorkerPast, control.PastAnswer{}), says(control.EraseShow, control.EraseForecast{}))
	r.serve(topology.Janitor, says(control.Journal, control.JournalAnswer{}), says(control.MappingShow, control.MappingReport{}), says(control.ReconcileReport, control.ReconcileAnswer{}))

	for _, args := range [][]string{
		{"files", "list"}, {"files", "show", "monday.csv"}, {"journal"}, {"journal", "--kind", "replay"}, {"audit", "list"}, {"audit", "verify"}, {"mapping", "show"},
		{"mapping", "list"}, {"mapping", "approve"}, {"worker", "1"}, {"worker", "1", "--at", "1h"}, {"worker", "1", "--bookings"}, {"reconcile", "--last"},
		{"erase", "1", "--reason", "asked"},
	} {
		var said bytes.Buffer
		root := Root(func(*string) []*cobra.Command { return nil })
		root.SetArgs(args)
		root.SetOut(full{})
		root.SetErr(&said)
		require.Equal(t, exitFailed, Execute(t.Context(), root), args)
		require.Contains(t, said.String(), "no space left on device", args)
	}
}
