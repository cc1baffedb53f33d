package latest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"bobosync/shared/event"
)

// holds returns what AtHoc was seen to hold at noon: duty that began some hours ago.
func holds(hoursAgo int) Observed {
	return Observed{On: true, At: noon.Add(-time.Duration(hoursAgo) * time.Hour).Unix(), Seen: noon}
}

// settledWith returns a worker whose event was sent some hours after it and answered at once.
func settledWith(e Event, o event.Outcome) Worker {
	var w Worker
	w.Take(e, false)
	u, _ := w.Resolve("007", "bond", event.ReasonEvent, time.Unix(e.At, 0), rules)
	a := answer(u, o)
	a.Answered = e.At + 10
	w.Answer(a, noon, rules)

	return w
}

// with changes a worker.
func with(w Worker, change func(*Worker)) Worker {
	change(&w)
	return w
}

// changes are the ways in which a worker's status can be under way.
var changes = map[string]func(*Worker){
	"a newer event is held back":      func(w *Worker) { w.Take(booking(0, 9, true), false) },
	"an update has no answer":         func(w *Worker) { resolveNow(w, booking(0, 9, true), "bond") },
	"a call was given up":             func(w *Worker) { w.InDoubt = noon.Unix() },
	"a replay goes on":                func(w *Worker) { w.Replay = "some" },
	"confirmed after it was seen":     func(w *Worker) { w.Confirmed.Answered = noon.Unix() + 60 },
	"confirmed just before":           func(w *Worker) { w.Confirmed.Answered = noon.Unix() - 2 },
	"the answer is to a value before": func(w *Worker) { w.Correct("007", "bond", event.ReasonReconcile, noon, rules) },
}

func TestUnderWay(t *testing.T) {
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			w := with(settledWith(booking(30, 1, false), event.Applied), change)
			require.Equal(t, Judgement{UnderWay: true}, w.Expire(holds(40), "bond", noon, rules))
			require.Equal(t, Judgement{UnderWay: true}, w.Compare(holds(40), "bond", noon, rules))
		})
	}

	w := with(settledWith(booking(30, 1, false), event.Applied), func(w *Worker) { w.Confirmed.Answered = noon.Unix() - 3 })
	require.True(t, w.Expire(holds(40), "bond", noon, rules).Send, "an earlier answer is older than what was seen")
}

// TestWhatThePublisherExpiredIsConfirmed: the update said on duty, AtHoc was sent off duty, and that is an answer.
func TestWhatThePublisherExpiredIsConfirmed(t *testing.T) {
	var w Worker
	w.Take(booking(25, 1, true), false)
	u, _ := w.Resolve("007", "bond", event.ReasonEvent, noon.Add(-2*time.Hour), rules)
	a := answer(u, event.Expired)
	a.On, a.Answered = false, noon.Add(-time.Hour).Unix()
	w.Answer(a, noon, rules)
	require.False(t, w.Unconfirmed())
	require.Equal(t, Judgement{WantAt: u.At}, w.Compare(Observed{Seen: noon}, "bond", noon, rules))
}

