package bobocsv

import (
	"testing"
	"time"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()

	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatalf("load zone: %v", err)
	}

	return z
}

const wallLayout = "2006-01-02 15:04:05"

func wallOf(t testing.TB, text string) int64 {
	t.Helper()

	w, err := time.Parse(wallLayout, text)
	if err != nil {
		t.Fatal(err)
	}

	return w.Unix()
}

func TestWallClock(t *testing.T) {
	t.Parallel()

	tests := []struct {
		zone, wall string
		at, rank   string // UTC; rank is empty where it equals at
	}{
		{"UTC", "2024-06-17 14:30:00", "2024-06-17 14:30:00", ""},
		{"Europe/London", "2024-06-17 14:30:00", "2024-06-17 13:30:00", ""},
		{"Europe/London", "2024-12-17 14:30:00", "2024-12-17 14:30:00", ""},
		// Autumn: 02:00 BST becomes 01:00 GMT, so 01:00 to 02:00 happens twice.
		{"Europe/London", "2024-10-27 00:59:59", "2024-10-26 23:59:59", ""},
		{"Europe/London", "2024-10-27 01:00:00", "2024-10-27 00:00:00", ""},
		{"Europe/London", "2024-10-27 01:00:01", "2024-10-27 00:00:01", "2024-10-27 00:00:00"},
		{"Europe/London", "2024-10-27 01:59:59", "2024-10-27 00:59:59", "2024-10-27 00:00:00"},
		{"Europe/London", "2024-10-27 02:00:00", "2024-10-27 02:00:00", ""},
		// Spring: 01:00 GMT becomes 02:00 BST. The times in between are taken with the offset from before the change.
		{"Europe/London", "2024-03-31 00:59:59", "2024-03-31 00:59:59", ""},
		{"Europe/London", "2024-03-31 01:00:00", "2024-03-31 01:00:00", ""},
		{"Europe/London", "2024-03-31 01:30:00", "2024-03-31 01:30:00", ""},
		{"Europe/London", "2024-03-31 02:00:00", "2024-03-31 01:00:00", ""},
		// Lord Howe moves by half an hour only: 02:00 at +11 becomes 01:30 at +10:30.
		{"Australia/Lord_Howe", "2024-04-07 01:29:59", "2024-04-06 14:29:59", ""},
		{"Australia/Lord_Howe", "2024-04-07 01:45:00", "2024-04-06 14:45:00", "2024-04-06 14:30:00"},
		{"Australia/Lord_Howe", "2024-04-07 02:00:00", "2024-04-06 15:30:00", ""},
		{"Australia/Lord_Howe", "2024-10-06 02:15:00", "2024-10-05 15:45:00", ""},
		{"Australia/Lord_Howe", "2024-10-06 02:30:00", "2024-10-05 15:30:00", ""},
		// St John's is at -3:30, in summer at -2:30.
		{"America/St_Johns", "2024-07-01 12:00:00", "2024-07-01 14:30:00", ""},
		{"America/St_Johns", "2024-11-03 01:20:00", "2024-11-03 03:50:00", "2024-11-03 03:30:00"},
		{"America/St_Johns", "2024-11-03 02:00:00", "2024-11-03 05:30:00", ""},
		{"America/St_Johns", "2024-03-10 02:30:00", "2024-03-10 06:00:00", ""},
		// The rule at the end of the zone file, which holds beyond its table of changes.
		{"Europe/London", "2060-10-31 01:30:00", "2060-10-31 00:30:00", "2060-10-31 00:00:00"},
	}
	clocks := map[string]*wallClock{} // shared, so that what was cached for one case is used in the next
	for _, tt := range tests {
		t.Run(tt.zone+" "+tt.wall, func(t *testing.T) {
			c := clocks[tt.zone]
			if c == nil {
				c = &wallClock{zone: zone(t, tt.zone)}
				clocks[tt.zone] = c
			}

			at, rank := c.unix(wallOf(t, tt.wall))
			wantAt := wallOf(t, tt.at)
			wantRank := wantAt
			if tt.rank != "" {
				wantRank = wallOf(t, tt.rank)
			}

			if at != wantAt || rank != wantRank {
				t.Errorf("at %s rank %s, want %s and %s", time.Unix(at, 0).UTC(), time.Unix(rank, 0).UTC(),
					time.Unix(wantAt, 0).UTC(), time.Unix(wantRank, 0).UTC())
			}
		})
	}
}

// TestWallClockAgainstTime compares every quarter of an hour of some years with package time, which knows the zones:
// the wall-clock time of a moment must give that moment again, or an earlier one with the same wall-clock time and a
// rank of its own.
func TestWallClockAgainstTime(t *testing.T) {
	t.Parallel()

	zones := []string{"UTC", "Europe/London", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia", "Africa/Casablanca"}
	for _, name := range zones {
		t.Run(name, func(t *testing.T) {
			z := zone(t, name)
			c := &wallClock{zone: z}
			last := int64(0)
			for u := time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC).Unix(); u < time.Date(2014, 1, 1, 0, 0, 0, 0, time.UTC).Unix(); u += 900 {
				moment := time.Unix(u, 0).In(z)
				_, offset := moment.Zone()
				at, rank := c.unix(u + int64(offset))
				if at != u && !repeats(z, u, at) {
					t.Fatalf("%s came out as %s", moment, time.Unix(at, 0).In(z))
				}

				if rank > u || rank < last && at == u {
					t.Fatalf("%s has rank %s, the moment before has %s", moment, time.Unix(rank, 0), time.Unix(last, 0))
				}

				last = rank
			}
		})
	}
}

// repeats reports whether at is an earlier moment with u's wall-clock time.
func repeats(z *time.Location, u, at int64) bool {
	return at < u && time.Unix(at, 0).In(z).Format(wallLayout) == time.Unix(u, 0).In(z).Format(wallLayout)
}
