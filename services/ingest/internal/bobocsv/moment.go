package bobocsv

import "time"

// moment reads the three columns with an event's time, and returns the wall-clock time in seconds since 1970.
func moment(date, clock, created []byte) (wall int64, reason Reason) {
	if len(date) != len("YYYYMMDD") || len(created) < len(date) {
		return 0, Date
	}

	if len(clock) != len("HHMMSS") || len(created) != len(date)+len(clock) {
		return 0, Time
	}

	days, ok := daysOf(created[:len(date)])
	if !ok {
		return 0, Date
	}

	seconds, ok := secondsOf(created[len(date):])
	if !ok {
		return 0, Time
	}

	same := string(date) == string(created[:len(date)])
	if !same {
		if _, ok := daysOf(date); !ok {
			return 0, Date
		}
	}

	if string(clock) != string(created[len(date):]) {
		if _, ok := secondsOf(clock); !ok {
			return 0, Time
		}

		same = false
	}

	if !same {
		return 0, Contradiction
	}

	return days*secondsPerDay + seconds, 0
}

const secondsPerDay = 24 * 60 * 60

// daysOf reads YYYYMMDD as days since 1970. A duty clock shows no earlier years.
func daysOf(b []byte) (int64, bool) {
	year, ok1 := number(b[:4])
	month, ok2 := number(b[4:6])
	day, ok3 := number(b[6:8])
	if !ok1 || !ok2 || !ok3 || year < 1970 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) {
		return 0, false
	}

	return time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC).Unix() / secondsPerDay, true
}

func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	default:
		return 31
	}
}

// secondsOf reads HHMMSS as seconds since midnight.
func secondsOf(b []byte) (int64, bool) {
	hour, ok1 := number(b[:2])
	minute, ok2 := number(b[2:4])
	second, ok3 := number(b[4:6])
	if !ok1 || !ok2 || !ok3 || hour > 23 || minute > 59 || second > 59 {
		return 0, false
	}

	return int64(hour)*3600 + int64(minute)*60 + int64(second), true
}

// number reads decimal digits and nothing else: no sign, no blank.
func number(b []byte) (int, bool) {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}

		n = n*10 + int(c-'0')
	}

	return n, true
}
