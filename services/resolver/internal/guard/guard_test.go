package guard

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"bobosync/shared/event"
)

func london(t require.TestingT) *time.Location {
	zone, err := time.LoadLocation("Europe/London")
	require.NoError(t, err)
	return zone
}

func rules(t require.TestingT) Rules {
	return Rules{Mode: Hold, Window: 15 * time.Minute, MinUsers: 20, OffPercent: 30, Factor: 2, Zone: london(t)}
}

func TestContradictionsAreRefusedByName(t *testing.T) {
	t.Parallel()
	require.NoError(t, rules(t).Validate())

	for name, spoil := range map[string]func(*Rules){
		"GUARD:":             func(r *Rules) { r.Mode = "maybe" },
		"GUARD_ON:":          func(r *Rules) { r.Mode, r.HoldOn = Observe, true },
		"GUARD=off":          func(r *Rules) { r.Mode, r.HoldOn = Never, true },
		"GUARD_WINDOW:":      func(r *Rules) { r.Window = 2 * time.Hour },
		"GUARD_MIN_USERS:":   func(r *Rules) { r.MinUsers = 0 },
		"GUARD_OFF_PERCENT:": func(r *Rules) { r.OffPercent = 100 },
		"GUARD_FACTOR:":      func(r *Rules) { r.Factor = 0.5 },
	} {
		r := rules(t)
		spoil(&r)
		require.ErrorContains(t, r.Validate(), name)
	}
}

// TestJudge: it is noon on a Wednesday, and the hours of the previous weeks say what usually goes off.
func TestJudge(t *testing.T) {
	t.Parallel()

	r := rules(t)
	now := time.Date(2026, 6, 17, 12, 0, 0, 0, r.Zone)
	usual := func(at time.Time, off int) *History {
		return &History{Since: now.AddDate(0, 0, -42), Hours: map[string]Hour{r.HourKey(at): {Off: off}}}
	}
	sent := func(ago time.Duration, n int) *History {
		return &History{Recent: []Recent{{At: now.Add(-ago).Unix(), Kind: Off, N: n}}}
	}
	for name, c := range map[string]struct {
		history *History
		onDuty  int
		changes Counts
		trips   []Kind
	}{
		"fewer than always may":              {&History{}, 30, Counts{Off: 19}, nil},
		"as many as may not":                 {&History{}, 30, Counts{Off: 20}, []Kind{Off}},
		"no more than the percentage":        {&History{}, 100, Counts{Off: 30}, nil},
		"more than the percentage":           {&History{}, 100, Counts{Off: 31}, []Kind{Off}},
		"twice the usual":                    {usual(now.AddDate(0, 0, -7), 50), 100, Counts{Off: 100}, nil},
		"more than twice the usual":          {usual(now.AddDate(0, 0, -7), 50), 200, Counts{Off: 101}, []Kind{Off}},
		"usual an hour earlier":              {usual(now.AddDate(0, 0, -14).Add(-time.Hour), 50), 100, Counts{Off: 100}, nil},
		"usual an hour later, six weeks ago": {usual(now.AddDate(0, 0, -42).Add(time.Hour), 50), 100, Counts{Off: 100}, nil},
		"usual two hours later":              {usual(now.AddDate(0, 0, -7).Add(2*time.Hour), 50), 100, Counts{Off: 100}, []Kind{Off}},
		"usual seven weeks ago":              {usual(now.AddDate(0, 0, -49), 50), 100, Counts{Off: 100}, []Kind{Off}},
		"usual on another day":               {usual(now.AddDate(0, 0, -8), 50), 100, Counts{Off: 100}, []Kind{Off}},
		"with what was let go before":        {sent(14*time.Minute, 20), 80, Counts{Off: 11}, []Kind{Off}},
		"what was let go is out of time":     {sent(16*time.Minute, 20), 80, Counts{Off: 11}, nil},
		"clearing is counted by itself":      {usual(now.AddDate(0, 0, -7), 50), 100, Counts{Stale: 31}, []Kind{Stale}},
		"who goes on duty":                   {&History{}, 100, Counts{On: 31, Off: 1}, []Kind{On}},
		"nothing":                            {&History{}, 0, Counts{}, nil},
	} {
		var got []Kind
		for _, trip := range r.Judge(c.history, now, c.onDuty, c.changes) {
			require.Equal(t, trip.Kind != On, trip.Hold, name)
			got = append(got, trip.Kind)
		}

		require.Equal(t, c.trips, got, name)
	}
}

