package resolver_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/shared/await"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// seen returns an AtHoc user who has been on duty for some hours.
func seen(user string, hoursAgo int) control.ObservedUser {
	return control.ObservedUser{User: user, On: true, At: time.Now().Add(-time.Duration(hoursAgo) * time.Hour).Unix()}
}

// observe plays the janitor, who asked AtHoc a few seconds after everything that the test did before.
func (b *bench) observe(purpose control.ObservePurpose, apply bool, users ...control.ObservedUser) control.ObserveAnswer {
	b.t.Helper()
	answer, err := ask[control.ObserveAnswer](b, control.Observe, control.ObserveRequest{
		Purpose: purpose, Seen: time.Now().Add(5 * time.Second), Apply: apply, Users: users,
	})
	require.NoError(b.t, err)

	return answer
}

// confirmed plays publishers and AtHoc, who take everything that waits.
func (b *bench) confirmed(users ...string) {
	b.t.Helper()

	table := b.table()
	for _, user := range users {
		b.answered(table[user], event.Applied, time.Now())
	}
}

func TestStaleDutyIsCleared(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ahead := b.clock()
	b.ready()
	b.file("a", 1, booked("00001", 60*23, true), booked("00002", 60*30, false))
	b.wants(map[string]bool{"one@example.org": true, "Two@example.org": false})
	b.confirmed("one@example.org", "Two@example.org")
	duty := b.table()["one@example.org"]

	ahead.Store(int64(2 * time.Hour))

	users := []control.ObservedUser{
		{User: "ONE@example.org", On: true, At: duty.At}, seen("two@example.org", 40), seen("three@example.org", 40),
		seen("stranger@example.org", 40), seen("fresh@example.org", 1), {User: "odd@example.org", Odd: true}, {User: "empty@example.org"},
		{User: "One@example.org", On: true, At: duty.At}, {User: " "},
	}
	before, table := b.published(), b.table()
	told := b.observe(control.Expire, false, users...)
	require.Len(t, told.Findings, 4, told)
	require.Zero(t, told.Published)
	require.Equal(t, before, b.published(), "it is only told")
	require.Equal(t, table, b.table())

	began := time.Now().Add(2 * time.Hour)
	done := b.observe(control.Expire, true, users...)
	require.Equal(t, control.ObserveAnswer{Compared: 2, Unmanaged: 4, Published: 4, Findings: []control.Finding{
		{User: "one@example.org", Employee: "00001", WantAt: duty.At, Why: "stale duty", Published: true},
		{User: "Two@example.org", Employee: "00002", WantAt: table["Two@example.org"].At, Why: "stale duty", Published: true},
		{User: "three@example.org", Employee: "00003", WantAt: users[2].At, Why: "stale duty", Published: true},
		{User: "stranger@example.org", WantAt: users[3].At, Why: "stale duty", Published: true},
	}}, done)
	got := b.table()
	want := duty
	want.On, want.Reason = false, event.ReasonExpiry
	require.Equal(t, want, got["one@example.org"], "spelt as in the mapping, with the latest event's version")
	require.Equal(t, event.Update{
		V: event.CurrentVersion, User: "stranger@example.org", At: users[3].At, Version: event.Version{Rank: users[3].At}, Reason: event.ReasonExpiry,
	}, got["stranger@example.org"])
	require.Equal(t, event.ReasonExpiry, got["three@example.org"].Reason)
	require.Empty(t, got["three@example.org"].Employee, "BOBO has sent nothing about this worker")

	t.Run("asked once more, as after a crash of the janitor, nothing is published twice", func(t *testing.T) {
		before := b.published()
		again := b.observe(control.Expire, true, users...)
		require.Equal(t, 4, again.UnderWay)
		require.Empty(t, again.Findings)
		require.Equal(t, before, b.published())
	})
	t.Run("nor if AtHoc has answered after it was asked", func(t *testing.T) {
		before := b.published()
		for _, user := range []string{"one@example.org", "stranger@example.org"} {
			b.answered(got[user], event.Applied, time.Now().Add(10*time.Second))
		}

		again := b.observe(control.Expire, true, users[0], users[3])
		require.Equal(t, 2, again.UnderWay)
		require.Equal(t, before, b.published())
	})
	t.Run("what is stale once more is cleared once more", func(t *testing.T) {
		b.answered(got["stranger@example.org"], event.Applied, began.Add(-3*time.Hour))
		require.Equal(t, 1, b.observe(control.Expire, true, users[3]).Published)
	})
}

