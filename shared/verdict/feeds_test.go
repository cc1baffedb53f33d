package verdict

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/control"
)

// TestFeeds: what is unusual is reported with its numbers, on BOBO's clock; nothing else is.
func TestFeeds(t *testing.T) {
	t.Parallel()

	tuesday := time.Date(2026, 6, 16, 5, 47, 0, 0, time.FixedZone("", 3600))

	hour := control.UsualHour{Begin: tuesday.Add(-47 * time.Minute), Hours: 6, Least: 40, Most: 70, GapSeconds: 600}
	feed := func(change func(*control.FeedState)) control.FeedState {
		f := control.FeedState{Name: "north", Learnt: true, LastFile: tuesday.Add(-35 * time.Minute), Usual: hour}
		if change != nil {
			change(&f)
		}

		return f
	}
	silent := func(f *control.FeedState) { f.Silent = true }
	muted := func(f *control.FeedState) {
		f.Silent, f.Thin, f.Flood = true, &control.UnusualHour{UsualHour: hour}, &control.UnusualHour{UsualHour: hour}
		f.Mute = &control.FeedMute{Until: tuesday.Add(time.Hour)}
	}

	const usual = "The feed north usually brings 40 to 70 rows between 5 and 6 on a Tuesday"
	for name, c := range map[string]struct {
		state control.IngestState
		after time.Duration
		want  map[string]string // text by cause
	}{
		"as usual":           {control.IngestState{Feeds: []control.FeedState{feed(nil)}}, 12 * time.Hour, nil},
		"silent":             {control.IngestState{Feeds: []control.FeedState{feed(silent)}}, 12 * time.Hour, map[string]string{CauseSilent: usual + ", and a file every 10 min at least; none since 05:12"}},
		"never warn":         {control.IngestState{Feeds: []control.FeedState{feed(silent)}}, 0, nil},
		"muted":              {control.IngestState{Feeds: []control.FeedState{feed(muted)}, LastFile: tuesday.Add(-99 * time.Hour)}, 12 * time.Hour, nil},
		"directory unusable": {control.IngestState{Feeds: []control.FeedState{feed(silent)}, Directories: map[string]string{"CSV_DIRECTORY": "does not exist"}}, 12 * time.Hour, nil},
		"the usual night is longer than the limit": {control.IngestState{Feeds: []control.FeedState{feed(nil)}, LastFile: tuesday.Add(-13 * time.Hour)}, 12 * time.Hour, nil},
		"thin and flood": {control.IngestState{Feeds: []control.FeedState{feed(func(f *control.FeedState) {
			f.Thin, f.Flood = &control.UnusualHour{UsualHour: hour, Rows: 1}, &control.UnusualHour{UsualHour: hour, Rows: 400}
		})}}, 12 * time.Hour, map[string]string{CauseThin: usual + "; only 1 came", CauseFlood: usual + "; 400 came"}},
		"several are silent": {control.IngestState{Feeds: []control.FeedState{feed(silent), feed(func(f *control.FeedState) {
			f.Name, f.Silent, f.LastFile, f.Usual.Least = "south", true, tuesday.Add(-30*time.Hour), 70
		})}}, 12 * time.Hour, map[string]string{CauseSilent: "2 feeds are silent. " + usual + ", and a file every 10 min at least; none since 05:12. " +
			"The feed south usually brings 70 rows between 5 and 6 on a Tuesday, and a file every 10 min at least; none since Sunday 14 June, 23:47"}},
		"young beside one that is known": {control.IngestState{Feeds: []control.FeedState{feed(nil), {Name: "south", LastFile: tuesday.Add(-13 * time.Hour)}}}, 12 * time.Hour,
			map[string]string{CauseSilent: "No new file has come for 13 h from the feed south, since"}},
		"young beside one that is muted": {control.IngestState{Feeds: []control.FeedState{feed(muted), {Name: "south", LastFile: tuesday.Add(-13 * time.Hour)}}}, 12 * time.Hour,
			map[string]string{CauseSilent: "No new file has come for 13 h from the feed south, since"}},
		"two that are young, and one brings": {control.IngestState{
			Feeds:    []control.FeedState{{Name: "north", LastFile: tuesday}, {Name: "south", LastFile: tuesday.Add(-13 * time.Hour)}},
			LastFile: tuesday,
		}, 12 * time.Hour, map[string]string{CauseSilent: "No new file has come for 13 h from the feed south, since"}},
		"a new one that has never brought a file": {control.IngestState{
			Instance: control.Instance{Started: tuesday.Add(-13 * time.Hour)}, Feeds: []control.FeedState{feed(nil), {Name: "south"}},
		}, 12 * time.Hour, map[string]string{CauseSilent: "No file has ever come from the feed south"}},
		"new, and ingest was just started": {control.IngestState{
			Instance: control.Instance{Started: tuesday.Add(-time.Hour)}, Feeds: []control.FeedState{feed(nil), {Name: "south"}},
		}, 12 * time.Hour, nil},
		"silent, and a young one as well": {control.IngestState{Feeds: []control.FeedState{feed(silent), {Name: "south", LastFile: tuesday.Add(-13 * time.Hour)}}}, 12 * time.Hour,
			map[string]string{CauseSilent: usual + ", and a file every 10 min at least; none since 05:12. No new file has come for 13 h from the feed south, since"}},
		"young: the fixed limit": {control.IngestState{
			Feeds: []control.FeedState{{Name: "north"}}, LastFile: time.Date(2026, 6, 14, 0, 0, 0, 0, time.UTC),
		}, 12 * time.Hour, map[string]string{CauseSilent: "No new file has come for"}},
	} {
		found := map[string]string{}
		for _, f := range feedFindings(tuesday, c.state, c.after) {
			require.Empty(t, found[f.Cause], name)
			require.Equal(t, Warning, f.Level, name)
			found[f.Cause] = f.Text
		}

		require.Len(t, found, len(c.want), "%s: %v", name, found)

		for cause, text := range c.want {
			require.Contains(t, found[cause], text, name)
		}
	}
}