func TestExpire(t *testing.T) {
	off, stale, fresh := booking(30, 1, false), booking(30, 1, true), booking(2, 1, true)
	for name, c := range map[string]struct {
		worker Worker
		seen   Observed
		send   bool
	}{
		"booked off, and AtHoc has older duty":         {settledWith(off, event.Applied), holds(40), true},
		"its own duty has become stale":                {settledWith(stale, event.Applied), holds(30), true},
		"stale when it was first read, never sent":     {with(Worker{}, func(w *Worker) { resolveNow(w, stale, "bond") }), holds(30), true},
		"fresh duty is wanted: Compare's":              {settledWith(fresh, event.Applied), holds(40), false},
		"fresh duty is wanted and there":               {settledWith(fresh, event.Applied), holds(2), false},
		"AtHoc's duty is not stale":                    {settledWith(off, event.Applied), holds(23), false},
		"exactly as old as allowed":                    {settledWith(off, event.Applied), holds(24), false},
		"nothing is there":                             {settledWith(stale, event.Applied), Observed{Seen: noon}, false},
		"what is there is no date":                     {settledWith(stale, event.Applied), Observed{On: true, Odd: true, Seen: noon}, false},
		"the later of two moments is not stale":        {settledWith(off, event.Applied), Observed{On: true, At: noon.Unix() - 24*3600 - 1800, At2: noon.Unix() - 23*3600 - 1800, Seen: noon}, false},
		"both moments are stale":                       {settledWith(off, event.Applied), Observed{On: true, At: noon.Unix() - 26*3600, At2: noon.Unix() - 25*3600, Seen: noon}, true},
		"AtHoc did not know the user and has it now":   {settledWith(off, event.UnknownUser), holds(40), true},
		"the duty was dead, its end may be taken":      {settledWith(stale, event.Dead), holds(40), true},
		"the clearing was dead long ago":               {settledWith(off, event.Dead), holds(40), true},
		"the clearing was dead":                        {settledWith(booking(20, 1, false), event.Dead), holds(40), false},
		"AtHoc forbade it":                             {settledWith(booking(20, 1, false), event.ForbiddenUser), holds(40), false},
		"AtHoc forbade it more than a day ago":         {settledWith(off, event.ForbiddenUser), holds(40), true},
		"AtHoc forbade the duty that is stale now":     {with(settledWith(stale, event.ForbiddenUser), func(w *Worker) { w.Confirmed.Answered = noon.Unix() - 3600 }), holds(40), false},
		"AtHoc forbade it for a user of another name":  {with(settledWith(booking(20, 1, false), event.ForbiddenUser), func(w *Worker) { w.Sent.User, w.Confirmed.User = "james", "james" }), holds(40), true},
		"AtHoc forbade a value before, another is new": {with(settledWith(off, event.Applied), func(w *Worker) { w.Confirmed.Version.Row, w.Sent.Version.Row = 7, 7 }), holds(40), true},
	} {
		t.Run(name, func(t *testing.T) {
			before := c.worker
			j := c.worker.Expire(c.seen, "bond", noon, rules)
			require.False(t, j.UnderWay)
			require.Equal(t, c.send, j.Send)
			require.Equal(t, c.send, j.Why == WhyStale)
			require.Equal(t, before, c.worker, "a judgement changes nothing")

			if c.send {
				require.False(t, j.WantOn)
			}
		})
	}
}

func TestExpireWithoutALifetime(t *testing.T) {
	w := settledWith(booking(300, 1, false), event.Applied)
	require.False(t, w.Expire(holds(9000), "bond", noon, Rules{}).Send)
	require.False(t, ExpireUnmanaged(holds(9000), nil, noon, Rules{}).Send)
}