// TestAnExpiredRowIsSettled: a row that was dead does not count as applied when its duty is cleared.
func TestAnExpiredRowIsSettled(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ahead := b.clock()
	b.ready()
	b.file("a", 1, booked("00001", 60*23, true))
	b.wants(map[string]bool{"one@example.org": true})
	b.answered(b.table()["one@example.org"], event.Dead, time.Now())
	ahead.Store(int64(2 * time.Hour))
	require.Equal(t, 1, b.observe(control.Expire, true, seen("one@example.org", 30)).Published)
	b.settled("a", map[int]event.Outcome{2: event.Expired})
}

// TestANewerEventWinsOverAClear: it does, whichever comes first, for a worker who is known and for one who is not.
func TestANewerEventWinsOverAClear(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ready()
	b.file("a", 1, booked("00001", 60*30, false))
	b.wants(map[string]bool{"one@example.org": false})
	b.confirmed("one@example.org")

	users := []control.ObservedUser{seen("one@example.org", 40), seen("Two@example.org", 40)}
	require.Equal(t, 2, b.observe(control.Expire, true, users...).Published)
	b.file("b", 2, booked("00001", 5, true), booked("00002", 5, true))
	b.wants(map[string]bool{"one@example.org": true, "Two@example.org": true})
	table := b.table()
	require.Equal(t, "00002", table["Two@example.org"].Employee, "it is the worker's now")

	after := b.observe(control.Expire, true, users...)
	require.Equal(t, control.ObserveAnswer{Compared: 2, UnderWay: 2}, after)
	b.confirmed("one@example.org", "Two@example.org")
	after = b.observe(control.Expire, true, users...)
	require.Equal(t, control.ObserveAnswer{Compared: 2}, after, "fresh duty is wanted: a difference is reconciliation's")
	require.Equal(t, table, b.table())
}

// TestAHeldBookingIsNotCleared: the rest of the booking's file is still to come, so the booking is stored but not sent.
func TestAHeldBookingIsNotCleared(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ready()

	first := booked("00001", 5, true)
	first.Row = 2
	b.publish(topology.EntriesSubject("a"), &event.Entries{File: "a", Sequence: 1, Entries: []event.Entry{first}})
	b.idle()
	require.Equal(t, control.ObserveAnswer{Compared: 1, UnderWay: 1}, b.observe(control.Expire, true, seen("one@example.org", 40)))
	b.publish(topology.EntriesSubject("a"), &event.Entries{File: "a", Sequence: 1, Last: true})
	b.wants(map[string]bool{"one@example.org": true})
}

// TestAClearWhoseCallWasGivenUp: AtHoc may still work on the clear after the worker, unknown until then, has booked on.
// So the booking is sent once more.
func TestAClearWhoseCallWasGivenUp(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ahead := b.clock()
	b.ready()
	require.Equal(t, 1, b.observe(control.Expire, true, seen("one@example.org", 40)).Published)
	b.answered(b.table()["one@example.org"], event.Pending, time.Now())
	b.restart()
	b.file("a", 1, booked("00001", 5, true))
	b.wants(map[string]bool{"one@example.org": true})
	b.confirmed("one@example.org")
	require.Equal(t, event.ReasonEvent, b.table()["one@example.org"].Reason)
	ahead.Store(int64(time.Hour)) // far longer than AtHoc may be late
	b.eventually(func() any { return b.table()["one@example.org"].Reason }, event.ReasonRepeat)
	require.True(t, b.table()["one@example.org"].On)
}

func TestWhatAtHocForbidsIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ready()
	b.file("a", 1, booked("00001", 60*30, false), booked("00002", 60*30, false))
	b.wants(map[string]bool{"one@example.org": false, "Two@example.org": false})
	b.answered(b.table()["one@example.org"], event.ForbiddenUser, time.Now())
	b.answered(b.table()["Two@example.org"], event.UnknownUser, time.Now())

	users := []control.ObservedUser{seen("one@example.org", 40), seen("Two@example.org", 40), seen("stranger@example.org", 40)}
	first := b.observe(control.Expire, true, users...)
	require.Equal(t, 2, first.Published)
	require.Equal(t, "Two@example.org", first.Findings[0].User, "AtHoc has the user now")
	b.answered(b.table()["stranger@example.org"], event.ForbiddenUser, time.Now())
	before := b.published()
	second := b.observe(control.Expire, true, users[0], users[2])
	require.Equal(t, control.ObserveAnswer{Compared: 1, Unmanaged: 1}, second)
	require.Equal(t, before, b.published())

	compared := b.observe(control.Compare, true, users[0])
	require.Equal(t, "AtHoc refuses to change this user", compared.Findings[0].Why)
	require.False(t, compared.Findings[0].Published)
	require.Equal(t, before, b.published())
}

func TestCompareAndApply(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ready()
	b.file("a", 1, booked("00001", 60, true), booked("00002", 60, false), booked("00003", 60, true))

	all := map[string]bool{"one@example.org": true, "Two@example.org": false, "three@example.org": true}
	b.wants(all)
	table := b.table()
	b.confirmed("one@example.org", "Two@example.org", "three@example.org")

	at := table["three@example.org"].At
	users := []control.ObservedUser{
		{User: "one@example.org"}, seen("two@example.org", 2), {User: "three@example.org", On: true, At: at - 3600, At2: at},
		seen("stranger@example.org", 40), {User: "odd@example.org", Odd: true}, {User: "empty@example.org"},
	}
	want := control.ObserveAnswer{Compared: 3, Unmanaged: 2, Findings: []control.Finding{
		{User: "one@example.org", Employee: "00001", WantOn: true, WantAt: table["one@example.org"].At, Why: "cleared in AtHoc by hand, or an update was lost"},
		{User: "Two@example.org", Employee: "00002", WantAt: table["Two@example.org"].At, Why: "still on duty in AtHoc although booked off"},
	}}
	before := b.published()
	require.Equal(t, want, b.observe(control.Compare, false, users...))
	require.Equal(t, before, b.published())

	for i := range want.Findings {
		want.Findings[i].Published = true
	}

	want.Published = 2
	require.Equal(t, want, b.observe(control.Compare, true, users...))
	b.wants(all)

	for _, user := range []string{"one@example.org", "Two@example.org"} {
		u := table[user]
		u.Reason = event.ReasonReconcile
		require.Equal(t, u, b.table()[user])
	}

	require.Equal(t, 2, b.observe(control.Compare, true, users...).UnderWay, "once")
	require.Equal(t, before+2, b.published())
}

// TestACorrectionThatIsLostWithTheBrokersStore: it is made again, although AtHoc had confirmed the same value before.
func TestACorrectionThatIsLostWithTheBrokersStore(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ready()
	b.file("a", 1, booked("00001", 60*30, false))
	b.wants(map[string]bool{"one@example.org": false})
	b.confirmed("one@example.org")

	users := []control.ObservedUser{seen("one@example.org", 40), seen("stranger@example.org", 40)}
	require.Equal(t, 2, b.observe(control.Expire, true, users...).Published)

	for _, stream := range []string{topology.StreamEntries, topology.StreamUpdates, topology.StreamAcks, topology.StreamMapping} {
		require.NoError(t, b.conn.JS.DeleteStream(t.Context(), stream))
	}

	b.wants(map[string]bool{"one@example.org": false})
	require.Equal(t, event.ReasonRecovery, b.table()["one@example.org"].Reason)
	require.Equal(t, 1, b.observe(control.Expire, true, users...).Published, "the stranger is found again at the janitor's next look")
}