func TestWhatTheModesDo(t *testing.T) {
	t.Parallel()

	now := time.Date(2026, 6, 17, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		mode         Mode
		history      time.Duration
		hold, report bool
	}{
		"hold": {Hold, 0, true, true}, "observe": {Observe, 0, false, true},
		"auto at first": {Auto, time.Hour, false, false}, "auto after a week": {Auto, 8 * 24 * time.Hour, false, true},
		"auto after two weeks": {Auto, 14 * 24 * time.Hour, true, true},
	} {
		r := rules(t)
		r.Mode = c.mode
		trips := r.Judge(&History{Since: now.Add(-c.history)}, now, 100, Counts{Off: 50})
		require.Len(t, trips, 1, name)
		require.Equal(t, []bool{c.hold, c.report}, []bool{trips[0].Hold, trips[0].Report}, name)
	}

	r := rules(t)
	r.Mode = Never
	require.Empty(t, r.Judge(&History{}, now, 100, Counts{Off: 100}))
}

// TestHoursAreThoseOfTheWall: a shift that ends at 6 ends at 6 before and after each change of the clocks.
func TestHoursAreThoseOfTheWall(t *testing.T) {
	t.Parallel()

	r := rules(t)
	for _, change := range []time.Time{
		time.Date(2026, 3, 29, 6, 0, 0, 0, r.Zone), time.Date(2026, 10, 25, 6, 0, 0, 0, r.Zone),
	} {
		before := change.AddDate(0, 0, -7)
		require.NotEqual(t, 7*24*time.Hour, change.Sub(before), "the clock was changed in between")
		h := &History{Hours: map[string]Hour{r.HourKey(before): {Off: 60}}}
		require.Equal(t, 60, r.Usual(h, change, Off))
	}

	repeated := time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC) // 01:30 for the first time
	require.Equal(t, r.HourKey(repeated), r.HourKey(repeated.Add(time.Hour)))
}

// TestNoMoreGoesThanIsAllowed: whatever changes arrive in whatever order, within any window no more are let through
// than the largest limit allows; and as long as there are no more, nobody is held.
func TestNoMoreGoesThanIsAllowed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := rules(t)
		r.MinUsers = rapid.IntRange(1, 30).Draw(t, "min")
		r.OffPercent = rapid.IntRange(0, 99).Draw(t, "percent")
		now := time.Date(2026, 6, 17, 12, 0, 0, 0, r.Zone)

		onDuty := rapid.IntRange(0, 500).Draw(t, "on duty")
		usual := rapid.IntRange(0, 100).Draw(t, "usual")
		h := &History{Hours: map[string]Hour{r.HourKey(now.AddDate(0, 0, -7)): {Off: usual}}}
		allowed := max(r.MinUsers-1, onDuty*r.OffPercent/100, 2*usual)
		gone, arrived := 0, 0
		for range rapid.IntRange(1, 20).Draw(t, "batches") {
			now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "seconds")) * time.Second) // 800 s are within the window

			n := min(rapid.IntRange(1, 60).Draw(t, "users"), onDuty-gone)
			if n <= 0 {
				break
			}

			arrived += n
			held := map[Kind]string{}
			if trips := r.Judge(h, now, onDuty-gone, Counts{Off: n}); len(trips) > 0 {
				held[Off] = "a hold"
			} else {
				gone += n
			}

			if gone > allowed {
				t.Fatalf("%d are gone, %d are allowed", gone, allowed)
			}

			if arrived <= allowed && len(held) > 0 {
				t.Fatalf("held although %d of %d have come", arrived, allowed)
			}

			recent, key, hour := r.Count(h, now, onDuty-gone, Counts{Off: n}, held)
			h.Recent = recent

			h.Hours[key] = hour
			if hour.Off != gone {
				t.Fatalf("counted %d, gone are %d", hour.Off, gone)
			}
		}
	})
}

