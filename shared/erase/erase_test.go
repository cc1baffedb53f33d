package erase_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"bobosync/shared/erase"
	"bobosync/shared/event"
)

var bond = erase.Names{Employee: "0007", Users: []string{"J.Bond", "müller"}}

func TestWhoIsNamed(t *testing.T) {
	t.Parallel()

	letter := func(payload string) string {
		return string(event.Encode(&event.DeadLetter{Service: "publisher", Payload: []byte(payload)}))
	}
	for _, c := range []struct {
		data          string
		in, mentioned bool
	}{
		{`{"emp":"0007"}`, true, true},
		{`{"user":"j.bond"}`, true, true},
		{`{"user":"M\u00dcLLER"}`, true, true},
		{`{"0007":1}`, true, true},
		{`{"row":7,"at":10007,"n":"00070","call":"0193-10007"}`, false, false},
		{`{"emp":"007"}`, false, false},
		{`{"why":"asked by worker 0007."}`, false, true},
		{`{"why":"\"0007\""}`, false, true},
		{`{"why":"10007 and 0007x, then 0007"}`, false, true},
		{`not JSON, of j.bond`, true, true},
		{`not JSON, of j.bonds`, false, false},
		{letter(`{"user":"x","emp":"0007"}`), true, true},
		{letter(`{"user":"x","emp":"0008"}`), false, false},
		{letter(`{"emp":"0007`), true, true},
		{``, false, false},
	} {
		require.Equal(t, c.in, bond.In([]byte(c.data)), c.data)
		require.Equal(t, c.mentioned, bond.MentionedIn([]byte(c.data)), c.data)
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()

	got, err := bond.Redact(json.RawMessage(`{"worker":"0007","n":12345678901234567,"list":["a","for J.BOND"],"by":{"0007":"x"}}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"worker":"(erased)","n":12345678901234567,"list":["a","(erased)"],"by":{"(erased)":"x"}}`, string(got))
	require.False(t, bond.MentionedIn(got))
	got, err = bond.Redact(nil)
	require.NoError(t, err)
	require.Empty(t, got)

	_, err = bond.Redact(json.RawMessage(`{`))
	require.Error(t, err)
}

// TestAMomentNamesNobody: an employee id of two or four digits occurs in many timestamps, and whoever reads the message
// expects a timestamp there.
func TestAMomentNamesNobody(t *testing.T) {
	t.Parallel()

	for _, employee := range []string{"2026", "30", "11"} {
		n := erase.Names{Employee: employee}
		data := `{"at":"2026-07-30T12:11:30Z","local":"2026-07-30T12:11:30.5+11:30"}`
		require.False(t, n.MentionedIn([]byte(data)), employee)
		got, err := n.Redact(json.RawMessage(data))
		require.NoError(t, err)
		require.JSONEq(t, data, string(got))
		require.True(t, n.MentionedIn([]byte(`{"why":"`+employee+` asked"}`)), employee)
	}
}