func TestCompare(t *testing.T) {
	on, off, stale := booking(2, 1, true), booking(2, 1, false), booking(30, 1, true)
	empty := Observed{Seen: noon}
	odd := Observed{Odd: true, Seen: noon}
	for name, c := range map[string]struct {
		worker Worker
		seen   Observed
		why    string
		send   bool
	}{
		"on duty in both":                      {settledWith(on, event.Applied), holds(2), "", false},
		"off duty in both":                     {settledWith(off, event.Applied), empty, "", false},
		"stale here, nothing there":            {settledWith(stale, event.Applied), empty, "", false},
		"the second of two moments":            {settledWith(on, event.Applied), Observed{On: true, At: on.At - 3600, At2: on.At, Seen: noon}, "", false},
		"the first of two moments":             {settledWith(on, event.Applied), Observed{On: true, At: on.At, At2: on.At + 3600, Seen: noon}, "", false},
		"an hour apart in no such hour":        {settledWith(on, event.Applied), Observed{On: true, At: on.At - 3600, Seen: noon}, WhyOlder, true},
		"cleared":                              {settledWith(on, event.Applied), empty, WhyCleared, true},
		"older":                                {settledWith(on, event.Applied), holds(5), WhyOlder, true},
		"older and stale":                      {settledWith(on, event.Applied), holds(50), WhyOlder, true},
		"newer":                                {settledWith(on, event.Applied), holds(1), WhyNewer, true},
		"a second newer":                       {settledWith(on, event.Applied), Observed{On: true, At: on.At + 1, Seen: noon}, WhyNewer, true},
		"not a date":                           {settledWith(on, event.Applied), odd, WhyOdd, true},
		"not a date, off duty is wanted":       {settledWith(off, event.Applied), odd, WhyOdd, true},
		"booked off, on duty there":            {settledWith(off, event.Applied), holds(5), WhyBookedOff, true},
		"booked off, on duty since that time":  {settledWith(off, event.Applied), holds(2), WhyBookedOff, true},
		"booked off, newer there":              {settledWith(off, event.Applied), holds(1), WhyNewer, true},
		"booked off, stale there":              {settledWith(off, event.Applied), holds(25), WhyStale, true},
		"stale in both":                        {settledWith(stale, event.Applied), holds(30), WhyStale, true},
		"stale here, newer there":              {settledWith(stale, event.Applied), holds(1), WhyNewer, true},
		"stale here, more stale there":         {settledWith(stale, event.Applied), holds(50), WhyStale, true},
		"never sent, as it was stale":          {with(Worker{}, func(w *Worker) { resolveNow(w, stale, "bond") }), holds(30), WhyStale, true},
		"AtHoc has the user now":               {settledWith(on, event.UnknownUser), empty, WhyCleared, true},
		"AtHoc forbids it":                     {settledWith(on, event.ForbiddenUser), empty, WhyForbidden, false},
		"AtHoc forbids it, but nothing is due": {settledWith(off, event.ForbiddenUser), empty, "", false},
		"AtHoc does not take it":               {settledWith(on, event.Dead), empty, WhyDead, false},
	} {
		t.Run(name, func(t *testing.T) {
			j := c.worker.Compare(c.seen, "bond", noon, rules)
			require.False(t, j.UnderWay)
			require.Equal(t, c.why, j.Why)
			require.Equal(t, c.send, j.Send)
		})
	}
}

func TestCorrect(t *testing.T) {
	t.Run("the latest event is sent, and its answer is learnt anew", func(t *testing.T) {
		w := settledWith(booking(2, 1, true), event.Applied)
		u, settled := w.Correct("007", "bond", event.ReasonReconcile, noon, rules)
		require.Equal(t, event.Pending, settled)
		require.Equal(t, &event.Update{
			User: "bond", Employee: "007", On: true, At: w.Latest.At, Version: w.Latest.Version, File: "b", Reason: event.ReasonReconcile,
		}, u)
		require.True(t, w.Unconfirmed(), "it is made again if it is lost with the broker's store")
		w.Answer(answer(u, event.Applied), noon, rules)
		require.False(t, w.Unconfirmed())
	})
	t.Run("lost with the broker's store", func(t *testing.T) {
		w := settledWith(booking(30, 1, true), event.Applied)
		w.Correct("007", "bond", event.ReasonExpiry, noon, rules)
		u, _ := w.Resolve("007", "bond", event.ReasonRecovery, noon, rules)
		require.NotNil(t, u)
		require.False(t, u.On)
	})
	t.Run("a late answer to the duty does not pass for one to its end", func(t *testing.T) {
		w := settledWith(booking(30, 1, true), event.Applied)
		on := w.Confirmed.Sent
		w.Correct("007", "bond", event.ReasonExpiry, noon, rules)
		w.Answer(event.Answer{User: "bond", Employee: "007", File: on.File, Version: on.Version, On: true, At: on.At, Outcome: event.Applied}, noon, rules)
		require.True(t, w.Unconfirmed())
	})
	t.Run("a row that was dead, and is stale now, is not settled as applied", func(t *testing.T) {
		w := settledWith(booking(30, 1, true), event.Dead)
		_, settled := w.Correct("007", "bond", event.ReasonExpiry, noon, rules)
		require.Equal(t, event.Expired, settled)
	})
	t.Run("an open row that is stale is settled", func(t *testing.T) {
		w := with(settledWith(booking(30, 1, true), event.Applied), func(w *Worker) { w.Open = true })
		_, settled := w.Correct("007", "bond", event.ReasonExpiry, noon, rules)
		require.Equal(t, event.Expired, settled)
		require.False(t, w.Open)
	})
	t.Run("nobody to send to", func(t *testing.T) {
		w := settledWith(booking(30, 1, true), event.Applied)
		before := w
		u, _ := w.Correct("007", "", event.ReasonExpiry, noon, rules)
		require.Nil(t, u)
		require.Equal(t, before, w)
	})
}