func TestADecisionTeaches(t *testing.T) {
	t.Parallel()
	r := rules(t)
	now := time.Date(2026, 6, 17, 12, 0, 0, 0, r.Zone)
	g := &Group{ID: "off-1", Kind: Off, Since: now}
	h := &History{Recent: []Recent{{At: now.Unix(), Kind: Off, N: 90, Group: "off-1"}, {At: now.Unix(), Kind: Off, N: 5}}}
	recent, key, hour := r.Decide(h, g, 90, true)
	require.Equal(t, []Recent{{At: now.Unix(), Kind: Off, N: 5}}, recent, "they hold nobody else any more")
	require.Equal(t, Hour{Off: 90}, hour, "what was approved was usual")
	require.Equal(t, r.HourKey(now), key)
	_, _, hour = r.Decide(h, g, 90, false)
	require.Zero(t, hour, "what was rejected was not")
}

// TestTokensNameExactlyTheShown: the order does not matter, and members who come or leave are counted.
func TestTokensNameExactlyTheShown(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var all []Member
		for i := range rapid.IntRange(1, 30).Draw(t, "members") {
			all = append(all, Member{Employee: string(rune('a' + i)), Version: event.Version{Rank: int64(i)}, Seq: rapid.IntRange(1, 3).Draw(t, "seq")})
		}

		token := Token(all)
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })

		came, left, ok := Since(token, all)
		if came+left > 0 || !ok {
			t.Fatal("the same set in another order is another one")
		}

		wantLeft := rapid.IntRange(0, len(all)).Draw(t, "left")

		wantCame := rapid.IntRange(0, 5).Draw(t, "came")

		now := append([]Member{}, all[wantLeft:]...)
		for i := range wantCame {
			now = append(now, Member{Employee: string(rune('A' + i)), Seq: 4})
		}

		if came, left, _ = Since(token, now); came != wantCame || left != wantLeft {
			t.Fatalf("%d came and %d left, not %d and %d", came, left, wantCame, wantLeft)
		}

		all[0].Version.Rank++
		if _, _, ok = Since(token, all); ok {
			t.Fatal("another event of the same worker is the same")
		}
	})

	_, _, ok := Since("nonsense", nil)
	require.False(t, ok)
}

// TestASplitHoldKeepsTheRowsOfThoseWhoHadLeft: only the rows of the excepted members go. No row is in both holds, and
// none is in neither.
func TestASplitHoldKeepsTheRowsOfThoseWhoHadLeft(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		files := []string{"a", "b", "c"}
		g, rest := &Group{Rows: map[string]event.RowSet{}}, &Group{Rows: map[string]event.RowSet{}}
		for _, file := range files {
			for _, row := range rapid.SliceOfN(rapid.IntRange(2, 30), 0, 20).Draw(t, "rows") {
				g.AddRow(file, row)

				if rapid.Bool().Draw(t, "excepted") {
					rest.AddRow(file, row)
				}
			}
		}

		left := g.Clone()
		left.TakeOut(rest)

		for _, file := range files {
			rows, known := left.Rows[file]
			require.Equal(t, known, rows.Len() > 0, "a file without rows is not in it")

			for row := range 32 {
				require.Equal(t, g.Has(file, row) && !rest.Has(file, row), left.Has(file, row))
			}
		}
	})
}
