// Package freshness measures how fresh AtHoc is: up to when it is complete, and how long rows took to get there.
package freshness

import (
	"math"
	"slices"
	"time"
)

// Watermark is the latest time such that every row of every file that arrived until then has its outcome: now, if nothing waits. Waiting
// are the moments of arrival of the files that wait; zero ones do not count. What has come since the input directory was last listed
// is not known, so if that is longer ago than grace, AtHoc is not known to be complete up to a later time. It is never after now.
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

// Parts are the times that a row took from its arrival until AtHoc confirmed it: until its file had stopped changing, in this program,
// and waiting for AtHoc. They add up to the whole, and none is negative.
type Parts struct{ Settling, Us, AtHoc time.Duration }

// Total is the whole time.
func (p Parts) Total() time.Duration { return p.Settling + p.Us + p.AtHoc }

// Split divides the time from a row's arrival until now, of which AtHoc took so much. Where clocks differ, no part is
// longer than the whole.
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
	// Confirmed is when it was.
	Confirmed time.Time
}

// Window is how far back a Meter looks.
const Window = time.Hour

// slot is the part of the window that is dropped at once.
const slot = time.Minute

// Meter measures the rows of the last hour. It is for one goroutine at a time.
type Meter struct{ minutes []minute }

// minute are the rows that were confirmed within one.
type minute struct {
	began time.Time
	rows  int
	// unmapped counts the rows that were settled so.
	unmapped int
	// total, settling, us and athoc count rows by the bucket of their time.
	total, settling, us, athoc map[int]int
	worst                      Row
}

// at returns the minute of a moment.
func (m *Meter) at(t time.Time) *minute {
	began := t.Truncate(slot)
	last := len(m.minutes) - 1
	if last < 0 || m.minutes[last].began.Before(began) { // a clock that was put back counts for the latest minute
		m.drop(t)
		m.minutes = append(m.minutes, minute{began: began, total: map[int]int{}, settling: map[int]int{}, us: map[int]int{}, athoc: map[int]int{}})
		last = len(m.minutes) - 1
	}

	return &m.minutes[last]
}

// AddUnmapped counts rows that were settled without AtHoc, since no user of it has their employee id.
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

// drop drops what is older than the window.
func (m *Meter) drop(now time.Time) {
	m.minutes = slices.DeleteFunc(m.minutes, func(at minute) bool { return now.Sub(at.began) > Window })
}

// Spread is how times are distributed.
type Spread struct{ P50, P95, P99, Worst time.Duration }

// Report is what a Meter has measured.
type Report struct {
	Rows int
	// Unmapped counts rows that were settled as that.
	Unmapped                   int
	Total, Settling, Us, AtHoc Spread
	// Worst is the row that took longest; zero without rows.
	Worst Row
}

// Report describes the hour until now. Quantiles are exact to 5 %.
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

// growth is how much longer the times of one bucket are than those of the previous one.
const growth = 1.09

// bucketOf returns the bucket of a time: 0 below a millisecond.
func bucketOf(d time.Duration) int {
	if d < time.Millisecond {
		return 0
	}
	return 1 + int(math.Log(float64(d)/float64(time.Millisecond))/math.Log(growth))
}

// bucketTime is the time that stands for a bucket: the middle of it.
func bucketTime(bucket int) time.Duration {
	if bucket == 0 {
		return 0
	}
	return time.Duration(float64(time.Millisecond) * math.Pow(growth, float64(bucket)-0.5))
}
