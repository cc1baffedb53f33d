// Package freshness measures how fresh AtHoc is: the time up to which it is complete, and how long rows take to get
// there.
package freshness

import (
	"math"
	"slices"
	"time"
)

// Watermark returns the latest time such that every row of every file that arrived until then has its outcome: now,
// if nothing waits. waiting holds the arrival times of the files that wait; zero times do not count. Files that
// arrived after the input directory was last listed are not known yet. If that was longer ago than grace, the
// watermark is not after listed. It is never after now.
func Watermark(now, listed time.Time, grace time.Duration, waiting ...time.Time) time.Time {
	mark := now
	if now.Sub(listed) > grace {
		mark = listed
	}

	for _, arrived := range waiting {
		if !arrived.IsZero() && arrived.Before(mark) {
			mark = arrived
		}
	}

	return mark
}

// Parts divides the time from a row's arrival until AtHoc confirmed it: until its file had stopped changing, in this
// program, and waiting for AtHoc. The parts add up to the whole, and none is negative.
type Parts struct{ Settling, Us, AtHoc time.Duration }

// Total returns the whole time.
func (p Parts) Total() time.Duration { return p.Settling + p.Us + p.AtHoc }

// Split divides the time from a row's arrival until now, of which it waited for AtHoc for the time athoc. Even if
// clocks differ, no part is longer than the whole.
func Split(arrived, ready, now time.Time, athoc time.Duration) Parts {
	total := max(now.Sub(arrived), 0)
	p := Parts{AtHoc: min(max(athoc, 0), total)}
	if !ready.IsZero() {
		p.Settling = min(max(ready.Sub(arrived), 0), total-p.AtHoc)
	}

	p.Us = total - p.AtHoc - p.Settling

	return p
}

// Row is a row that AtHoc has confirmed.
type Row struct {
	Parts
	File, Name string
	Line       int
	Employee   string
	// Confirmed is when AtHoc confirmed it.
	Confirmed time.Time
}

// Window is how far back in time a Meter measures.
const Window = time.Hour

// slot is the length of the parts in which the window is kept and dropped.
const slot = time.Minute

// Meter measures the rows of the last hour. It is for one goroutine at a time.
type Meter struct{ minutes []minute }

// minute holds what is known of the rows that were confirmed within one minute.
type minute struct {
	began time.Time
	rows  int
	// unmapped counts the rows that were settled as unmapped.
	unmapped int
	// total, settling, us and athoc count rows by the bucket of their time, see bucketOf.
	total, settling, us, athoc map[int]int
	worst                      Row
}

// at returns the minute that a time lies in.
func (m *Meter) at(t time.Time) *minute {
	began := t.Truncate(slot)
	last := len(m.minutes) - 1
	if last < 0 || m.minutes[last].began.Before(began) { // if the clock was set back, use the latest minute
		m.drop(t)
		m.minutes = append(m.minutes, minute{began: began, total: map[int]int{}, settling: map[int]int{}, us: map[int]int{}, athoc: map[int]int{}})
		last = len(m.minutes) - 1
	}

	return &m.minutes[last]
}

// AddUnmapped counts rows that were settled without AtHoc, because none of its users has their employee id.
func (m *Meter) AddUnmapped(now time.Time, n int) { m.at(now).unmapped += n }

// Add counts a row.
func (m *Meter) Add(r Row) {
	at := m.at(r.Confirmed)

	at.rows++
	at.total[bucketOf(r.Total())]++
	at.settling[bucketOf(r.Settling)]++
	at.us[bucketOf(r.Us)]++
	at.athoc[bucketOf(r.AtHoc)]++
	if r.Total() >= at.worst.Total() {
		at.worst = r
	}
}

// drop drops the minutes that began before the window.
func (m *Meter) drop(now time.Time) {
	m.minutes = slices.DeleteFunc(m.minutes, func(at minute) bool { return now.Sub(at.began) > Window })
}

// Spread is how times are distributed.
type Spread struct{ P50, P95, P99, Worst time.Duration }

// Report is what a Meter has measured.
type Report struct {
	Rows int
	// Unmapped counts the rows that were settled as unmapped.
	Unmapped                   int
	Total, Settling, Us, AtHoc Spread
	// Worst is the row that took longest; zero if there are no rows.
	Worst Row
}

// Report describes the last hour. Quantiles are accurate to 5 %.
func (m *Meter) Report(now time.Time) Report {
	m.drop(now)

	total, settling, us, athoc := map[int]int{}, map[int]int{}, map[int]int{}, map[int]int{}
	var r Report
	for _, at := range m.minutes {
		r.Rows += at.rows
		r.Unmapped += at.unmapped
		merge(total, at.total)
		merge(settling, at.settling)
		merge(us, at.us)
		merge(athoc, at.athoc)

		if at.worst.Total() >= r.Worst.Total() {
			r.Worst = at.worst
		}
	}

	r.Total, r.Settling, r.Us, r.AtHoc = spread(total, r.Rows), spread(settling, r.Rows), spread(us, r.Rows), spread(athoc, r.Rows)
	r.Total = r.Total.atMost(r.Worst.Total())

	return r
}

func merge(into, from map[int]int) {
	for bucket, n := range from {
		into[bucket] += n
	}
}

func (s Spread) atMost(worst time.Duration) Spread {
	return Spread{min(s.P50, worst), min(s.P95, worst), min(s.P99, worst), worst}
}

func spread(counts map[int]int, rows int) (s Spread) {
	buckets := make([]int, 0, len(counts))
	for bucket := range counts {
		buckets = append(buckets, bucket)
	}

	slices.Sort(buckets)

	for _, q := range []struct {
		part float64
		into *time.Duration
	}{{0.5, &s.P50}, {0.95, &s.P95}, {0.99, &s.P99}, {1, &s.Worst}} {
		rank, seen := int(math.Ceil(q.part*float64(rows))), 0
		for _, bucket := range buckets {
			if seen += counts[bucket]; seen >= rank {
				*q.into = bucketTime(bucket)
				break
			}
		}
	}

	return s
}

// growth is the ratio of the times in one bucket to those in the previous one.
const growth = 1.09

// bucketOf returns the bucket of a time. Bucket 0 is for times below a millisecond.
func bucketOf(d time.Duration) int {
	if d < time.Millisecond {
		return 0
	}
	return 1 + int(math.Log(float64(d)/float64(time.Millisecond))/math.Log(growth))
}

// bucketTime returns the time that represents a bucket: its middle.
func bucketTime(bucket int) time.Duration {
	if bucket == 0 {
		return 0
	}
	return time.Duration(float64(time.Millisecond) * math.Pow(growth, float64(bucket)-0.5))
}
