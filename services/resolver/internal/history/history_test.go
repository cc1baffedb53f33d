package history

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/bus"
	"bobosync/shared/bustest"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/history"
	"bobosync/shared/topology"
)

const timeout = 2 * time.Second

// bench is a keeper with a real broker and a clock of its own.
type bench struct {
	t      *testing.T
	conn   *bus.Conn
	keeper *Keeper
	now    time.Time
}

func newBench(t *testing.T) *bench {
	t.Helper()
	t.Parallel()
	b := &bench{t: t, conn: bustest.Start(t).Connect(t), now: time.Now()}
	b.provision()
	b.keeper = b.begin()

	return b
}

func (b *bench) provision() {
	settings := topology.Settings{Replicas: 1, EntriesMaxBytes: 1 << 20, CallTimeout: timeout}
	require.NoError(b.t, topology.Provision(b.t.Context(), b.conn.JS, settings, topology.Everyone))
}

// begin returns the keeper of another session.
func (b *bench) begin() *Keeper {
	k, err := New(b.conn, timeout, bustest.Logger(), func() time.Time { return b.now })
	require.NoError(b.t, err)
	b.t.Cleanup(k.Close)
	require.NoError(b.t, k.Begin(b.t.Context()))

	return k
}

func (b *bench) messages(stream string) uint64 {
	s, err := b.conn.JS.Stream(b.t.Context(), stream)
	require.NoError(b.t, err)
	return s.CachedInfo().State.Msgs
}

// answers returns the answers to a call that sent so many workers, from number first on, as on or off duty.
func answers(id string, first, workers int, on bool, sent time.Time) event.Acks {
	a := event.Acks{From: "publisher", Calls: []event.Call{{
		ID: id, Publisher: "p", Sent: sent.UnixMilli(), Answered: sent.Add(time.Second).UnixMilli(), Status: 200, Users: workers,
	}}}
	for n := first; n < first+workers; n++ {
		a.Answers = append(a.Answers, event.Answer{
			User: fmt.Sprintf("User%d", n), Employee: fmt.Sprint(n), File: "f", Version: event.Version{Row: n + 2}, Outcome: event.Applied,
			On: on, At: sent.Unix() - 60, Answered: sent.Unix(), Call: 1,
		})
	}

	return a
}

func (b *bench) past(text string, at time.Time, most int) control.PastAnswer {
	b.t.Helper()
	got, err := b.keeper.Past(b.t.Context(), text, "User"+text, control.PastRequest{At: at, Most: most})
	require.NoError(b.t, err)
	return got
}

