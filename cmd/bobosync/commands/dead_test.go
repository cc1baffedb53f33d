package commands

import (
	"testing"

	"github.com/stretchr/testify/require"

	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// TestADeadLetterGivesNoOrders: only the service that wrote it says whose it is, and it is published to no other place, as no other
// type, than its service reads.
func TestADeadLetterGivesNoOrders(t *testing.T) {
	t.Parallel()
	entries := event.Encode(&event.Entries{File: "f1", Entries: []event.Entry{{Employee: "1", Row: 1}}})
	acks := event.Encode(&event.Acks{})
	update := event.Encode(&event.Update{User: "u", Employee: "1", File: "f1"})
	letter := func(from topology.Service, subject string, payload []byte) Letter {
		return Letter{from: from, DeadLetter: event.DeadLetter{Service: "publisher", Subject: subject, Payload: payload}}
	}
	for name, l := range map[string]Letter{
		"entries":             letter(topology.Resolver, topology.EntriesSubject("f1"), entries),
		"acks to ingest":      letter(topology.Ingest, topology.SubjectAcks, acks),
		"acks to resolver":    letter(topology.Resolver, topology.SubjectAcks, acks),
		"of a later version":  letter(topology.Resolver, topology.SubjectAcks, []byte(`{"v":99}`)),
		"of a later version2": letter(topology.Ingest, topology.SubjectAcks, []byte(`{"v":99,"x":1}`)),
	} {
		subject, u, err := requeueTo(l)
		require.NoError(t, err, name)
		require.Equal(t, l.Subject, subject, name)
		require.Nil(t, u, name)
	}
	_, u, err := requeueTo(letter(topology.Publisher, topology.UpdatesSubject("u"), update))
	require.NoError(t, err)
	require.Equal(t, "u", u.User)

	for name, l := range map[string]Letter{
		"a control subject":            letter(topology.Resolver, "bobo.control.janitor.mapping-approve", acks),
		"the table of updates":         letter(topology.Resolver, topology.UpdatesSubject("u"), update),
		"an update of another service": letter(topology.Resolver, "", update),
		"the broker's API":             letter(topology.Ingest, "$JS.API.STREAM.DELETE.ENTRIES", []byte(`{"v":1}`)),
		"a mapping":                    letter(topology.Resolver, topology.SubjectMapping, acks),
		"entries of another file":      letter(topology.Resolver, topology.EntriesSubject("f2"), entries),
		"entries to ingest":            letter(topology.Ingest, topology.EntriesSubject("f1"), entries),
		"acks as entries":              letter(topology.Resolver, topology.EntriesSubject("f1"), acks),
		"entries as acks":              letter(topology.Resolver, topology.SubjectAcks, []byte("no JSON")),
		"a key of a bucket":            letter(topology.Resolver, "$KV.bobo_state.x", acks),
		"acks of the publisher":        letter(topology.Publisher, topology.SubjectAcks, acks),
		"nobody's":                     letter("", topology.SubjectAcks, acks),
		"the janitor's":                letter(topology.Janitor, topology.SubjectAcks, acks),
		"no subject":                   letter(topology.Resolver, "", acks),
	} {
		_, u, err := requeueTo(l)
		require.ErrorContains(t, err, "can only be dropped", name)
		require.Nil(t, u, name)
	}
}
