package notice

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/control"
	"bobosync/shared/verdict"
)

var noon = time.Date(2026, 6, 17, 12, 0, 0, 0, time.UTC)

// play makes one check after the other, as the janitor does.
type play struct {
	t     *testing.T
	state State
	now   time.Time
	seen  Seen
	// told are the notices of the last check, all are those of all checks.
	told, all []Notice
	looks     int
}

func newPlay(t *testing.T) *play {
	p := &play{t: t, now: noon, seen: Seen{Zone: time.UTC, DigestHour: -1, Sinks: []string{"mail"}}}
	p.is(verdict.OK)
	p.look()
	return p
}

// is sets the verdict of the checks from now on.
func (p *play) is(level verdict.Level, findings ...verdict.Finding) {
	p.seen.Verdict = verdict.Verdict{Level: level, Text: "as it is", Findings: findings}
}

// look makes one check, and passes the state through its stored form, as a take-over does.
func (p *play) look() {
	p.t.Helper()

	state := p.state
	p.told, p.state = Decide(state, p.seen, p.now)
	p.all = append(p.all, p.told...)
	if p.looks++; len(p.told) == 0 && p.looks%50 > 0 {
		return
	}

	before, err := json.Marshal(state)
	require.NoError(p.t, err)
	_, again := Decide(state, p.seen, p.now)
	require.Equal(p.t, p.state, again, "it depends on nothing else")
	after, err := json.Marshal(state)
	require.NoError(p.t, err)
	require.Equal(p.t, string(before), string(after), "the state before is left alone")
	kept, err := json.Marshal(p.state)
	require.NoError(p.t, err)
	p.state = State{}
	require.NoError(p.t, json.Unmarshal(kept, &p.state))
}

// after makes a check every 15 seconds until d has passed, and returns the kinds of the notices.
func (p *play) after(d time.Duration) (kinds []Kind) {
	p.t.Helper()

	for end := p.now.Add(d); p.now.Before(end); {
		p.now = p.now.Add(15 * time.Second)
		p.look()

		for _, n := range p.told {
			kinds = append(kinds, n.Kind)
		}
	}

	return kinds
}

func (p *play) last() Notice { return p.all[len(p.all)-1] }

var down = verdict.Finding{Level: verdict.Problem, Cause: verdict.CauseAtHocDown, Text: "AtHoc is down", Do: "wait"}

func TestWorseAndAllClear(t *testing.T) {
	t.Parallel()
	p := newPlay(t)
	require.Empty(t, p.after(time.Hour), "all is well")
	p.is(verdict.Problem, down)
	require.Empty(t, p.after(time.Minute), "it may be a hiccup")
	require.Equal(t, []Kind{Worse}, p.after(15*time.Second))
	require.Equal(t, "PROBLEM: as it is", p.last().Title)
	require.Contains(t, p.last().Text, "AtHoc is down.\nDo: wait.")
	require.Empty(t, p.after(3*time.Hour), "once")
	p.is(verdict.Warning)
	require.Empty(t, p.after(10*time.Minute), "better is not well")
	p.is(verdict.Problem, down)
	require.Equal(t, []Kind{Worse}, p.after(2*time.Minute), "and it became worse again")
	p.is(verdict.OK)
	require.Empty(t, p.after(5*time.Minute))
	require.Equal(t, []Kind{AllClear}, p.after(15*time.Second))
	require.Contains(t, p.last().Title, "All is well again, after 3 h 13 min: OK")
	require.Contains(t, p.last().Text, "Sent meanwhile: 2 worse.")
	require.Empty(t, p.after(3*time.Hour))
}

func TestAHiccupIsNotTold(t *testing.T) {
	t.Parallel()
	p := newPlay(t)
	p.is(verdict.Problem, down)
	p.after(45 * time.Second)
	p.is(verdict.OK)
	p.after(time.Hour)
	require.Empty(t, p.all)
}