// TestDeliveries checks that what is read for one worker and for all workers agrees with the whole history, at any
// moment, with calls that got no answer, with and without marks, and also if everything is recorded a second time.
func TestDeliveries(t *testing.T) {
	b := newBench(t)

	const workers = 12
	rng := rand.New(rand.NewPCG(7, 7))
	began := b.now
	whole := map[string][]event.Delivery{}
	var waits []Answered
	for call := range 60 {
		b.now = b.now.Add(time.Duration(rng.IntN(40)) * 100 * time.Millisecond)
		first := rng.IntN(workers)
		a := answers(fmt.Sprintf("call-%03d", call), first, 1+rng.IntN(workers-first), rng.IntN(2) == 0, b.now)
		switch rng.IntN(5) {
		case 0: // in doubt
			for i := range a.Answers {
				a.Answers[i].Outcome = event.Pending
			}
		case 1: // AtHoc may have taken it, and is done with the call
			a.Answers, a.InDoubt = nil, a.Answers
		}

		if call%4 == 0 && len(a.Answers) > 0 && !a.Answers[0].On { // cleared for its age: no booking is known
			for i := range a.Answers {
				a.Answers[i].Employee = ""
			}
		}

		for _, deliveries := range deliveriesIn(&a, b.keeper.longest) {
			whole[deliveries.User] = append(whole[deliveries.User], deliveries)
		}

		stored := Answered{Acks: a, Sequence: uint64(call + 1), Stored: b.now}
		switch call % 5 {
		case 3: // the next one is stored first
			waits = append(waits, stored)
			continue
		case 4:
			require.NoError(t, b.keeper.Record(t.Context(), []Answered{stored}))
			b.keeper.marked = time.Time{}
			require.NoError(t, b.keeper.Tend(t.Context()), "a mark leaves out what is too young")
		default:
			require.NoError(t, b.keeper.Record(t.Context(), append([]Answered{stored}, waits...)))
			waits = nil
		}

		if call%7 == 0 {
			before := b.messages(topology.StreamHistory)
			require.NoError(t, b.keeper.Record(t.Context(), []Answered{stored}), "it comes again")
			require.Equal(t, before, b.messages(topology.StreamHistory), "and is not stored twice")
		}

		if call%20 == 16 {
			b.keeper.marked = time.Time{}
			b.now = b.now.Add(lateness)
			require.NoError(t, b.keeper.Tend(t.Context()))
		}

		b.now = b.now.Add(time.Second)
	}

	require.NoError(t, b.keeper.Record(t.Context(), waits))
	end := b.now
	b.now = b.now.Add(time.Hour)
	info, known, err := b.keeper.reader.loadInfo(t.Context())
	require.NoError(t, err)
	require.True(t, known)

	states := map[history.State]int{}
	for range 40 {
		at := began.Add(time.Duration(rng.Int64N(int64(end.Sub(began)))))
		duty, err := b.keeper.OnDuty(t.Context(), control.OnDutyRequest{At: at})
		require.NoError(t, err)

		shown := map[string]history.State{}
		for _, w := range duty.Workers {
			shown[w.User] = w.State
		}

		for _, n := range rng.Perm(workers)[:4] {
			employee := fmt.Sprint(n)
			user := "User" + employee
			deliveries := whole[user]
			want := history.At(deliveries, info, at)
			got := b.past(employee, at, 0)
			require.Equal(t, want.State, got.State, "worker %s at %s", employee, at)

			states[want.State]++
			if want.Confirmed != nil {
				require.Equal(t, want.Confirmed.Call.ID, got.Confirmed.Call)
			}

			if want.Next != nil {
				require.Equal(t, want.Next.Call.ID, got.Next.Call)
			}

			if want.State == history.On || want.State == history.Uncertain {
				require.Equal(t, want.State, shown[user], "worker %s among all at %s", employee, at)
			} else {
				require.NotContains(t, shown, user)
			}
		}
	}

	require.Greater(t, min(states[history.On], states[history.Off], states[history.Uncertain]), 10, "the test tries them all")
	require.Len(t, b.past("3", end, 1000).Deliveries, len(history.Sort(whole["User3"])), "all of it is listed if that is wanted")

	var lines []int
	req := control.FileCallsRequest{File: "f", From: began, To: end}
	page, err := b.keeper.FileCalls(t.Context(), req)
	require.NoError(t, err)

	for _, deliveries := range page.Deliveries {
		lines = append(lines, deliveries.Line)
		require.Empty(t, deliveries.User)
	}

	require.True(t, slices.IsSorted(lines))

	all := 0
	for _, deliveries := range whole {
		all += len(deliveries)
	}

	require.Len(t, lines, all)
}

// TestPages checks that everybody on duty is listed once, whatever the size of the pages.
func TestPages(t *testing.T) {
	t.Parallel()

	at := time.Now()
	all := userDeliveries{}
	for n := range dutyPage + 7 {
		a := answers("c", n, 1, true, at)
		all.add(stored{Delivery: deliveriesIn(&a, time.Minute)[0]})
	}

	answer := onDuty(all, event.HistoryInfo{}, at.Add(time.Minute))
	first := page(answer, "")
	require.Len(t, first.Workers, dutyPage)
	require.True(t, first.More)
	second := page(answer, topology.NormalUsername(first.Workers[dutyPage-1].User))
	require.Len(t, second.Workers, 7)
	require.False(t, second.More)
	require.Equal(t, dutyPage+7, second.Total)
}