func TestExpireUnmanaged(t *testing.T) {
	ago := func(d time.Duration) int64 { return noon.Add(-d).Unix() }
	for name, c := range map[string]struct {
		seen     Observed
		last     *Clear
		underWay bool
		send     bool
	}{
		"stale":                         {holds(25), nil, false, true},
		"fresh":                         {holds(23), nil, false, false},
		"nothing":                       {Observed{Seen: noon}, nil, false, false},
		"not a date":                    {Observed{Odd: true, Seen: noon}, nil, false, false},
		"perhaps not stale":             {Observed{On: true, At: ago(24*time.Hour + time.Minute), At2: ago(23*time.Hour + time.Minute), Seen: noon}, nil, false, false},
		"cleared, no answer yet":        {holds(25), &Clear{Published: ago(time.Minute)}, true, false},
		"cleared, no answer for long":   {holds(25), &Clear{Published: ago(2 * time.Hour)}, false, true},
		"cleared while AtHoc was asked": {holds(25), &Clear{Published: ago(time.Minute), Outcome: event.Applied, Answered: ago(time.Second)}, true, false},
		"cleared, and set again since":  {holds(25), &Clear{Published: ago(time.Hour), Outcome: event.Applied, Answered: ago(time.Hour)}, false, true},
		"forbidden":                     {holds(25), &Clear{Published: ago(time.Hour), Outcome: event.ForbiddenUser, Answered: ago(time.Hour)}, false, false},
		"not taken":                     {holds(25), &Clear{Published: ago(time.Hour), Outcome: event.Dead, Answered: ago(time.Hour)}, false, false},
		"forbidden a day ago":           {holds(25), &Clear{Published: ago(25 * time.Hour), Outcome: event.ForbiddenUser, Answered: ago(25 * time.Hour)}, false, true},
		"unknown then, but there now":   {holds(25), &Clear{Published: ago(time.Hour), Outcome: event.UnknownUser, Answered: ago(time.Hour)}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			j := ExpireUnmanaged(c.seen, c.last, noon, rules)
			require.Equal(t, c.underWay, j.UnderWay)
			require.Equal(t, c.send, j.Send)
			require.False(t, j.WantOn)
		})
	}
}

// TestObservationsComeToWhatIsWanted: AtHoc is changed by hand, loses updates and refuses some; the janitor looks at
// moments before and after answers, and its observations arrive late. Whatever happens, nothing older than what AtHoc
// was sent is sent, fresh duty that is wanted is never cleared, and nothing is sent twice without an answer in between.
// Once all is quiet, a comparison brings AtHoc to what the latest event says and finds nothing more.
func TestObservationsComeToWhatIsWanted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &mirror{life: life{now: noon}}
		t.Repeat(map[string]func(*rapid.T){
			"event": func(t *rapid.T) {
				at := m.now.Add(-time.Duration(rapid.IntRange(0, 40).Draw(t, "hours")) * time.Hour).Unix()
				e := Event{
					Version: event.Version{Rank: at, Sequence: 1, Row: len(m.history) + 1}, File: "a", On: rapid.Bool().Draw(t, "on"), At: at,
				}
				m.history = append(m.history, e)
				m.take(e)

				if rapid.Bool().Draw(t, "resolved") {
					m.resolve(t)
				}
			},
			"resolve": func(t *rapid.T) { m.resolve(t) },
			"by hand": func(t *rapid.T) {
				m.holds = Observed{}
				if rapid.Bool().Draw(t, "on") {
					m.holds = Observed{On: true, At: m.now.Add(-time.Duration(rapid.IntRange(0, 60).Draw(t, "hours")) * time.Hour).Unix()}
				}
			},
			"call": func(t *rapid.T) {
				m.call(rapid.SampledFrom([]event.Outcome{event.Applied, event.Pending, event.UnknownUser}).Draw(t, "outcome"))
			},
			"look": func(*rapid.T) {
				m.seen = m.holds
				m.seen.Seen, m.looked = m.now, true
			},
			"observe": func(t *rapid.T) { m.observe(t, rapid.Bool().Draw(t, "expire")) },
			"repeat":  func(t *rapid.T) { m.waiting(t, "repeat", m.w.Repeat("007", m.now)) },
			"time": func(t *rapid.T) {
				m.now = m.now.Add(time.Duration(rapid.IntRange(1, 10*3600).Draw(t, "seconds")) * time.Second)
			},
		})
		m.quiet(t)
	})
}

