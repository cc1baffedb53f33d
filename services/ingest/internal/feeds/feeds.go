// Package feeds knows how much a feed brings at each hour of the week, and detects when it brings unusually little or
// much.
package feeds

import (
	"maps"
	"math"
	"slices"
	"time"
)

const (
	// such is how many hours of the same kind an hour is compared with. lookBack is how many weeks are searched for
	// them: more than such, because some hours are missing where the clocks change.
	such, lookBack = 6, 9
	// learnt is for how long a feed must be known to be judged by its own history, and fewest how many hours of a
	// kind that takes.
	learnt, fewest = 21 * 24 * time.Hour, 3
	// A feed is silent if no file arrived for longer than silentTimes the usual longest gap, and longer than
	// minSilence.
	silentTimes, minSilence = 3, 15 * time.Minute
	// An hour is thin if it brought less than 1/thinPart of the least that such hours brought, and a flood if it
	// brought more than floodTimes the most.
	thinPart, floodTimes = 3, 5
	// late is how long after its end an hour counts as complete: files that arrived in its last minute have been read
	// by then.
	late = 2 * time.Minute
)

// Hour is what arrived within an hour of the wall clock.
type Hour struct {
	Rows, Files int
	// Gap is the longest time without a file that was reached within the hour. It may have begun before the hour.
	Gap time.Duration
}

// History is what a feed has brought. It is for one goroutine at a time.
type History struct {
	Zone *time.Location
	// Since is when the first file that is known arrived, Last when the latest one did.
	Since, Last time.Time
	// Hours maps the start of each hour, in Unix seconds, to what arrived in it.
	Hours map[int64]Hour
}

// New returns an empty history whose hours are those of the wall clock in a zone.
func New(zone *time.Location) *History { return &History{Zone: zone, Hours: map[int64]Hour{}} }

// Begin returns the start of the hour that a time lies in.
func (h *History) Begin(t time.Time) time.Time {
	t = t.In(h.Zone)
	return t.Add(-time.Duration(t.Minute())*time.Minute - time.Duration(t.Second())*time.Second - time.Duration(t.Nanosecond()))
}

// Add counts a file with new content that arrived at a time, and its number of good rows.
func (h *History) Add(at time.Time, rows int) {
	h.fill(at)

	if h.Since.IsZero() || at.Before(h.Since) {
		h.Since = at
	}

	if at.After(h.Last) {
		h.Last = at
	}

	begin := h.Begin(at).Unix()
	hour := h.Hours[begin]
	hour.Rows += rows
	hour.Files++
	h.Hours[begin] = hour
}

// keptHours is the number of past hours that may be needed. Twice as many are kept, so that a clock that was ahead
// for a while does not push them out.
const keptHours = (lookBack*7 + 1) * 24

// fill notes the gap since the last file in each hour that the gap reaches into. It drops old hours if there are too
// many.
func (h *History) fill(now time.Time) {
	oldest := now.Add(-keptHours * time.Hour)
	if _, known := h.Hours[h.Begin(now).Unix()]; !known && len(h.Hours) > 2*keptHours {
		maps.DeleteFunc(h.Hours, func(begin int64, _ Hour) bool { return begin < oldest.Unix() })
	}

	if h.Last.IsZero() {
		return
	}

	from := h.Last
	if from.Before(oldest) {
		from = oldest
	}

	for begin := h.Begin(from); begin.Before(now); begin = h.Begin(begin.Add(time.Hour)) {
		end := begin.Add(time.Hour)
		if now.Before(end) {
			end = now
		}

		hour := h.Hours[begin.Unix()]
		hour.Gap = max(hour.Gap, end.Sub(h.Last))
		h.Hours[begin.Unix()] = hour
	}
}

// Correct drops what was recorded for the future by a clock that was ahead: otherwise a feed with such a file would
// never count as silent.
func (h *History) Correct(now time.Time) {
	if !h.Last.After(now) {
		return
	}

	h.Last = now
	if h.Since.After(now) {
		h.Since = now
	}

	maps.DeleteFunc(h.Hours, func(begin int64, _ Hour) bool { return begin > now.Unix() })
}

