package bus

import (
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// TestUnstored: only what says that the broker cannot store counts, until it does.
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
		"told to stop":          {context.Canceled, false},
	} {
		var u unstored
		u.note("bobo.entries.abc", c.err)
		require.Equal(t, c.counts, len(u.all) == 1, name)
	}
	var u unstored
	u.note("bobo.updates.1.somebody", context.DeadlineExceeded)
	first := u.all["bobo.updates.>"]
	u.note("bobo.updates.2.other", errors.New("later"))
	require.Equal(t, first.Since, u.all["bobo.updates.>"].Since, "it goes on")
	require.Equal(t, "later", u.all["bobo.updates.>"].Reason)
	u.note("bobo.updates.2.other", nil)
	require.Empty(t, u.all)
}