// TestFlapping checks that there is one notice, and then others that say how often the status changed, however fast it
// flaps.
func TestFlapping(t *testing.T) {
	t.Parallel()

	for name, each := range map[string]time.Duration{"slowly": 2 * time.Minute, "too fast to last": 30 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			p := newPlay(t)
			for p.now.Before(noon.Add(2 * time.Hour)) {
				p.is(verdict.Problem, down)
				p.after(each)
				p.is(verdict.OK)
				p.after(each)
			}

			require.LessOrEqual(t, len(p.all), 6, "%v", p.all)
			require.GreaterOrEqual(t, len(p.all), 3)

			for _, n := range p.all[1:] {
				require.Equal(t, Changing, n.Kind)
				require.Regexp(t, `^The status has changed \d+ times since 2026-06-17 \d\d:\d\d UTC; now: `, n.Title)
			}

			p.after(2 * time.Hour)
			require.Equal(t, AllClear, p.last().Kind, "and at last all is well")
		})
	}
}

// TestADecisionIsRemindedOf checks the reminders after 0, 5, 15 and 30 minutes, and then hourly, until the decision is
// made; another decision has its own notice.
func TestADecisionIsRemindedOf(t *testing.T) {
	t.Parallel()

	held := verdict.Finding{Level: verdict.Warning, Cause: verdict.CauseMappingHeld, Text: "A mapping is held back", Do: "bobosync mapping approve a"}
	p := newPlay(t)
	p.now = p.now.Add(time.Minute)
	began := p.now
	p.is(verdict.Warning, held)
	p.look()

	for p.now.Before(began.Add(151 * time.Minute)) {
		p.now = p.now.Add(15 * time.Second)
		p.look()
	}

	var at []time.Duration
	for _, n := range p.all {
		require.Equal(t, Decision, n.Kind, "that the verdict is worse by it needs no telling")
		at = append(at, n.At.Sub(began))
	}

	require.Equal(t, []time.Duration{0, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, 90 * time.Minute, 150 * time.Minute}, at)
	require.Contains(t, p.last().Title, "still needed, since 2026-06-17 12:01 UTC")

	p.is(verdict.Warning)
	p.after(time.Minute)
	p.is(verdict.Warning, held)
	require.Empty(t, p.after(5*time.Minute), "it was only not seen for a moment")

	other := held
	other.Do = "bobosync mapping approve b"
	p.is(verdict.Warning, other)
	require.Equal(t, []Kind{Decision}, p.after(15*time.Second))
	p.now = p.now.Add(50 * time.Minute) // no janitor was running
	require.Equal(t, []Kind{Decision}, p.after(time.Minute), "one stands for those that were missed")
	p.is(verdict.OK)
	require.Equal(t, []Kind{AllClear}, p.after(time.Hour))
}

// TestFilesAreToldOfOnceAnHour checks that notices about files have counts and lines, but no content and no files from
// before the first start.
func TestFilesAreToldOfOnceAnHour(t *testing.T) {
	t.Parallel()
	p := newPlay(t)
	p.seen.Facts.Files = []control.FileState{
		{ID: "0", Name: "before.csv", Failed: true, Finished: noon.Add(-time.Minute), Rows: 1},
		{ID: "1", Name: "good.csv", Finished: noon.Add(time.Second), Rows: 5},
		{ID: "2", Name: "bad.csv", Finished: noon.Add(2 * time.Second), Rows: 50, Rejected: 25},
		{ID: "3", Name: "dead.csv", Failed: true, Finished: noon.Add(time.Second), Rows: 9},
	}

	lines := make([]int, 25)
	for i := range lines {
		lines[i] = i + 1
	}

	p.seen.Lines = map[string][]int{"2": lines, "3": {7}}
	require.Equal(t, []Kind{Files}, p.after(time.Minute))
	require.Equal(t, "1 file failed, 25 rows rejected", p.last().Title)
	require.Contains(t, p.last().Text, "bad.csv: 25 of 50 rows rejected; lines 1, 2, 3,")
	require.Contains(t, p.last().Text, "20 and more\ndead.csv: 0 of 9 rows rejected, among the failed files; lines 7\n")
	require.NotContains(t, p.last().Text, "good.csv")
	require.NotContains(t, p.last().Text, "before.csv")
	p.seen.Facts.Files = append(p.seen.Facts.Files, control.FileState{ID: "4", Name: "next.csv", Failed: true, Finished: noon.Add(time.Minute)})
	require.Empty(t, p.after(58*time.Minute))
	require.Equal(t, []Kind{Files}, p.after(3*time.Minute))
	require.NotContains(t, p.last().Text, "dead.csv")
	require.Empty(t, p.after(3*time.Hour))
}

