package check

import (
	"context"
	"fmt"
	"os"
	"time"
)

// checkZones reports the time on BOBO's and AtHoc's wall clocks.
func checkZones(_ context.Context, f *facts) []Result {
	now := f.Now()
	inContainer := contained(f.Getenv)
	var results []Result

	add := func(variable, whose string, loc *time.Location) {
		r := good("%s: %s", whose, wall(now, loc))
		if loc == time.Local && inContainer && isUTC(now, loc) {
			r = warn(fmt.Sprintf("set %s to the zone of that clock, such as Europe/London", variable),
				"%s is left at local, which in this container is UTC: %s", whose, wall(now, loc))
		}

		results = append(results, named(variable, r)...)
	}
	if f.BoboZone != nil {
		add("BOBO_TIMEZONE", "the clock of BOBO's files", f.BoboZone.Location())
	}

	if f.AtHoc != nil {
		add("ATHOC_TIMEZONE", "the clock of AtHoc", f.AtHoc.Zone.Location())
	}

	if f.BoboZone != nil && f.AtHoc != nil {
		results[len(results)-1].Message += apart(now, f.BoboZone.Location(), f.AtHoc.Zone.Location())
	}

	return results
}

// wall formats what a clock shows, with its zone.
func wall(now time.Time, loc *time.Location) string {
	return fmt.Sprintf("%s (%s, UTC%s)", now.In(loc).Format("2006-01-02 15:04"), loc, now.In(loc).Format("-07:00"))
}

// apart says how far the second clock is from the first; "" if both show the same.
func apart(now time.Time, bobo, athoc *time.Location) string {
	_, a := now.In(bobo).Zone()
	_, b := now.In(athoc).Zone()

	difference := time.Duration(b-a) * time.Second
	switch {
	case difference > 0:
		return fmt.Sprintf("; it is %s ahead of BOBO's", difference)
	case difference < 0:
		return fmt.Sprintf("; it is %s behind BOBO's", -difference)
	}

	return ""
}

// isUTC reports whether a zone is UTC all year round, like that of a machine whose time zone nobody has set.
func isUTC(now time.Time, loc *time.Location) bool {
	for month := range 12 {
		if _, offset := now.AddDate(0, month, 0).In(loc).Zone(); offset != 0 {
			return false
		}
	}

	return true
}

// contained reports whether this seems to be a container, whose time zone nobody has chosen.
func contained(env func(string) string) bool {
	if env("KUBERNETES_SERVICE_HOST") != "" || env("container") != "" {
		return true
	}

	for _, mark := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Stat(mark); err == nil {
			return true
		}
	}

	return false
}
