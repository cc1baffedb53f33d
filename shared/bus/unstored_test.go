package bus

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// TestUnstored: only errors that mean that the broker cannot store count, until it can.
func TestUnstored(t *testing.T) {
	t.Parallel()

	full := &jetstream.APIError{ErrorCode: codeStoreFailed, Description: "maximum bytes exceeded"}
	failed := &jetstream.APIError{ErrorCode: codeStoreFailed, Description: "no space left on device"}
	for name, c := range map[string]struct {
		err    error
		counts bool
	}{
		"stored":                {nil, false},
		"no answer":             {context.DeadlineExceeded, true},
		"the disk is full":      {classify(failed), true},
		"JetStream has no room": {classify(&jetstream.APIError{ErrorCode: codeInsufficientStorage}), true},
		"the stream is full":    {classify(full), false},
		"no stream":             {ErrNoStream, false},
		"somebody was faster":   {ErrWrongSequence, false},
		"the key is taken":      {jetstream.ErrKeyExists, false},
		"it is there already":   {&jetstream.APIError{ErrorCode: jetstreamext.JSErrCodeBatchPublishDuplicateMsgID}, false},
		"told to stop":          {context.Canceled, false},
		"cut off":               {nats.ErrDisconnected, false},
	} {
		var u unstored
		u.note(u.begin("bobo.entries.>"), c.err)
		require.Equal(t, c.counts, len(u.list(time.Now())) == 1, name)
	}
}

// TestRestored: Restored returns when trouble was last over, and only if there was any.
func TestRestored(t *testing.T) {
	t.Parallel()
	const what = "bobo.entries.>"

	ends := map[string]func(*unstored){
		"stored at once": func(u *unstored) { u.note(u.begin(what), nil) },
		"still failing":  func(u *unstored) { u.note(u.begin(what), context.DeadlineExceeded) },
		"another is stored": func(u *unstored) {
			u.note(u.begin(what), context.DeadlineExceeded)
			u.note(u.begin("bobo.acks"), nil)
		},
		"stored again": func(u *unstored) {
			u.note(u.begin(what), context.DeadlineExceeded)
			u.note(u.begin(what), nil)
		},
		"stored after long": func(u *unstored) {
			a := u.begin(what)
			a.progress = time.Now().Add(-unanswered)
			u.note(a, nil)
		},
		"reached again": func(u *unstored) { u.reconnected("") },
	}
	for name, want := range map[string]bool{
		"stored at once": false, "still failing": false, "another is stored": false, "stored again": true, "stored after long": true, "reached again": true,
	} {
		var u unstored
		ends[name](&u)
		require.Equal(t, want, !u.restored.IsZero(), name)
	}
}

// TestUnstoredForHowLong: it is reported since when nothing is stored, until something is stored, or nobody has tried
// for a while.
func TestUnstoredForHowLong(t *testing.T) {
	t.Parallel()
	const what, other = "bobo.updates.>", "bucket bobo_state"
	var u unstored
	u.note(u.begin(what), context.DeadlineExceeded)
	first := u.list(time.Now())[what]
	u.note(u.begin(other), nil)
	u.note(u.begin(what), errors.New("later"))
	require.Equal(t, map[string]Unstored{what: {Since: first.Since, Reason: "later"}}, u.list(time.Now()))
	require.Empty(t, u.list(time.Now().Add(unstoredFor)), "nobody has anything to store")
	u.note(u.begin(what), nil)
	require.Empty(t, u.list(time.Now()))

	began := u.begin(what)
	require.Empty(t, u.list(time.Now()))
	waiting := u.list(time.Now().Add(unanswered))[what]
	require.Equal(t, began.progress.UTC(), waiting.Since, "it hangs")
	u.goesOn(began)
	require.NotEqual(t, waiting.Since, u.list(time.Now().Add(unanswered))[what].Since, "a part of it was stored")
	u.note(began, nil)
	require.Empty(t, u.list(time.Now().Add(unanswered)))
}