// Merge merges another history of the same feed into h. It keeps the larger numbers of each hour, the earlier Since
// and the later Last.
func (h *History) Merge(other *History) {
	for begin, theirs := range other.Hours {
		ours := h.Hours[begin]
		h.Hours[begin] = Hour{max(ours.Rows, theirs.Rows), max(ours.Files, theirs.Files), max(ours.Gap, theirs.Gap)}
	}

	if h.Since.IsZero() || !other.Since.IsZero() && other.Since.Before(h.Since) {
		h.Since = other.Since
	}

	if other.Last.After(h.Last) {
		h.Last = other.Last
	}
}

// Usual is what hours of the same kind have brought.
type Usual struct {
	// Begin is the hour that is compared with them, and Hours how many there are.
	Begin       time.Time
	Hours       int
	Least, Most int
	// Gap is the 99th percentile of their longest gaps.
	Gap time.Duration
}

// usual returns what the hours of the same weekday and wall-clock hour brought in the weeks before, without hours
// that are not known completely.
func (h *History) usual(begin time.Time) Usual {
	u := Usual{Begin: begin}
	var gaps []time.Duration
	for week := 1; week <= lookBack; week++ {
		for _, same := range sameHour(begin, week) {
			hour, known := h.Hours[same.Unix()]
			if !known || u.Hours == such || same.Before(h.Since) {
				continue
			}

			if u.Hours == 0 || hour.Rows < u.Least {
				u.Least = hour.Rows
			}

			u.Most = max(u.Most, hour.Rows)
			u.Hours++

			gaps = append(gaps, hour.Gap)
		}
	}

	slices.Sort(gaps)

	if n := len(gaps); n > 0 {
		u.Gap = gaps[int(math.Ceil(0.99*float64(n)))-1]
	}

	return u
}

// sameHour returns the hours with the same weekday and wall-clock hour some weeks before: usually one, none where
// spring leaves the hour out, and two where autumn repeats it.
func sameHour(begin time.Time, weeks int) (same []time.Time) {
	year, month, day := begin.Date()
	first := time.Date(year, month, day-7*weeks, begin.Hour(), 0, 0, 0, begin.Location())
	for _, t := range []time.Time{first.Add(-time.Hour), first, first.Add(time.Hour)} {
		if t.Hour() == begin.Hour() && t.Weekday() == begin.Weekday() && t.Minute() == 0 {
			same = append(same, t)
		}
	}

	return same
}

// State is how a feed is doing.
type State struct {
	// Learnt reports whether the history is long enough to judge the feed by. If not, the feed is neither silent nor
	// thin nor a flood. A feed that has brought nothing for weeks is not judged any more either, since the hours to
	// compare with run out.
	Learnt bool
	// Now is the current hour so far, Usual what is usual for it.
	Now   Hour
	Usual Usual
	// Silent reports that no file arrived for an unusually long time.
	Silent bool
	// Thin and Flood are hours that brought unusually few and unusually many rows, with what is usual for them.
	Thin, Flood *Unusual
}

// Unusual is an hour that brought unusually few or many rows.
type Unusual struct {
	Usual
	Rows int
}

// Judge returns how the feed is doing. waits reports that files of it lie unread: then it does bring some, whatever
// was counted.
func (h *History) Judge(now time.Time, waits bool) State {
	if h.Last.After(now) { // the clock was set back since
		h.Last = now
	}

	begin := h.Begin(now)

	s := State{Now: h.Hours[begin.Unix()], Usual: h.usual(begin)}
	s.Learnt = !h.Since.IsZero() && now.Sub(h.Since) >= learnt && s.Usual.Hours >= fewest
	if !s.Learnt {
		return s
	}

	s.Silent = !waits && now.Sub(h.Last) > max(silentTimes*s.Usual.Gap, minSilence)
	before := h.Begin(h.Begin(now.Add(-late)).Add(-time.Minute)) // the latest complete hour

	usual, rows := h.usual(before), h.Hours[before.Unix()].Rows
	if usual.Hours == such && !waits && !s.Silent && thinPart*rows < usual.Least {
		s.Thin = &Unusual{usual, rows}
	}

	switch {
	case s.Usual.Hours == such && s.Usual.Most > 0 && s.Now.Rows > floodTimes*s.Usual.Most:
		s.Flood = &Unusual{s.Usual, s.Now.Rows}
	case usual.Hours == such && usual.Most > 0 && rows > floodTimes*usual.Most:
		s.Flood = &Unusual{usual, rows}
	}

	return s
}
