package dead

import (
	"testing"

	"github.com/stretchr/testify/require"

	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// TestADeadLetterGivesNoOrders checks that only the service that wrote a letter decides where it belongs, and that it
// is published only to a subject, and as a type, that its service reads.
func TestADeadLetterGivesNoOrders(t *testing.T) {
	t.Parallel()

	entries := event.Encode(&event.Entries{File: "f1", Entries: []event.Entry{{Employee: "1", Row: 1}}})
	acks := event.Encode(&event.Acks{})
	update := event.Encode(&event.Update{User: "u", Employee: "1", File: "f1"})

	written := func(from topology.Service, subject string, payload []byte) letter {
		return letter{from: from, DeadLetter: event.DeadLetter{Service: "publisher", Subject: subject, Payload: payload}}
	}
	for name, l := range map[string]letter{
		"entries":             written(topology.Resolver, topology.EntriesSubject("f1"), entries),
		"acks to ingest":      written(topology.Ingest, topology.SubjectAcks, acks),
		"acks to resolver":    written(topology.Resolver, topology.SubjectAcks, acks),
		"of a later version":  written(topology.Resolver, topology.SubjectAcks, []byte(`{"v":99}`)),
		"of a later version2": written(topology.Ingest, topology.SubjectAcks, []byte(`{"v":99,"x":1}`)),
	} {
		subject, u, err := requeueTo(l)
		require.NoError(t, err, name)
		require.Equal(t, l.Subject, subject, name)
		require.Nil(t, u, name)
	}

	_, u, err := requeueTo(written(topology.Publisher, topology.UpdatesSubject("u"), update))
	require.NoError(t, err)
	require.Equal(t, "u", u.User)

	for name, l := range map[string]letter{
		"a control subject":            written(topology.Resolver, "bobo.control.janitor.mapping-approve", acks),
		"the table of updates":         written(topology.Resolver, topology.UpdatesSubject("u"), update),
		"an update of another service": written(topology.Resolver, "", update),
		"the broker's API":             written(topology.Ingest, "$JS.API.STREAM.DELETE.ENTRIES", []byte(`{"v":1}`)),
		"a mapping":                    written(topology.Resolver, topology.SubjectMapping, acks),
		"entries of another file":      written(topology.Resolver, topology.EntriesSubject("f2"), entries),
		"entries to ingest":            written(topology.Ingest, topology.EntriesSubject("f1"), entries),
		"acks as entries":              written(topology.Resolver, topology.EntriesSubject("f1"), acks),
		"entries as acks":              written(topology.Resolver, topology.SubjectAcks, []byte("no JSON")),
		"a key of a bucket":            written(topology.Resolver, "$KV.bobo_state.x", acks),
		"acks of the publisher":        written(topology.Publisher, topology.SubjectAcks, acks),
		"nobody's":                     written("", topology.SubjectAcks, acks),
		"the janitor's":                written(topology.Janitor, topology.SubjectAcks, acks),
		"no subject":                   written(topology.Resolver, "", acks),
	} {
		_, u, err := requeueTo(l)
		require.ErrorContains(t, err, "can only be dropped", name)
		require.Nil(t, u, name)
	}
}
