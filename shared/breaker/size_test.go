package breaker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const callTimeout = 30 * time.Second

// TestSizeAfterAnAnswer is the table of how answered calls change the size of the next ones.
func TestSizeAfterAnAnswer(t *testing.T) {
	t.Parallel()

	hold := start.Add(time.Second)
	for name, c := range map[string]struct {
		before       Size
		users, batch int
		took         time.Duration
		want         int
	}{
		"the first call, of a fast AtHoc":     {Size{}, 100, 1000, 50 * time.Millisecond, 1000},
		"the first call, of a slow AtHoc":     {Size{}, 100, 1000, 5 * time.Second, 300},
		"the first call, almost too slow":     {Size{}, 100, 1000, 27 * time.Second, 55},
		"a first small call shows nothing":    {Size{}, 5, 1000, 50 * time.Millisecond, 0},
		"small batches are all there is":      {Size{}, 5, 50, 50 * time.Millisecond, 50},
		"full and swift":                      {Size{Most: 100}, 100, 1000, time.Second, 200},
		"not more than BATCH_SIZE":            {Size{Most: 800}, 800, 1000, time.Second, 1000},
		"a small call is no proof for more":   {Size{Most: 100}, 10, 1000, time.Second, 100},
		"full and steady":                     {Size{Most: 100}, 100, 1000, 12 * time.Second, 110},
		"slow":                                {Size{Most: 100}, 100, 1000, 27 * time.Second, 55},
		"slow, at BATCH_SIZE":                 {Size{Most: 1000}, 1000, 1000, 27 * time.Second, 555},
		"few users, slow for another reason":  {Size{Most: 25}, 25, 1000, 29 * time.Second, 25},
		"not so soon after one was too large": {Size{Most: 10, Hold: firstHold, GrowAt: hold}, 10, 1000, time.Second, 10},
		"one at a time, and growing":          {Size{Most: 1}, 1, 1000, time.Second, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, c.before.Answered(c.users, c.batch, c.took, callTimeout, start).Most)
		})
	}
}

// TestABurstOfTooLargeIsOver: calls shrink to one user during a burst of refusals, and are back at BATCH_SIZE half a
// minute later.
func TestABurstOfTooLargeIsOver(t *testing.T) {
	t.Parallel()

	const batch = 1000
	z, now := Size{Most: batch}, start
	for range 10 {
		z = z.TooLarge(z.Limit(batch), batch, 2, now)
		now = now.Add(200 * time.Millisecond)
	}

	require.Equal(t, 1, z.Limit(batch))

	over := now
	for z.Limit(batch) < batch {
		z = z.Answered(z.Limit(batch), batch, 50*time.Millisecond, callTimeout, now)
		now = now.Add(500 * time.Millisecond)
		require.Less(t, now.Sub(over), 30*time.Second)
	}

	require.Zero(t, z.Hold, "the next burst is as new")
}

// TestALimitOfAtHocsIsTriedEverMoreRarely: this AtHoc never takes more than 30 users.
func TestALimitOfAtHocsIsTriedEverMoreRarely(t *testing.T) {
	t.Parallel()

	const batch, takes = 1000, 30
	z, now, refused := Size{Most: batch}, start, 0
	for range 7200 {
		if users := z.Limit(batch); users > takes {
			z = z.TooLarge(users, batch, 2, now)
			refused++
		} else {
			z = z.Answered(users, batch, 50*time.Millisecond, callTimeout, now)
		}

		now = now.Add(500 * time.Millisecond)
	}

	require.LessOrEqual(t, refused, 25, "in an hour")
	require.Greater(t, z.Limit(batch), takes/4)
}

// TestASlowAtHocIsDoneInTime: this AtHoc takes 40 ms for each user, so a call of BATCH_SIZE cannot end within the call
// timeout.
func TestASlowAtHocIsDoneInTime(t *testing.T) {
	t.Parallel()

	const batch, timeout, perUser, rows = 300, 6 * time.Second, 40 * time.Millisecond, 600
	for name, z := range map[string]Size{"nothing is known": {}, "it was fast": {Most: batch}} {
		var took time.Duration
		for left := rows; left > 0; {
			users := min(left, z.Limit(batch))
			call := time.Duration(users) * perUser
			if call > timeout {
				took += timeout + 3*time.Second
				z = z.TooLarge(users, batch, 4, start.Add(took))
				continue
			}

			took, left = took+call, left-users
			z = z.Answered(users, batch, call, timeout, start.Add(took))
		}

		require.LessOrEqual(t, took, rows*perUser*3/2, name)
	}
}

func TestPutOffUsersComeBackEverMoreRarely(t *testing.T) {
	t.Parallel()
	var s State
	_, known := s.PutOff.Of("joe")
	require.False(t, known)

	now := start
	for _, want := range []time.Duration{2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600} {
		s.PutOff = s.PutOff.With("joe", "500", now)
		p, known := s.PutOff.Of("joe")
		require.True(t, known)
		require.Equal(t, want*time.Second, p.Until.Sub(now))
		require.Equal(t, start, p.Since)
		now = p.Until
	}

	s.PutOff = s.PutOff.With("jane", "500", now)
	s = s.Answered(Update{Users: 1, Batch: 1, Settled: []string{"joe"}}, callTimeout, now)
	require.Len(t, s.PutOff, 1)
	require.Equal(t, "jane", s.PutOff[0].User)

	for range 2 * putOffUsers {
		s.PutOff = s.PutOff.With(now.String(), "500", now)
		now = now.Add(time.Second)
	}

	require.Len(t, s.PutOff, putOffUsers)
}
