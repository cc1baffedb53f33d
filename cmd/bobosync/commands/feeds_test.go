package commands

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/control"
	"bobosync/shared/topology"
)

func TestFeeds(t *testing.T) {
	r := newResponders(t)
	r.fails(1, "no such service answers", "feeds", "list")

	last := time.Date(2026, 6, 16, 5, 12, 0, 0, time.FixedZone("", 3600))
	feed := control.FeedState{
		Name: "default", Learnt: true, LastFile: last, Rows: 7, Files: 2, Silent: true,
		Usual: control.UsualHour{Begin: last, Hours: 6, Least: 40, Most: 70, GapSeconds: 600},
	}
	muted := feed
	muted.Mute = &control.FeedMute{Until: last.Add(time.Hour), By: "jo@desk", Reason: "upgrade"}
	var orders asked[control.FeedMuteRequest]
	var notes asked[control.JournalEntry]

	r.serve(topology.Ingest, states(control.IngestState{Feeds: []control.FeedState{feed}}),
		hears(&orders, control.MuteFeed, func(req control.FeedMuteRequest) (control.FeedState, error) {
			switch {
			case req.Name != "default":
				return control.FeedState{}, control.Refuse("there is no feed %q", req.Name)
			case req.Seconds == 0:
				return feed, nil
			}

			return muted, nil
		}))
	r.serve(topology.Janitor, hears(&notes, control.JournalNote, func(control.JournalEntry) (control.Nothing, error) { return control.Nothing{}, nil }))

	out := r.succeeds("feeds", "list")
	for _, want := range []string{"default", "silent", "2026-06-16 05:12:00", "7 in 2 files", "40 to 70", "10 min"} {
		require.Contains(t, out, want)
	}

	require.Contains(t, r.succeeds("feeds", "list", "--json"), `"silent": true`)
	out = r.succeeds("feeds", "mute", "default", "--for", "8h", "--reason", "upgrade")
	require.Contains(t, out, "default is muted until ")
	require.Contains(t, out, "by jo@desk: upgrade")
	require.Contains(t, r.succeeds("feeds", "mute", "default", "--for", "0", "--json"), `"name": "default"`)
	r.fails(1, `there is no feed "south"`, "feeds", "mute", "south", "--for", "1h", "--reason", "upgrade")
	r.fails(2, "required flag", "feeds", "mute", "default")
	r.fails(2, "a second or more", "feeds", "mute", "default", "--for", "1ms")
	require.Equal(t, int64(8*3600), orders.got()[0].Seconds)
	require.NotEmpty(t, orders.got()[0].By)
	require.Len(t, notes.got(), 2, "only what was done is noted")
	require.Contains(t, notes.got()[0].Text, "the feed default is muted until")
	require.Contains(t, notes.got()[1].Text, "not muted any more")
}

// TestTheSlowestWorker checks that the slowest worker is named only on request, and is then explained.
func TestTheSlowestWorker(t *testing.T) {
	r := newResponders(t)
	answer := control.SlowestAnswer{}
	r.serve(topology.Ingest, says(control.FindFile, []control.FoundFile{}),
		hears(&asked[control.Nothing]{}, control.Slowest, func(control.Nothing) (control.SlowestAnswer, error) { return answer, nil }))
	var workers asked[control.WorkerRequest]
	r.serve(topology.Resolver, hears(&workers, control.WorkerShow, func(req control.WorkerRequest) (control.WorkerAnswer, error) {
		return control.WorkerAnswer{Employee: req.Text}, nil
	}))
	r.fails(1, "has confirmed no row", "worker", "--slowest")

	answer = control.SlowestAnswer{Employee: "00123", Row: &control.WorstRow{File: "a.csv", Line: 5, MS: 8000, Settling: 1000, Us: 500, AtHoc: 6500, Confirmed: time.Now()}}
	out := r.succeeds("worker", "--slowest")
	require.Contains(t, out, "line 5 of a.csv, 8.0 s from arrival")
	require.Contains(t, out, "6.5 s for AtHoc")
	require.Contains(t, out, "Worker 00123\n")
	require.Contains(t, r.succeeds("worker", "--slowest", "--json"), `"00123"`)
	require.Equal(t, "00123", workers.got()[0].Text)
	r.fails(2, "", "worker", "--slowest", "00123")
}