func TestTheDigestComesDaily(t *testing.T) {
	t.Parallel()
	p := &play{t: t, now: noon, seen: Seen{Zone: time.UTC, DigestHour: 7, Sinks: []string{"mail"}}}
	p.is(verdict.OK)
	p.seen.Facts.Ingest = []control.IngestState{{Today: control.FileCounts{Done: 3, Rows: 9}}}
	p.seen.Facts.Resolver = []control.ResolverState{{OnDuty: 4, Workers: 7}}
	p.look()
	require.Empty(t, p.after(18*time.Hour+59*time.Minute), "today's hour was over")
	require.Equal(t, []Kind{Digest}, p.after(2*time.Minute))
	require.Equal(t, "Daily: OK: as it is", p.last().Title)
	require.Contains(t, p.last().Text, "3 files done, 0 failed; 9 rows")
	require.Contains(t, p.last().Text, "4 on duty of 7 known")
	require.Contains(t, p.last().Text, "Nothing need be done.")
	require.Equal(t, []Kind{Digest}, p.after(24*time.Hour))
}

// TestNeverMoreThanTenAnHour checks that notices beyond the limit are sent later, and then describe the status of that
// time.
func TestNeverMoreThanTenAnHour(t *testing.T) {
	t.Parallel()
	p := newPlay(t)

	var findings []verdict.Finding
	for id := range strings.SplitSeq("abcdefghijklmno", "") {
		findings = append(findings, verdict.Finding{Level: verdict.Warning, Cause: verdict.CauseMappingHeld, Text: "held", Do: "approve " + id})
	}

	p.is(verdict.Problem, append(findings, down)...)
	p.after(4 * time.Hour)

	for _, n := range p.all {
		within := 0
		for _, other := range p.all {
			if d := other.At.Sub(n.At); d >= 0 && d < time.Hour {
				within++
			}
		}

		require.LessOrEqual(t, within, 10)
	}

	p.is(verdict.OK)
	p.after(2 * time.Hour)
	require.Equal(t, AllClear, p.last().Kind)
}

// TestWhatWaitsIsBounded checks that pending notices are kept for a day, and that neither too many nor too long ones
// are kept.
func TestWhatWaitsIsBounded(t *testing.T) {
	t.Parallel()
	p := newPlay(t)
	p.is(verdict.Problem, verdict.Finding{Level: verdict.Problem, Text: strings.Repeat("é", 3000), Do: "wait"})
	p.after(2 * time.Minute)
	require.Len(t, p.state.Outbox, 1)
	require.LessOrEqual(t, len(p.last().Text), maxText+4)
	p.after(23 * time.Hour)
	require.Len(t, p.state.Outbox, 1)
	p.after(2 * time.Hour)
	require.Empty(t, p.state.Outbox)

	p.state.Outbox = make([]Pending, maxPending)
	for i := range p.state.Outbox {
		p.state.Outbox[i].At = p.now
	}

	p.is(verdict.OK)
	p.after(10 * time.Minute)
	require.Len(t, p.state.Outbox, maxPending)
	require.Equal(t, AllClear, p.state.Outbox[maxPending-1].Kind, "the newest is kept")
}