// mirror is a worker and what AtHoc has of the worker.
type mirror struct {
	life
	// holds is what AtHoc has, and seen what the janitor saw when it last looked.
	holds, seen Observed
	looked      bool
	// update is the update in the table for which no call has been made yet.
	update *event.Update
}

func (m *mirror) waiting(t *rapid.T, why string, u *event.Update) {
	if u != nil {
		m.publish(t, why, u)
		m.update = u
	}
}

func (m *mirror) resolve(t *rapid.T) {
	if m.w.Unresolved {
		u, _ := m.w.Resolve("007", "bond", event.ReasonEvent, m.now, rules)
		m.waiting(t, "event", u)
	}
}

// call plays the publisher and AtHoc.
func (m *mirror) call(o event.Outcome) {
	u := m.update
	if u == nil {
		return
	}

	a := answer(u, o)
	a.On = u.On && !rules.Stale(true, u.At, m.now)
	a.Answered = m.now.Unix()
	switch o {
	case event.Pending:
		m.w.Answer(a, noon, rules)
		return // the update stays
	case event.Applied:
		m.holds = Observed{On: a.On}
		if a.On {
			m.holds.At = u.At
		}

		if u.On && !a.On {
			a.Outcome = event.Expired
		}
	}

	m.update = nil
	m.w.Answer(a, noon, rules)
}

// observe judges what was seen, and corrects AtHoc.
func (m *mirror) observe(t *rapid.T, expire bool) {
	if !m.looked || !m.w.Known() {
		return
	}

	judge := m.w.Compare
	if expire {
		judge = m.w.Expire
	}

	j := judge(m.seen, "bond", m.now, rules)
	if !j.Send {
		return
	}

	if m.update != nil {
		t.Fatalf("%+v is sent although %+v waits", j, m.update)
	}

	fresh := m.w.Latest.On && !rules.Stale(true, m.w.Latest.At, m.now)
	u, _ := m.w.Correct("007", "bond", event.ReasonReconcile, m.now, rules)
	if u.On != fresh || u.On != j.WantOn || expire && fresh {
		t.Fatalf("%+v was sent for %+v", u, m.w.Latest)
	}

	m.waiting(t, "observation", u)

	if again := judge(m.seen, "bond", m.now, rules); !again.UnderWay {
		t.Fatal("the same observation once more would be sent twice")
	}
}

// quiet lets everything end that is under way, and then compares until there is no difference.
func (m *mirror) quiet(t *rapid.T) {
	if !m.w.Known() {
		return
	}

	for round := range 3 {
		m.resolve(t)
		m.call(event.Applied)
		m.now = m.now.Add(2 * rules.Lateness)
		m.waiting(t, "repeat", m.w.Repeat("007", m.now))
		m.call(event.Applied)

		m.now = m.now.Add(2 * rules.Lateness)
		m.seen, m.looked = m.holds, true
		m.seen.Seen = m.now
		j := m.w.Compare(m.seen, "bond", m.now, rules)
		if j.UnderWay {
			t.Fatalf("in round %d something is under way: %+v", round, m.w)
		}

		if round == 2 && j.Why != "" {
			t.Fatalf("AtHoc has %+v, wanted %+v: %s", m.holds, m.w.Latest, j.Why)
		}

		m.observe(t, false)
	}
}
