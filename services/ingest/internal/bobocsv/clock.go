package bobocsv

import (
	"math"
	"time"
)

// wallClock turns wall-clock times of one zone into Unix seconds. It knows nothing of any particular zone: what is
// repeated or left out follows from the zone's own changes of offset.
//
//   - Where clocks go back, a wall-clock time names two moments. It is taken as the first of them, and all times of the
//     repeated stretch get the same rank, the stretch's start: the clock cannot order them, so the order of reading
//     decides.
//   - Where clocks go forward, some wall-clock times name no moment. They are taken with the offset from before the
//     change, as shown by a clock that was not put forward: 01:30 becomes 02:30.
//
// A wallClock caches the latest stretches that it found. It is not safe for concurrent use.
type wallClock struct {
	zone      *time.Location
	stretches [8]stretch
	next      int
}

// stretch is a run of wall-clock times, in seconds since 1970 on that clock, that are treated alike.
type stretch struct {
	from, to int64 // wall-clock seconds, to excluded
	offset   int64 // wall clock minus UTC
	rank     int64 // Unix seconds, if ranked
	ranked   bool
}

// unix returns the Unix time at which the wall clock shows the given seconds, and the rank that orders it.
func (c *wallClock) unix(wall int64) (at, rank int64) {
	for i := range c.stretches {
		if s := &c.stretches[i]; wall >= s.from && wall < s.to {
			return s.at(wall)
		}
	}

	s := c.find(wall)
	c.stretches[c.next] = s
	c.next = (c.next + 1) % len(c.stretches)

	return s.at(wall)
}

func (s *stretch) at(wall int64) (at, rank int64) {
	at = wall - s.offset
	if s.ranked {
		return at, s.rank
	}

	return at, at
}

// period is a span of time with one offset, in Unix seconds, end excluded.
type period struct{ start, end, offset int64 }

// The ends of time, far enough from the limits of int64 that adding an offset cannot overflow.
const (
	beginning = math.MinInt64 / 4
	forever   = math.MaxInt64 / 4
)

func (c *wallClock) periodAt(unix int64) period {
	t := time.Unix(unix, 0).In(c.zone)
	start, end := t.ZoneBounds()
	_, offset := t.Zone()

	p := period{start: beginning, end: forever, offset: int64(offset)}
	if !start.IsZero() {
		p.start = start.Unix()
	}

	if !end.IsZero() {
		p.end = end.Unix()
	}

	return p
}

// find returns the stretch that a wall-clock time lies in. It examines all changes of offset within a day and a half
// of that time: no offset is larger than that.
func (c *wallClock) find(wall int64) stretch {
	const reach = 36 * 60 * 60
	before := c.periodAt(wall - reach)
	// Times near the limits of the reach are not cached as plain: changes beyond the limits were not examined.
	from, to := wall-reach/2, wall+reach/2
	plain := stretch{from: from, to: min(before.end+before.offset, to), offset: before.offset}
	for before.end <= wall+reach {
		after := c.periodAt(before.end)
		change := before.end

		back, forward := change+after.offset, change+before.offset // the wall clock after and before the change
		if back < forward {
			plain.to = min(back, to)
		}

		if wall < plain.to {
			return plain
		}

		switch {
		case wall < forward && back < forward:
			return stretch{from: back, to: forward, offset: before.offset, rank: back - before.offset, ranked: true}
		case wall >= forward && wall < back:
			return stretch{from: forward, to: back, offset: before.offset}
		}

		plain = stretch{from: max(back, forward, from), to: min(after.end+after.offset, to), offset: after.offset}
		before = after
	}

	return plain
}
