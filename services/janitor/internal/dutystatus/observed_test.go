package dutystatus

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/services/janitor/internal/users"
	"bobosync/shared/athoc"
	"bobosync/shared/control"
)

func TestReadingOfADutyStatus(t *testing.T) {
	t.Parallel()

	zone := london(t)
	at := func(text string) int64 {
		m, err := time.Parse(time.RFC3339, text)
		require.NoError(t, err)
		return m.Unix()
	}
	for text, want := range map[string]control.ObservedUser{
		"":                    {},
		"  ":                  {},
		"on duty":             {Odd: true},
		"2024-06-17 14:30:00": {Odd: true},
		"17/06/2024 14:30:00": {On: true, At: at("2024-06-17T14:30:00+01:00")},
		"27/10/2024 00:59:59": {On: true, At: at("2024-10-27T00:59:59+01:00")},
		"27/10/2024 01:30:00": {On: true, At: at("2024-10-27T01:30:00+01:00"), At2: at("2024-10-27T01:30:00Z")},
		"27/10/2024 02:00:00": {On: true, At: at("2024-10-27T02:00:00Z")},
		"31/03/2024 01:30:00": {On: true, At: at("2024-03-31T01:30:00Z")}, // there is no such time
	} {
		assert.Equal(t, want, reading(text, zone), text)
	}
}

func TestObservedStaleAndRequests(t *testing.T) {
	t.Parallel()

	noon := time.Date(2024, 6, 17, 12, 0, 0, 0, time.UTC)
	text := func(m time.Time) string { return athoc.FormatTime(m, time.UTC) }
	person := func(user, value string, asked time.Time) users.Person {
		return users.Person{Username: user, Value: value, Asked: asked}
	}
	all := observe([]users.Person{
		person("old", text(noon.Add(-25*time.Hour)), noon),
		person("twice", text(noon), noon.Add(-time.Minute)),
		person("limit", text(noon.Add(-24*time.Hour)), noon),
		person("odd", "soon", noon),
		person("off", "", noon),
		person("TWICE", text(noon.Add(-30*time.Hour)), noon.Add(time.Minute)),
		person("", text(noon.Add(-30*time.Hour)), noon),
	}, time.UTC)
	require.Len(t, all, 5)
	assert.Equal(t, "TWICE", all[1].User, "what came last counts")
	old, odd := stale(all, noon.Add(-24*time.Hour))
	assert.Equal(t, 1, odd)
	require.Len(t, old, 2, "older, not as old")
	assert.Equal(t, []string{"old", "TWICE"}, []string{old[0].User, old[1].User})

	// In the hour that is repeated in autumn, the later of the two moments decides.
	both := observe([]users.Person{person("a", "27/10/2024 01:30:00", noon)}, london(t))
	second := time.Date(2024, 10, 27, 1, 30, 0, 0, time.UTC)
	old, _ = stale(both, second)
	assert.Empty(t, old)
	old, _ = stale(both, second.Add(time.Second))
	assert.Len(t, old, 1)

	// Each request has the earliest moment of its users.
	var many []observed
	for i := range control.MaxObserved + 1 {
		many = append(many, observed{
			ObservedUser: control.ObservedUser{User: fmt.Sprint(i)}, asked: noon.Add(-time.Duration(i%7) * time.Minute),
		})
	}

	got := requests(many, control.Expire, true)
	require.Len(t, got, 2)
	assert.Len(t, got[0].Users, control.MaxObserved)
	assert.Equal(t, noon.Add(-6*time.Minute), got[0].Seen)
	assert.Equal(t, many[control.MaxObserved].asked, got[1].Seen)
	assert.True(t, got[0].Apply)
	assert.Empty(t, requests(nil, control.Expire, true))

	// Longer names make requests with fewer users.
	long := strings.Repeat("ä", users.MaxText/2)
	for i := range many {
		many[i].User = long
	}

	sum := 0
	for _, req := range requests(many, control.Compare, false) {
		sum += len(req.Users)
		assert.LessOrEqual(t, len(req.Users)*len(long), requestBytes)
	}

	assert.Equal(t, len(many), sum)
}

func london(t testing.TB) *time.Location {
	t.Helper()

	zone, err := time.LoadLocation("Europe/London")
	require.NoError(t, err)

	return zone
}
