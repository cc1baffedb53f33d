package athoc

import (
	"errors"
	"strings"
	"time"
)

// TimeLayout is how AtHoc writes a date-and-time attribute: wall-clock time, to the second, with no zone.
const TimeLayout = "02/01/2006 15:04:05"

// FormatTime writes t as AtHoc's wall clock in loc shows it. The zero time is "", which clears an attribute. Fractions
// of a second are dropped. In the hour that is repeated in autumn, two instants have the same text; AtHoc cannot tell
// them apart.
func FormatTime(t time.Time, loc *time.Location) string {
	if t.IsZero() {
		return ""
	}
	return t.In(loc).Format(TimeLayout)
}

// ParseTime reads a value that AtHoc holds, as its wall clock in loc. An empty value is the zero time. A time in the
// hour that is repeated in autumn can mean two instants; ParseTime returns the earlier one, so that a conclusion drawn
// from the value never supersedes a newer event. A time in the hour that spring skips is read with the offset from
// before the change.
func ParseTime(value string, loc *time.Location) (time.Time, error) {
	value = strings.TrimSpace(value)
	if value == "" {
		return time.Time{}, nil
	}

	wall, err := time.Parse(TimeLayout, value)
	if err != nil {
		// The value is not quoted: a misnamed attribute can hold anything.
		return time.Time{}, errors.New("reading an AtHoc date and time: it is not in the format dd/MM/yyyy HH:mm:ss")
	}

	// wall is off by the zone's offset, at most 14 hours. So a day earlier and a day later are certainly before and
	// after a change of the clocks near it; no zone changes them twice within two days.
	text := wall.Format(TimeLayout)
	_, before := wall.Add(-24 * time.Hour).In(loc).Zone()
	_, after := wall.Add(24 * time.Hour).In(loc).Zone()
	first := wall.Add(-time.Duration(max(before, after)) * time.Second).In(loc)
	second := wall.Add(-time.Duration(min(before, after)) * time.Second).In(loc)

	if first.Format(TimeLayout) == text {
		return first, nil
	}

	if second.Format(TimeLayout) == text {
		return second, nil
	}

	return wall.Add(-time.Duration(before) * time.Second).In(loc), nil
}
