package breaker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/breaker"
	"bobosync/shared/bustest"
)

// TestWhatAPauseStops: updates until its end, reads only if the pause is for all calls, and nothing for ever.
func TestWhatAPauseStops(t *testing.T) {
	t.Parallel()

	noon := time.Date(2026, 6, 17, 12, 0, 0, 0, time.UTC)
	hour := &breaker.Pause{At: noon, Until: noon.Add(time.Hour)}
	all := &breaker.Pause{At: noon, Until: noon.Add(time.Hour), All: true}
	for name, c := range map[string]struct {
		pause          *breaker.Pause
		at             time.Time
		updates, reads bool
	}{
		"none":                    {nil, noon, false, false},
		"in force":                {hour, noon.Add(time.Minute), true, false},
		"for all":                 {all, noon.Add(time.Minute), true, true},
		"at its end":              {all, noon.Add(time.Hour), false, false},
		"resumed":                 {&breaker.Pause{At: noon, Until: noon.Add(time.Hour), All: true, Resumed: noon.Add(time.Second)}, noon.Add(time.Minute), false, false},
		"the longest":             {&breaker.Pause{At: noon, Until: noon.Add(24 * time.Hour)}, noon, true, false},
		"farther away than any":   {all, noon.Add(-48 * time.Hour), false, false},
		"written by a wrong hand": {&breaker.Pause{At: noon, Until: noon.Add(900 * time.Hour), All: true}, noon, false, false},
	} {
		require.Equal(t, c.updates, c.pause.Stops(true, c.at), "%s: updates", name)
		require.Equal(t, c.reads, c.pause.Stops(false, c.at), "%s: reads", name)
	}
}

// caller opens a breaker for updates or for reads.
func caller(t *testing.T, kv jetstream.KeyValue, updates bool, log *slog.Logger) *breaker.Breaker {
	t.Helper()
	b, err := breaker.New(t.Context(), kv, breaker.Limits{Rate: 1000, CallTimeout: time.Second, Updates: updates}, log)
	require.NoError(t, err)
	return b
}

// TestAPauseHoldsForAllCallers: it holds at once for all callers at one broker, even for one that starts later, until
// somebody resumes.
func TestAPauseHoldsForAllCallers(t *testing.T) {
	t.Parallel()
	kv := bucket(t)
	a, b, reader := caller(t, kv, true, bustest.Logger()), caller(t, kv, true, bustest.Logger()), caller(t, kv, false, bustest.Logger())
	ended, err := a.Pauses().Resume(t.Context(), "jo")
	require.NoError(t, err)
	require.Nil(t, ended, "there is nothing to resume")
	ordered, err := a.Pauses().Order(t.Context(), breaker.Pause{By: "jo", Reason: "upgrade"}, 48*time.Hour)
	require.NoError(t, err)
	require.Equal(t, breaker.LongestPause, ordered.Until.Sub(ordered.At), "never for longer")

	for _, one := range []*breaker.Breaker{a, b, caller(t, kv, true, bustest.Logger())} {
		_, clear, err := one.Clear(t.Context())
		require.NoError(t, err)
		require.False(t, clear)
	}

	_, err = reader.Wait(t.Context())
	require.NoError(t, err, "reads go on")
	_, err = a.Pauses().Order(t.Context(), breaker.Pause{By: "jo", Reason: "upgrade", All: true}, time.Hour)
	require.NoError(t, err)
	_, clear, err := reader.Clear(t.Context())
	require.NoError(t, err)
	require.False(t, clear, "unless it is for all")

	waited := make(chan error, 1)
	go func() {
		_, err := b.Wait(t.Context())
		waited <- err
	}()

	ended, err = a.Pauses().Resume(t.Context(), "al")
	require.NoError(t, err)
	require.Equal(t, "jo", ended.By)
	require.Equal(t, "al", ended.ResumedBy)
	require.NoError(t, <-waited)
}

// TestAPauseEndsByItself: a waiting caller is let through when the pause ends and not before.
func TestAPauseEndsByItself(t *testing.T) {
	t.Parallel()
	kv := bucket(t)
	b := caller(t, kv, true, bustest.Logger())
	p, err := b.Pauses().Order(t.Context(), breaker.Pause{By: "jo", Reason: "upgrade"}, 1500*time.Millisecond)
	require.NoError(t, err)
	_, err = b.Wait(t.Context())
	require.NoError(t, err)
	require.False(t, b.Now().Before(p.Until))
}

// TestAnOlderProgramLeavesThePause: a program that does not know of pauses writes back the state that it has read, as
// it understands it.
func TestAnOlderProgramLeavesThePause(t *testing.T) {
	t.Parallel()
	kv := bucket(t)
	b := caller(t, kv, true, bustest.Logger())
	_, err := b.Pauses().Order(t.Context(), breaker.Pause{By: "jo", Reason: "upgrade"}, time.Hour)
	require.NoError(t, err)

	entry, err := kv.Get(t.Context(), breaker.Key)
	require.NoError(t, err)
	var old struct {
		Next time.Time `json:"next"`
	}
	require.NoError(t, json.Unmarshal(entry.Value(), &old))
	value, err := json.Marshal(old)
	require.NoError(t, err)
	_, err = kv.Update(t.Context(), breaker.Key, value, entry.Revision())
	require.NoError(t, err)
	_, clear, err := b.Clear(t.Context())
	require.NoError(t, err)
	require.False(t, clear)
}

// TestALostPauseIsNoneAndSaidLoudly: a lost pause is reported once, by whoever remembers it, across sessions; a pause
// that has ended is not.
func TestALostPauseIsNoneAndSaidLoudly(t *testing.T) {
	t.Parallel()
	kv := bucket(t)
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	var memory breaker.PauseHistory
	b := caller(t, kv, true, logger)
	require.NoError(t, b.Pauses().Track(t.Context(), &memory))

	lose := func() {
		require.NoError(t, kv.Purge(t.Context(), breaker.PauseKey))
	}

	const lost = "has lost an operator's pause"

	_, err := b.Pauses().Order(t.Context(), breaker.Pause{By: "jo", Reason: "upgrade"}, time.Hour)
	require.NoError(t, err)
	_, err = b.Pauses().Resume(t.Context(), "jo")
	require.NoError(t, err)
	lose()

	_, err = b.Wait(t.Context())
	require.NoError(t, err)
	require.NotContains(t, log.String(), lost)

	_, err = b.Pauses().Order(t.Context(), breaker.Pause{By: "jo", Reason: "upgrade"}, time.Hour)
	require.NoError(t, err)
	require.Nil(t, memory.Lost(b.Now()))
	lose()

	next := caller(t, kv, true, logger)
	require.NoError(t, next.Pauses().Track(t.Context(), &memory))
	_, err = next.Wait(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, bytes.Count(log.Bytes(), []byte(lost)), log.String())
	require.Equal(t, "upgrade", memory.Lost(next.Now()).Reason)

	_, err = next.Pauses().Order(t.Context(), breaker.Pause{By: "jo", Reason: "again"}, time.Hour)
	require.NoError(t, err)
	require.Nil(t, memory.Lost(next.Now()), "it was ordered anew")

	_, err = kv.PutString(t.Context(), breaker.PauseKey, "nonsense")
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	_, err = next.Wait(ctx)
	require.NoError(t, err, "what cannot be read counts as lost")
	require.Equal(t, 2, bytes.Count(log.Bytes(), []byte(lost)))
}
