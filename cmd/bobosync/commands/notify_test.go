package commands

import (
	"testing"

	"github.com/stretchr/testify/require"

	"bobosync/shared/control"
	"bobosync/shared/topology"
)

func TestNotifyTest(t *testing.T) {
	r := newResponders(t)
	r.fails(1, "no such service answers", "notify", "test")

	answer := control.NotifyTest{Results: []control.NotifyResult{{Sink: "mail"}, {Sink: "teams"}}}
	var notes asked[control.JournalEntry]
	var orders asked[control.RunRequest]
	r.serve(topology.Janitor, hears(&orders, control.TestNotify, func(control.RunRequest) (control.NotifyTest, error) {
		if len(answer.Results) == 0 {
			return answer, control.Refuse("nobody is notified of anything")
		}
		return answer, nil
	}), hears(&notes, control.JournalNote, func(control.JournalEntry) (control.Nothing, error) { return control.Nothing{}, nil }))
	require.Equal(t, "mail     has taken it\nteams    has taken it\n", r.succeeds("notify", "test"))
	require.NotEmpty(t, orders.got()[0].By)

	answer.Results[1].Error = "it answers with status 404"

	r.fails(1, "teams    has NOT taken it: it answers with status 404", "notify", "test")
	r.fails(1, `"error": "it answers with status 404"`, "notify", "test", "--json")
	require.Len(t, notes.got(), 3)

	answer.Results = nil

	r.fails(1, "nobody is notified of anything", "notify", "test")
}
