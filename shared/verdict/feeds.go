package verdict

import (
	"fmt"
	"strings"
	"time"

	"bobosync/shared/control"
	"bobosync/shared/text"
)

// feedFindings compares what arrives with what usually does, or with a fixed limit where that is not known yet. Several
// feeds that are silent at once make one finding.
func feedFindings(now time.Time, s control.IngestState, after time.Duration) (all []Finding) {
	var silent, names []string
	judged := false
	for _, feed := range s.Feeds {
		// An unusable directory is the cause, and is reported elsewhere.
		unusable := s.Directories["CSV_DIRECTORY"] != "" || s.Directories[control.InputDirectory(feed.Name)] != ""
		judged = judged || feed.Learnt || feed.Mute != nil || unusable
		if feed.Mute != nil || unusable {
			continue
		}

		switch {
		case !feed.Learnt && len(s.Feeds) > 1 && after > 0:
			if words := youngSilent(now, s.Started, feed, after); words != "" {
				silent, names = append(silent, words), append(names, feed.Name)
			}
		case feed.Silent && after > 0:
			silent, names = append(silent, silentWords(now, feed)), append(names, feed.Name)
		case feed.Thin != nil:
			all = append(all, Finding{
				Warning, CauseThin, fmt.Sprintf("%s; only %s", usually(feed.Name, feed.Thin.UsualHour), cameRows(feed.Thin.Rows)),
				"ask the people who run BOBO whether its export is whole; bobosync files list shows what came. Is it known? bobosync feeds mute " + feed.Name,
			})
		}

		if feed.Flood != nil {
			all = append(all, Finding{
				Warning, CauseFlood, fmt.Sprintf("%s; %s", usually(feed.Name, feed.Flood.UsualHour), cameRows(feed.Flood.Rows)),
				"bobosync files list shows what came: an old export dropped again, or all of it at once? Is it known? bobosync feeds mute " + feed.Name,
			})
		}
	}

	if len(silent) > 0 {
		words := strings.Join(silent, ". ")
		if len(silent) > 1 {
			words = fmt.Sprintf("%d feeds are silent. %s", len(silent), words)
		}

		all = append(all, Finding{
			Warning, CauseSilent, words,
			"ask the people who run BOBO whether its export works and reaches CSV_DIRECTORY (share mounted, disk not full there). Is it known? bobosync feeds mute " + names[0],
		})
	}

	if !judged && len(s.Feeds) < 2 { // what is usual is not known yet
		all = append(all, silence(now, s, after)...)
	}

	return all
}

func cameRows(n int) string {
	if n == 1 {
		return "1 came"
	}
	return fmt.Sprintf("%d came", n)
}

// usually says what such hours usually bring.
func usually(name string, u control.UsualHour) string {
	rows := text.Count(u.Most, "row")
	if u.Least < u.Most {
		rows = fmt.Sprintf("%d to %s", u.Least, rows)
	}

	return fmt.Sprintf("The feed %s usually brings %s between %d and %d on a %s", name, rows, u.Begin.Hour(), u.Begin.Add(time.Hour).Hour(), u.Begin.Weekday())
}

// youngSilent says that nothing arrives from one of several feeds for which it is not known yet what is usual; empty if
// something does.
func youngSilent(now, started time.Time, feed control.FeedState, after time.Duration) string {
	switch {
	case !feed.LastFile.IsZero() && now.Sub(feed.LastFile) >= after:
		return fmt.Sprintf("No new file has come for %s from the feed %s, since %s", text.Ago(now.Sub(feed.LastFile)), feed.Name, text.When(feed.LastFile))
	case feed.LastFile.IsZero() && now.Sub(started) >= after:
		return "No file has ever come from the feed " + feed.Name
	default:
		return ""
	}
}

func silentWords(now time.Time, feed control.FeedState) string {
	format := "15:04"
	if now.Sub(feed.LastFile) > 20*time.Hour {
		format = "Monday 2 January, 15:04"
	}

	return fmt.Sprintf("%s, and a file every %s at least; none since %s", usually(feed.Name, feed.Usual),
		text.Ago(max(time.Duration(feed.Usual.GapSeconds)*time.Second, time.Minute)), feed.LastFile.Format(format))
}
