package freshness

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var night = time.Date(2026, 6, 17, 2, 58, 0, 0, time.UTC)

func TestWatermark(t *testing.T) {
	t.Parallel()

	ago := func(d time.Duration) time.Time { return night.Add(-d) }
	for name, c := range map[string]struct {
		listed  time.Time
		waiting []time.Time
		want    time.Time
	}{
		"idle":                                 {ago(time.Second), nil, night},
		"none of the moments is known":         {ago(time.Second), []time.Time{{}, {}}, night},
		"a file waits":                         {ago(time.Second), []time.Time{ago(9 * time.Second)}, ago(9 * time.Second)},
		"the oldest counts":                    {ago(time.Second), []time.Time{{}, ago(time.Minute), ago(time.Hour)}, ago(time.Hour)},
		"a file of the future":                 {ago(time.Second), []time.Time{night.Add(time.Hour)}, night},
		"the directory does not answer":        {ago(10 * time.Minute), nil, ago(10 * time.Minute)},
		"nor does it, and an older file waits": {ago(10 * time.Minute), []time.Time{ago(time.Hour)}, ago(time.Hour)},
		"nor does it, and a newer file waits":  {ago(10 * time.Minute), []time.Time{ago(time.Minute)}, ago(10 * time.Minute)},
		"listed by a clock that was put back":  {night.Add(time.Hour), nil, night},
	} {
		require.Equal(t, c.want, Watermark(night, c.listed, 15*time.Second, c.waiting...), name)
	}
}

// TestWatermarkIsTheLatestSuchTime checks that nothing that waits arrived before the watermark, and that something
// that waits arrived before any later time.
func TestWatermarkIsTheLatestSuchTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		moments := rapid.SliceOf(rapid.Int64Range(-1e6, 1e6)).Draw(t, "seconds")
		var waiting []time.Time
		for _, s := range moments {
			waiting = append(waiting, night.Add(time.Duration(s)*time.Second))
		}

		mark := Watermark(night, night, time.Minute, waiting...)
		if mark.After(night) {
			t.Fatalf("the watermark %v lies in the future", mark)
		}

		for _, arrived := range waiting {
			if arrived.Before(mark) {
				t.Fatalf("a file waits since %v, before the watermark %v", arrived, mark)
			}
		}

		if !mark.Equal(night) && !slices.ContainsFunc(waiting, mark.Equal) {
			t.Fatalf("the watermark could be later than %v", mark)
		}
	})
}

func TestSplit(t *testing.T) {
	t.Parallel()

	at := func(s int) time.Time { return night.Add(time.Duration(s) * time.Second) }
	for name, c := range map[string]struct {
		arrived, ready, now time.Time
		athoc               time.Duration
		want                Parts
	}{
		"as it should be":             {at(0), at(1), at(4), 2 * time.Second, Parts{time.Second, time.Second, 2 * time.Second}},
		"settling is not known":       {at(0), time.Time{}, at(4), time.Second, Parts{0, 3 * time.Second, time.Second}},
		"the broker's clock is late":  {at(0), at(1), at(4), time.Hour, Parts{0, 0, 4 * time.Second}},
		"the broker's clock is early": {at(0), at(1), at(4), -time.Hour, Parts{time.Second, 3 * time.Second, 0}},
		"arrived in the future":       {at(9), at(10), at(4), time.Second, Parts{}},
		"settled in the future":       {at(0), at(9), at(4), time.Second, Parts{3 * time.Second, 0, time.Second}},
		"settled before it arrived":   {at(0), at(-9), at(4), time.Second, Parts{0, 3 * time.Second, time.Second}},
	} {
		require.Equal(t, c.want, Split(c.arrived, c.ready, c.now, c.athoc), name)
	}
}

// TestPartsAddUp checks that whatever the clocks say, no part is negative and the parts add up to the whole.
func TestPartsAddUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		second := func(name string) time.Duration {
			return time.Duration(rapid.Int64Range(-1e9, 1e9).Draw(t, name)) * time.Millisecond
		}

		now := night.Add(second("now"))
		p := Split(night, night.Add(second("ready")), now, second("athoc"))
		if p.Settling < 0 || p.Us < 0 || p.AtHoc < 0 || p.Total() != max(now.Sub(night), 0) {
			t.Fatalf("%+v of %v", p, now.Sub(night))
		}
	})
}

// TestQuantiles checks that the quantiles of a Meter are those of the rows themselves, within 5 %.
func TestQuantiles(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		times := rapid.SliceOfN(rapid.Int64Range(1, 1e8), 1, 300).Draw(t, "milliseconds")
		var m Meter
		for i, ms := range times {
			m.Add(Row{Parts: Parts{Us: time.Duration(ms) * time.Millisecond}, Line: i, Confirmed: night.Add(time.Duration(i) * time.Second)})
		}

		slices.Sort(times)

		r := m.Report(night.Add(10 * time.Minute))
		for q, got := range map[float64]time.Duration{0.5: r.Total.P50, 0.95: r.Us.P95, 0.99: r.Total.P99} {
			want := float64(times[int(math.Ceil(q*float64(len(times))))-1])
			if off := math.Abs(float64(got)/1e6-want) / want; off > 0.05 && math.Abs(float64(got)/1e6-want) > 1 {
				t.Fatalf("p%v is %v, should be %v ms", 100*q, got, want)
			}
		}

		if worst := time.Duration(times[len(times)-1]) * time.Millisecond; r.Rows != len(times) || r.Total.Worst != worst || r.Worst.Total() != worst {
			t.Fatalf("%d rows, the worst %v and %v, should be %d and %v", r.Rows, r.Total.Worst, r.Worst, len(times), worst)
		}
	})
}

func TestTheLastHourCounts(t *testing.T) {
	t.Parallel()

	var m Meter
	for i := range 180 { // one a minute, each faster than the one before
		took := time.Duration(180-i) * time.Second
		m.Add(Row{Parts: Parts{AtHoc: took}, Name: fmt.Sprint(i), Confirmed: night.Add(time.Duration(i) * time.Minute)})
	}

	end := night.Add(179 * time.Minute)
	r := m.Report(end)
	require.Equal(t, 61, r.Rows)
	require.Equal(t, 61*time.Second, r.Worst.Total())
	require.Equal(t, "119", r.Worst.Name)
	require.Zero(t, r.Us)
	require.Equal(t, Report{}, m.Report(end.Add(2*time.Hour)), "nothing has come for an hour")

	m.Add(Row{Parts: Parts{Us: time.Second}, Confirmed: end})
	m.Add(Row{Parts: Parts{Us: time.Second}, Confirmed: end.Add(-10 * time.Minute)}) // the clock was set back
	require.Equal(t, 2, m.Report(end).Rows)
}