// TestAPublisherIsKilled checks that the history has a call whose publisher ended without storing the answer.
func TestAPublisherIsKilled(t *testing.T) {
	b := newBench(t)
	kv, err := b.conn.JS.KeyValue(t.Context(), topology.BucketCalls)
	require.NoError(t, err)

	sent := b.now
	calling := event.Calling{Calls: []event.Attempt{{
		Call: event.Call{ID: "c", Publisher: "p", Sent: sent.UnixMilli(), Users: 1}, Files: []string{"f"},
		Whom: []event.Sent{{User: "User7", Employee: "7", On: true, At: 1, File: 1, Row: 3}},
	}}}
	_, err = kv.Put(t.Context(), topology.CallsKey("p"), event.Encode(&calling))
	require.NoError(t, err)

	b.now = b.now.Add(storing)
	before := b.messages(topology.StreamHistory)
	require.NoError(t, b.keeper.Tend(t.Context()))
	require.Equal(t, before, b.messages(topology.StreamHistory), "it may still be at work")
	require.Equal(t, history.Uncertain, b.past("7", b.now, 10).State, "which is known at once all the same")
	b.now = b.now.Add(timeout + time.Second)
	require.NoError(t, b.keeper.Tend(t.Context()))
	got := b.past("7", sent.Add(time.Second), 10)
	require.Equal(t, history.Uncertain, got.State)
	require.Equal(t, "f", got.Doubts[0].File)
	require.Equal(t, 3, got.Doubts[0].Line)

	before = b.messages(topology.StreamHistory)
	require.NoError(t, b.keeper.Tend(t.Context()))
	require.Equal(t, before, b.messages(topology.StreamHistory), "it is told once")
	_, err = kv.Put(t.Context(), topology.CallsKey("q"), []byte("nonsense"))
	require.NoError(t, err)
	require.NoError(t, b.keeper.Tend(t.Context()))
	_, err = kv.Get(t.Context(), topology.CallsKey("q"))
	require.ErrorIs(t, err, jetstream.ErrKeyNotFound, "what cannot be read is not tried for ever")
}

// TestACallThatWasLostWhileTheResolverWasDown checks that such a call is stored at the start, before the answers of
// earlier calls, and that those count all the same.
func TestACallThatWasLostWhileTheResolverWasDown(t *testing.T) {
	b := newBench(t)
	kv, err := b.conn.JS.KeyValue(t.Context(), topology.BucketCalls)
	require.NoError(t, err)

	down := b.now
	calling := event.Calling{Calls: []event.Attempt{{
		Call: event.Call{ID: "lost", Publisher: "p", Sent: down.Add(50 * time.Minute).UnixMilli(), Users: 1}, Files: []string{"g"},
		Whom: []event.Sent{{User: "User7", Employee: "7", On: true, At: 1, File: 1, Row: 3}},
	}}}
	_, err = kv.Put(t.Context(), topology.CallsKey("p"), event.Encode(&calling))
	require.NoError(t, err)

	b.now = down.Add(time.Hour)
	b.keeper = b.begin()
	require.NoError(t, b.keeper.Record(t.Context(), []Answered{
		{Acks: answers("first", 1, 2, true, down.Add(2*time.Minute)), Sequence: 1, Stored: down.Add(2 * time.Minute)},
	}))

	at := down.Add(10 * time.Minute)
	require.Equal(t, history.On, b.past("1", at, 10).State)
	duty, err := b.keeper.OnDuty(t.Context(), control.OnDutyRequest{At: at})
	require.NoError(t, err)
	require.Equal(t, 2, duty.Total)
	calls, err := b.keeper.FileCalls(t.Context(), control.FileCallsRequest{File: "f", From: down, To: at})
	require.NoError(t, err)
	require.Len(t, calls.Deliveries, 2)
}