// TestEnded checks that each bad period of a minute or more is a journal entry when it ends, with the text from its
// beginning.
func TestEnded(t *testing.T) {
	t.Parallel()
	p := newPlay(t)
	p.seen.Sinks = nil // bad periods are recorded even if nobody is notified
	var ended []control.JournalEntry
	pass := func(level verdict.Level, words string, d time.Duration) {
		p.seen.Verdict = verdict.Verdict{Level: level, Text: words}
		for end := p.now.Add(d); p.now.Before(end); p.now = p.now.Add(15 * time.Second) {
			if e := Ended(p.state, p.seen, p.now); e != nil {
				ended = append(ended, *e)
			}

			p.look()
			require.Empty(t, p.told)
		}
	}
	pass(verdict.OK, "fresh", time.Minute)
	pass(verdict.Problem, "away", 14*time.Minute)
	pass(verdict.Problem, "still away", time.Minute)
	pass(verdict.Warning, "late", 2*time.Minute)
	pass(verdict.OK, "fresh", time.Hour)
	pass(verdict.Warning, "a moment", 30*time.Second)
	pass(verdict.OK, "fresh", time.Hour)
	require.Equal(t, []control.JournalEntry{
		{Kind: control.KindVerdict, Started: noon.Add(time.Minute), Ended: noon.Add(16 * time.Minute), Outcome: "problem", Text: "away"},
		{Kind: control.KindVerdict, Started: noon.Add(16 * time.Minute), Ended: noon.Add(18 * time.Minute), Outcome: "warning", Text: "late"},
	}, ended)
	require.Empty(t, p.state.Outbox)
}

// TestAnEmergencyLoginIsTold checks that each login is notified once and at once, even after many other notices within
// the hour. Logins beyond the limit are notified later.
func TestAnEmergencyLoginIsTold(t *testing.T) {
	t.Parallel()

	login := control.EmergencyLoginRequest{By: "anna\x1b[2J (console, password, 10.1.2.3)", Role: "approver", At: noon.Add(-time.Minute)}
	seen := Seen{Zone: time.UTC, Sinks: []string{"mail", "hook"}, DigestHour: -1}
	before := State{Since: noon, Sent: slices.Repeat([]time.Time{noon}, maxOthers)}
	s := NotifyLogin(before, seen, login, noon)
	require.Empty(t, before.Outbox)
	require.Len(t, s.Outbox, 1)
	require.Empty(t, s.Logins)
	n := s.Outbox[0]
	require.Equal(t, []string{"mail", "hook"}, n.To)
	require.Equal(t, Login, n.Kind)
	require.Equal(t, "PROBLEM: emergency login to the console", n.Title)
	require.Contains(t, n.Text, "(console, password, 10.1.2.3) came in as approver at 2026-06-17 11:59 UTC")
	require.NotContains(t, n.Text, "\x1b")

	for i := range maxAnHour - maxOthers + 1 { // two of them exceed the limit
		login.At = noon.Add(time.Duration(i) * time.Second)
		s = NotifyLogin(s, seen, login, noon)
	}

	require.Len(t, s.Outbox, maxAnHour-maxOthers)
	require.Len(t, s.Logins, 2)
	again := NotifyLogin(s, seen, login, noon)
	require.Len(t, again.Logins, 2, "it waits already")
	_, later := Decide(again, seen, noon.Add(time.Hour))
	require.Empty(t, later.Logins)
	require.Len(t, later.Outbox, maxAnHour-maxOthers+2)

	for i := range 2 * maxLogins {
		login.At = noon.Add(time.Duration(i) * time.Minute)
		s = NotifyLogin(s, seen, login, noon)
	}

	require.Len(t, s.Logins, maxLogins)
}

// TestTheStateFitsIntoAMessage checks that the notices that wait for a sink that is down stay below the broker's limit
// of 1 MB, whatever the names of files are. Formerly, a state that was too large to store ended the janitor's work
// again and again.
func TestTheStateFitsIntoAMessage(t *testing.T) {
	t.Parallel()

	var s State
	now := time.Date(2026, 6, 17, 3, 0, 0, 0, time.UTC)
	seen := Seen{Sinks: []string{"mail"}, Zone: time.UTC, DigestHour: -1}
	for i := range 6 * 23 {
		now = now.Add(10 * time.Minute)
		login := control.EmergencyLoginRequest{By: strings.Repeat("<", 1900), At: now}
		s = NotifyLogin(s, seen, login, now)
		_, s = Decide(s, seen, now)
		data, err := json.Marshal(s)
		require.NoError(t, err)
		require.Less(t, len(data), 900_000, "notice %d", i)
	}

	require.Greater(t, len(s.Outbox), 30)
	require.Equal(t, now, s.Outbox[len(s.Outbox)-1].At, "the oldest give way")
}