// TestAFreshStateStoreDoesNotTakeAClearForAnEvent: the table of updates from which it begins contains the clear of an
// unmanaged user.
func TestAFreshStateStoreDoesNotTakeAClearForAnEvent(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start()
	epoch := b.recovered("")
	b.mapping("m1", staff)
	b.file("a", 1, booked("00002", 60, true))
	b.wants(map[string]bool{"Two@example.org": true})
	require.Equal(t, 1, b.observe(control.Expire, true, seen("one@example.org", 40)).Published)
	b.stop()
	require.NoError(t, os.Remove(filepath.Join(b.cfg.Data.Directory, "resolver.db")))
	b.start()
	got, err := b.worker("00001")
	require.NoError(t, err)
	require.False(t, got.Known)
	b.recovered(epoch)
	b.file("b", 2, booked("00001", 60*24*9, true), booked("00003", 5, true))
	b.settled("b", map[int]event.Outcome{2: event.Expired})
	b.wants(map[string]bool{"one@example.org": false, "Two@example.org": true, "three@example.org": true})
}

func TestObservationsAreRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start()
	_, err := ask[control.ObserveAnswer](b, control.Observe, control.ObserveRequest{Purpose: control.Expire})
	refused(t, err, "still making good what was lost; try again")
	b.recovered("")
	b.mapping("m1", staff)
	b.idle()
	_, err = ask[control.ObserveAnswer](b, control.Observe, control.ObserveRequest{Purpose: "guess"})
	refused(t, err, "same version")
	_, err = ask[control.ObserveAnswer](b, control.Observe, control.ObserveRequest{
		Purpose: control.Expire, Users: make([]control.ObservedUser, control.MaxObserved+1),
	})
	refused(t, err, "too many")
}

// TestTheLargestObservation: request and answer stay below the broker's limit for a message.
func TestTheLargestObservation(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ready()

	users := make([]control.ObservedUser, control.MaxObserved)
	for i := range users {
		users[i] = seen(fmt.Sprintf("%s.%05d@long.name.of.an.organisation.example.org", strings.Repeat("x", 40), i), 40)
	}

	require.Equal(t, control.MaxObserved, b.observe(control.Expire, true, users...).Published)
	require.Equal(t, uint64(control.MaxObserved), b.published())
}

// TestBookingsDuringACleanup: the janitor goes through 2,500 stale users, of whom half are workers whom BOBO has
// reported, while 500 of them book on. Whatever the interleaving, these 500 are on duty in the end and nobody else is,
// and no booking is undone even for a moment.
func TestBookingsDuringACleanup(t *testing.T) {
	t.Parallel()
	const crowd, booking, parts = 2500, 500, 10
	b := newBench(t)
	b.start()
	b.recovered("")

	mapping := map[string]string{}
	users := make([]control.ObservedUser, crowd)
	var known []event.Entry
	for i := range crowd {
		employee := fmt.Sprintf("%05d", i)
		mapping[employee] = "w" + employee + "@example.org"
		users[i] = seen("W"+employee+"@example.org", 40)
		if i%2 == 0 {
			e := booked(employee, 60*30, false)
			e.Row = i + 2
			known = append(known, e)
		}
	}

	b.mapping("m1", mapping)
	defer b.publishers()()

	for part := range slices.Chunk(known, 500) {
		b.publish(topology.EntriesSubject("known"), &event.Entries{File: "known", Sequence: 1, Last: true, Entries: part})
	}

	await.True(t, func() bool { return b.waiting() == uint64(len(known)) }, timeout)

	order := int64(1)
	for round := range 2 { // make soak-stale plays many rounds
		t.Run(fmt.Sprintf("round %d", round), func(t *testing.T) {
			inRound := *b
			inRound.t = t
			inRound.cleanUpWhile(users, &order, booking, parts, round)
		})
	}
}