// TestALostHistoryIsMadeAnew checks that a lost history is rebuilt from the answers that the broker still has, and says
// since when it is complete; and that lost answers make a period uncertain.
func TestALostHistoryIsMadeAnew(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	acks, err := b.conn.JS.Stream(ctx, topology.StreamAcks)
	require.NoError(t, err)

	begun := acks.CachedInfo().Created

	sent := b.now
	for i, on := range []bool{true, false} {
		a := answers(fmt.Sprint("c", i), 1, 1, on, sent.Add(time.Duration(i)*time.Minute))
		_, err := b.conn.JS.Publish(ctx, topology.SubjectAcks, event.Encode(&a))
		require.NoError(t, err)
	}

	consumer, err := acks.Consumer(ctx, topology.ConsumerResolverAcks)
	require.NoError(t, err)
	first, err := consumer.Next()
	require.NoError(t, err)
	require.NoError(t, first.DoubleAck(ctx))

	require.NoError(t, b.conn.JS.DeleteStream(ctx, topology.StreamHistory))
	b.provision()
	require.NoError(t, b.keeper.Tend(ctx))
	b.now = b.now.Add(time.Hour)
	got := b.past("1", b.now, 10)
	require.Equal(t, history.On, got.State, "the answer that was not consumed comes by itself")
	require.Len(t, got.Deliveries, 1)
	require.WithinDuration(t, begun, got.CompleteFrom, 0)

	require.NoError(t, b.conn.JS.DeleteStream(ctx, topology.StreamAcks))
	b.provision()
	b.keeper = b.begin()
	b.now = b.now.Add(time.Hour)
	got = b.past("1", b.now, 10)
	require.Equal(t, history.Uncertain, got.State, "answers may have been lost with the stream")
	require.Len(t, got.Gaps, 1)
	require.NoError(t, b.keeper.Record(ctx, []Answered{{Acks: answers("c9", 1, 1, false, b.now), Sequence: 99, Stored: b.now}}))
	b.now = b.now.Add(time.Hour)
	require.Equal(t, history.Off, b.past("1", b.now, 10).State, "until it was told again")
}

// TestAMarkWaitsForWhatIsLate checks that an answer that is stored after a later one does not count as the last one for
// a mark in between.
func TestAMarkWaitsForWhatIsLate(t *testing.T) {
	b := newBench(t)
	began := b.now
	b.now = began.Add(time.Minute)
	for _, a := range []Answered{
		{Acks: answers("second", 1, 1, false, began.Add(10*time.Second)), Sequence: 2, Stored: b.now},
		{Acks: answers("first", 1, 1, true, began), Sequence: 1, Stored: b.now},
	} {
		require.NoError(t, b.keeper.Record(t.Context(), []Answered{a}))
		require.NoError(t, b.keeper.Tend(t.Context()))
	}

	duty, err := b.keeper.OnDuty(t.Context(), control.OnDutyRequest{At: began.Add(30 * time.Second)})
	require.NoError(t, err)
	require.Empty(t, duty.Workers)

	b.now = b.now.Add(lateness)
	b.keeper.marked = time.Time{}
	require.NoError(t, b.keeper.Tend(t.Context()))
	mark, err := b.keeper.reader.lastMark(t.Context(), b.now)
	require.NoError(t, err)
	require.Positive(t, mark.Through)
	require.Empty(t, mark.Open)
}