// cleanUpWhile lets some of the users book on while all of them are cleared, and checks the result. Afterwards they
// book off, a little later, so that the next round begins like this one.
func (b *bench) cleanUpWhile(users []control.ObservedUser, order *int64, booking, parts, round int) {
	b.t.Helper()
	b.answerAll()
	updates := b.record()
	chosen := rand.Perm(len(users))[:booking]
	file := func(kind string, on bool, some []int) {
		*order++

		m := event.Entries{File: fmt.Sprintf("%s-%d-%d", kind, round, *order), Sequence: *order, Last: true}
		for i, n := range some {
			e := booked(fmt.Sprintf("%05d", n), 60-3*round, on)
			if !on {
				e.At++
			}

			e.Row = i + 2
			m.Entries = append(m.Entries, e)
		}

		b.publish(topology.EntriesSubject(m.File), &m)
	}

	var work sync.WaitGroup
	defer work.Wait()

	work.Go(func() {
		for part := range slices.Chunk(users, len(users)/parts) {
			_, err := control.Ask[control.ObserveAnswer](b.t.Context(), b.conn.NC, topology.Resolver, control.Observe,
				control.ObserveRequest{Purpose: control.Expire, Seen: time.Now().Add(5 * time.Second), Apply: true, Users: part})
			assert.NoError(b.t, err)
		}
	})

	for part := range slices.Chunk(chosen, booking/parts) {
		file("on", true, part)
	}

	work.Wait()
	b.idle()

	want := map[string]bool{}
	for _, n := range chosen {
		want[fmt.Sprintf("w%05d@example.org", n)] = true
	}

	b.eventually(func() any {
		on := map[string]bool{}
		for _, u := range updates() {
			if key := topology.NormalUsername(u.User); u.On {
				on[key] = true
			} else {
				delete(on, key)
			}
		}

		return on
	}, want)
	b.eventually(func() any { // publishers find what was published last; the recorder hears of an update before it is stored
		otherwise := map[string]event.Update{}
		for user, u := range b.table() {
			if want[topology.NormalUsername(user)] != u.On {
				otherwise[user] = u
			}
		}

		return otherwise
	}, map[string]event.Update{})

	last := map[string]event.Update{}
	for _, u := range updates() {
		key := topology.NormalUsername(u.User)
		if last[key].On && !u.On {
			b.t.Fatalf("the booking on at %d was undone by %+v", last[key].At, u)
		}

		last[key] = u
	}

	before := len(updates())

	file("off", false, chosen)
	b.eventually(func() any { return len(updates()) - before }, booking)
}

// answerAll plays publishers and AtHoc: each update of a worker in the table was applied.
func (b *bench) answerAll() {
	b.t.Helper()

	var answers []event.Answer
	for _, u := range b.table() {
		answers = append(answers, event.Answer{
			User: u.User, Employee: u.Employee, File: u.File, Version: u.Version, Outcome: event.Applied, On: u.On, At: u.At,
			Answered: time.Now().Unix(),
		})
	}

	for part := range slices.Chunk(answers, 500) {
		b.publish(topology.SubjectAcks, &event.Acks{From: "publisher", Answers: part})
	}

	b.idle()
}

// TestNothingIsSentForWhomNothingWasBooked: a call that cleared the stale duty of a user got no answer, and nothing
// else is known of the worker. When the worker gets another user, that user is sent nothing: nobody has booked
// anything.
func TestNothingIsSentForWhomNothingWasBooked(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ready()
	sent := b.record()
	b.answered(event.Update{User: "one@example.org"}, event.Pending, time.Now().Add(-time.Hour))
	b.mapping("m2", map[string]string{"00001": "another@example.org", "00002": "Two@example.org"})
	b.file("a", 1, booked("00002", 10, true))
	b.wants(map[string]bool{"Two@example.org": true})
	b.idle()
	require.Len(t, sent(), 1, "the other worker's: %+v", sent())
}