// TestWhatIsKnownOfTheHistoryOutlivesIt checks that what is known of the history as a whole is not lost when records
// are dropped for their age, and says from when on the history is complete.
func TestWhatIsKnownOfTheHistoryOutlivesIt(t *testing.T) {
	b := newBench(t)
	gap := event.Gap{From: 1, To: 2}
	info, _, err := b.keeper.reader.loadInfo(t.Context())
	require.NoError(t, err)

	info.Gaps = []event.Gap{gap}
	require.NoError(t, b.keeper.saveInfo(t.Context(), info))

	b.now = b.now.Add(time.Hour) // the calls are later than anything that the broker has stored so far, however long that took
	for call := range 3 {
		require.NoError(t, b.keeper.Record(t.Context(), []Answered{{Acks: answers(fmt.Sprint(call), 0, 3, true, b.now), Sequence: uint64(call + 1), Stored: b.now}}))
	}

	b.now = b.now.Add(markEvery + lateness)
	require.NoError(t, b.keeper.Tend(t.Context()))
	stream, err := b.conn.JS.Stream(t.Context(), topology.StreamHistory)
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSequence(9))) // as the broker drops old records
	kept, known, err := b.keeper.reader.loadInfo(t.Context())
	require.NoError(t, err)
	require.True(t, known)
	require.Equal(t, []event.Gap{gap}, kept.Gaps)
	require.True(t, kept.From.After(info.From))
	require.NoError(t, b.keeper.Tend(t.Context()))
	require.Equal(t, history.Unknown, b.past("0", kept.From.Add(-time.Millisecond), 5).State)
}

// TestAPublisherOfBefore checks records of publishers of an earlier version, which do not report their calls while
// publishers are upgraded one by one. What they sent AtHoc is in the history without a call's id, in order with what
// others sent. It is certain that AtHoc held it only after the second of the answer.
func TestAPublisherOfBefore(t *testing.T) {
	b := newBench(t)
	step := 2 * b.keeper.longest
	for n, on := range []bool{true, false, true} {
		a := answers(fmt.Sprint("call-", n), 0, 1, on, b.now)
		if n != 1 {
			a.Calls, a.Answers[0].Call = nil, 0
		}

		require.NoError(t, b.keeper.Record(t.Context(), []Answered{{Acks: a, Sequence: uint64(n + 1), Stored: b.now}}))
		b.now = b.now.Add(step)
	}

	past := b.past("0", b.now.Add(-step*5/2), 9)
	require.Equal(t, history.On, past.State)
	require.Empty(t, past.Confirmed.Call)
	require.Equal(t, "call-1", past.Next.Call)
	past = b.past("0", b.now.Add(-step*7/4), 9)
	require.Equal(t, history.Off, past.State)
	require.Empty(t, past.Next.Call)

	for _, late := range []time.Duration{-step / 4, -time.Second, 998 * time.Millisecond} {
		require.Equal(t, history.Uncertain, b.past("0", b.now.Add(-step).Truncate(time.Second).Add(late), 9).State, late)
	}

	past = b.past("0", b.now, 9)
	require.Equal(t, history.On, past.State)
	require.Len(t, past.Deliveries, 3)
}

// TestAMarkOfManyParts checks that a mark that is too large for one message is assembled from its parts, and that a
// mark that lacks a part does not count.
func TestAMarkOfManyParts(t *testing.T) {
	b := newBench(t)

	mark := event.Mark{At: b.now.UnixMilli(), Through: 7}
	for n := range 2*markPlaces + 1 {
		mark.Open = append(mark.Open, uint64(n))
	}

	small := event.Mark{At: b.now.UnixMilli(), Through: 3, Open: []uint64{1, 2}}
	for _, m := range []event.Mark{small, mark} {
		_, err := b.keeper.pub.PublishBatch(t.Context(), parts(m)...)
		require.NoError(t, err)
	}

	got, err := b.keeper.reader.lastMark(t.Context(), time.Now())
	require.NoError(t, err)
	slices.Sort(got.Open)
	require.Equal(t, mark.Open, got.Open)
	require.Equal(t, mark.Through, got.Through)

	stream, err := b.conn.JS.Stream(t.Context(), topology.StreamHistory)
	require.NoError(t, err)
	require.NoError(t, stream.DeleteMsg(t.Context(), stream.CachedInfo().State.LastSeq-1))
	got, err = b.keeper.reader.lastMark(t.Context(), time.Now())
	require.NoError(t, err)
	require.Equal(t, small.Through, got.Through)
	require.Equal(t, small.Open, got.Open)
}
