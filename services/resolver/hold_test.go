package resolver_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/services/resolver/internal/guard"
	"bobosync/services/resolver/internal/store"
	"bobosync/shared/await"
	"bobosync/shared/bustest"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// crew returns n workers with their users.
func crew(n int) map[string]string {
	users := map[string]string{}
	for i := range n {
		users[worker(i)] = user(i)
	}

	return users
}

func worker(i int) string { return fmt.Sprintf("%05d", 10_000+i) }
func user(i int) string   { return fmt.Sprintf("w%d@example.org", i) }

// all books a crew on or off.
func all(n, minutesAgo int, on bool) (entries []event.Entry) {
	for i := range n {
		entries = append(entries, booked(worker(i), minutesAgo, on))
	}
	return entries
}

// guarded starts a resolver that holds, with a crew on duty whom AtHoc has confirmed. Its clock stands still.
func guarded(t *testing.T, n int) (*bench, *atomic.Int64) {
	b := newBench(t)
	b.cfg.Guard.Mode, b.cfg.Guard.MinUsers = "hold", 3
	ahead := b.clock()
	b.start()
	b.recovered("")
	b.mapping("m1", crew(n))
	b.idle()
	b.file("on", 1, all(n, 300, true)...)
	b.eventually(func() any { return len(b.table()) }, n)

	for i := range n {
		b.confirmed(user(i))
	}

	ahead.Store(int64(time.Hour)) // what was sent before lies outside the window

	return b, ahead
}

// guard returns what the resolver reports of its guard.
func (b *bench) guard() control.GuardState {
	b.t.Helper()
	answer, err := ask[control.HeldAnswer](b, control.Held, control.Nothing{})
	require.NoError(b.t, err)
	return answer.GuardState
}

// held waits until a number of users are held in a number of holds, and returns the newest hold.
func (b *bench) held(groups, users int) control.HeldGroup {
	b.t.Helper()
	b.eventually(func() any {
		g := b.guard()
		return []int{len(g.Held), g.Users()}
	}, []int{groups, users})

	return b.guard().Held[0]
}

func (b *bench) shown(id string) control.HeldSet {
	b.t.Helper()
	set, err := ask[control.HeldSet](b, control.HeldShow, control.HeldRequest{ID: id})
	require.NoError(b.t, err)
	return set
}

func (b *bench) decide(d control.HeldDecision) (control.HeldResult, error) {
	b.t.Helper()

	d.By, d.Reason = "me@here", "looked at it"
	return ask[control.HeldResult](b, control.HeldDecide, d)
}

// onDuty counts the users whom AtHoc should show on duty.
func (b *bench) onDuty() any {
	n := 0
	for _, u := range b.table() {
		if u.On {
			n++
		}
	}

	return n
}

// TestATrialAsksTheGuard: a file that is tried in parts is judged as a whole, as it is when it arrives; and the guard
// remembers nothing of the question.
func TestATrialAsksTheGuard(t *testing.T) {
	t.Parallel()

	b, _ := guarded(t, 10)
	try := func(changes map[string]int, entries ...event.Entry) *control.TryGuard {
		answer, err := ask[control.TryAnswer](b, control.Try, control.TryRequest{File: "off", Entries: entries, Changes: changes})
		require.NoError(t, err)
		return answer.Guard
	}
	file := all(6, 60, false)
	for range 2 {
		first := try(nil, file[:3]...)
		require.Equal(t, map[string]int{"off": 3}, first.Changes)
		require.Empty(t, first.Unusual, "so many are allowed")
		whole := try(first.Changes, file[3:]...)
		require.Equal(t, map[string]int{"off": 6}, whole.Changes)
		require.Len(t, whole.Unusual, 1)
		u := whole.Unusual[0]
		require.Equal(t, []any{"off", 6, 3, 10, true}, []any{u.Kind, u.Users, u.Allowed, u.OnDuty, u.Hold})
	}

	require.Empty(t, b.guard().Held)
	require.Empty(t, try(nil, all(6, 60, true)...).Changes, "they are on duty already")
	b.eventually(b.onDuty, 10)

	b.file("off", 2, file...)
	require.Equal(t, 6, b.held(1, 6).Users, "as it was said")
}

func TestAMassChangeWaitsForAPerson(t *testing.T) {
	t.Parallel()
	b, ahead := guarded(t, 10)
	mapping := crew(11)
	b.mapping("m2", mapping)
	b.idle()
	sent := b.record()
	b.file("off", 2, append(all(6, 60, false), booked(worker(10), 50, true))...)
	g := b.held(1, 6)
	require.Equal(t, "off", g.Kind)
	require.Equal(t, []int{0, 3, 0, 10}, []int{g.Sent, g.Allowed, g.Usual, g.OnDuty}, "30 %% of those on duty")
	b.eventually(b.onDuty, 11)
	b.idle()
	require.Len(t, sent(), 1, "who books on does not wait with them")
	require.Empty(t, b.outcomes()["off"], "no row of it is settled, so its file stays")

	set := b.shown(g.ID)
	require.Equal(t, []int{11, 5, 6}, []int{set.OnDutyNow, set.OnDutyAfter, set.Files["off"]})
	require.Len(t, set.Workers, 6)
	require.Equal(t, control.HeldWorker{
		Employee: worker(0), User: user(0), At: set.Workers[0].At, File: "off", Row: 2,
	}, set.Workers[0])

	t.Run("a newer event takes the place of what is held", func(t *testing.T) {
		b.file("on-again", 3, booked(worker(0), 10, true))
		b.settled("off", map[int]event.Outcome{2: event.Superseded})
		b.held(1, 5)
		_, err := b.decide(control.HeldDecision{ID: g.ID, Token: set.Token, Approve: true})
		refused(t, err, "0 more came and 1 left")
	})
	t.Run("a second mass change is a hold of its own", func(t *testing.T) {
		ahead.Add(int64(16 * time.Minute))

		var entries []event.Entry
		for i := 6; i < 10; i++ {
			entries = append(entries, booked(worker(i), 5, false))
		}

		b.file("second", 4, entries...)
		second := b.held(2, 9)
		require.Equal(t, 4, second.Users)
		require.NotEqual(t, g.ID, second.ID)
	})
	t.Run("who came since is counted", func(t *testing.T) {
		newest := b.guard().Held[0]
		set := b.shown(newest.ID)
		b.file("third", 5, booked(worker(10), 4, false))
		b.held(2, 10)
		_, err := b.decide(control.HeldDecision{ID: newest.ID, Token: set.Token, Approve: true})
		refused(t, err, "1 more came and 0 left")
	})
	t.Run("an approval is for exactly those who were shown", func(t *testing.T) {
		before := len(sent())
		result, err := b.decide(control.HeldDecision{ID: g.ID, Token: b.shown(g.ID).Token, Approve: true, Except: []string{worker(5)}})
		require.NoError(t, err)
		require.Equal(t, 4, result.Users)
		b.eventually(func() any { return len(sent()) - before }, 4)
		b.eventually(b.onDuty, 7)
		b.held(2, 6)
		rest := b.shown(result.Rest)
		require.Len(t, rest.Workers, 1)
		require.Equal(t, worker(5), rest.Workers[0].Employee)

		_, err = b.decide(control.HeldDecision{ID: g.ID, Token: set.Token, Approve: true})
		refused(t, err, "decided")
	})
}

// TestAUserSpeltInAnotherWayIsTheSame: AtHoc now writes the usernames in capital letters; workers who book off are
// counted all the same.
func TestAUserSpeltInAnotherWayIsTheSame(t *testing.T) {
	t.Parallel()
	b, _ := guarded(t, 10)

	users := crew(10)
	for employee, user := range users {
		users[employee] = strings.ToUpper(user)
	}

	b.mapping("m2", users)
	b.idle()
	sent := b.record()
	b.file("off", 2, all(6, 60, false)...)
	b.held(1, 6)
	require.Empty(t, sent())
}

func TestWhatIsRejectedNeverCounts(t *testing.T) {
	t.Parallel()
	b, _ := guarded(t, 10)
	b.file("off", 2, all(6, 60, false)...)
	g := b.held(1, 6)
	before := b.published()
	_, err := b.decide(control.HeldDecision{ID: g.ID, Token: b.shown(g.ID).Token})
	require.NoError(t, err)

	withheld := map[int]event.Outcome{}
	for row := 2; row < 8; row++ {
		withheld[row] = event.Withheld
	}

	b.settled("off", withheld)
	b.eventually(func() any { return len(b.guard().Held) }, 0)
	require.Equal(t, before, b.published())

	b.file("older", 3, booked(worker(0), 90, false)) // older than what was rejected, newer than what counts
	b.eventually(b.onDuty, 9)
	b.file("off-again", 4, event.Entry{Employee: worker(1), At: b.shownAt("off", 1), On: true})
	b.eventually(func() any { return b.table()[user(1)].File }, "off-again")

	t.Run("and it can be taken in after all", func(t *testing.T) {
		result, err := ask[control.HeldResult](b, control.HeldRequeue, control.HeldDecision{ID: g.ID, Reason: "it was right", By: "me@here"})
		require.NoError(t, err)
		require.Equal(t, []int{6, 1}, []int{result.Users, result.Superseded})
		b.eventually(b.onDuty, 5)
	})
}

// TestWhatIsTakenInAfterAllLeavesNoRowBehind: two rows of a worker were held one after the other, and after the loss of
// the state store both were read again and withheld as rejected. When the hold is requeued, the older row gets an
// outcome too.
func TestWhatIsTakenInAfterAllLeavesNoRowBehind(t *testing.T) {
	t.Parallel()
	b, _ := guarded(t, 6)
	both := func(o event.Outcome) map[int]event.Outcome {
		rows := map[int]event.Outcome{}
		for row := 2; row < 8; row++ {
			rows[row] = o
		}

		return rows
	}
	last := func() any { // the last outcome of the older rows
		var last event.Outcome
		for _, data := range b.messages(topology.StreamAcks) {
			var a event.Acks
			require.NoError(t, event.Decode(data, &a))

			for _, rows := range a.Rows {
				if rows.File == "older" && rows.Rows.Has(2) {
					last = rows.Settled()
				}
			}
		}

		return last
	}
	older, newer := all(6, 60, false), all(6, 30, false)
	b.file("older", 2, older...)
	b.held(1, 6)
	b.file("newer", 3, newer...)
	b.settled("older", both(event.Superseded))
	g := b.held(1, 6)
	_, err := b.decide(control.HeldDecision{ID: g.ID, Token: b.shown(g.ID).Token})
	require.NoError(t, err)
	b.settled("newer", both(event.Withheld))
	b.loseStateStore(topology.GuardHoldKey(g.ID), `"rejected"`, func() {
		b.file("on", 1, all(6, 300, true)...)
		b.file("older", 2, older...)
		b.file("newer", 3, newer...)
	})
	b.eventually(last, event.Withheld)

	result, err := ask[control.HeldResult](b, control.HeldRequeue, control.HeldDecision{ID: g.ID, Reason: "it was right", By: "me@here"})
	require.NoError(t, err)
	require.Equal(t, []int{6, 0}, []int{result.Users, result.Superseded})
	b.eventually(last, event.Superseded)
	b.eventually(b.onDuty, 0)
}

// TestRowsThatHadLeftASplitHoldAreKnownAgain: one member is excepted from a decision, and rejected later. ingest then
// loses its ledger and reads the file again whose rows had left the hold before. These rows are superseded as they
// were, and count for nobody in place of the rejected ones.
func TestRowsThatHadLeftASplitHoldAreKnownAgain(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		approve bool
		onDuty  int
	}{
		"all but one are rejected": {false, 10},
		"all but one are approved": {true, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := guarded(t, 10)
			superseded := func() any { // how often each row of the older file was
				times := map[int]int{}
				for _, data := range b.messages(topology.StreamAcks) {
					var a event.Acks
					require.NoError(t, event.Decode(data, &a))

					for _, rows := range a.Rows {
						for row := 2; row < 8; row++ {
							if rows.File == "older" && rows.Settled() == event.Superseded && rows.Rows.Has(row) {
								times[row]++
							}
						}
					}
				}

				return times
			}
			older := all(6, 60, false)
			b.file("older", 2, older...)
			b.held(1, 6)
			b.file("newer", 3, all(6, 30, false)...)
			b.eventually(superseded, map[int]int{2: 1, 3: 1, 4: 1, 5: 1, 6: 1, 7: 1})
			g := b.held(1, 6)
			_, err := b.decide(control.HeldDecision{ID: g.ID, Token: b.shown(g.ID).Token, Approve: c.approve, Except: []string{worker(5)}})
			require.NoError(t, err)

			g = b.held(1, 1)
			b.file("older", 2, older...)
			b.eventually(superseded, map[int]int{2: 2, 3: 2, 4: 2, 5: 2, 6: 2, 7: 2})
			b.held(1, 1)

			_, err = b.decide(control.HeldDecision{ID: g.ID, Token: b.shown(g.ID).Token})
			require.NoError(t, err)
			b.file("older", 2, older...)
			b.eventually(func() any { return superseded().(map[int]int)[6] }, 3)
			b.idle()
			b.eventually(func() any { return len(b.guard().Held) }, 0)
			b.eventually(b.onDuty, c.onDuty)
		})
	}
}

// shownAt returns the time of a worker's booking in a file, as it was published.
func (b *bench) shownAt(file string, i int) int64 {
	for _, data := range b.messages(topology.StreamEntries) {
		var m event.Entries
		if event.Decode(data, &m) == nil && m.File == file {
			return m.Entries[i].At
		}
	}

	b.t.Fatalf("no entries of %s", file)

	return 0
}

// loseStateStore loses the state store as soon as a key of the broker's copy of the holds contains a text; again must
// publish the files again.
func (b *bench) loseStateStore(key, text string, again func()) {
	b.t.Helper()
	kv, err := b.conn.JS.KeyValue(b.t.Context(), topology.BucketState)
	require.NoError(b.t, err)
	await.True(b.t, func() bool {
		entry, err := kv.Get(b.t.Context(), key)
		return err == nil && bytes.Contains(entry.Value(), []byte(text))
	}, timeout)
	entry, err := kv.Get(b.t.Context(), topology.KeyResolverEpoch)
	require.NoError(b.t, err)
	var epoch event.StoreEpoch
	require.NoError(b.t, event.Decode(entry.Value(), &epoch))
	b.stop()
	require.NoError(b.t, os.Remove(filepath.Join(b.cfg.Data.Directory, "resolver.db")))
	b.start()
	again()
	b.recovered(epoch.Epoch)
}

// TestHoldsOutliveEveryStateStore: holds outlive a restart, the loss of the state store, and the loss of the broker's
// store.
func TestHoldsOutliveEveryStateStore(t *testing.T) {
	t.Parallel()

	for name, lose := range map[string]func(*bench){
		"restart": func(b *bench) { b.restart() },
		"state store": func(b *bench) {
			// The history names the holds, and is written after them.
			b.loseStateStore(topology.KeyGuardHistory, b.guard().Held[0].ID, b.again)
		},
		"broker's store": func(b *bench) {
			b.stop()

			for _, s := range []string{topology.StreamEntries, topology.StreamUpdates, topology.StreamAcks, topology.StreamMapping} {
				require.NoError(b.t, b.conn.JS.DeleteStream(b.t.Context(), s))
			}

			require.NoError(b.t, b.conn.JS.DeleteKeyValue(b.t.Context(), topology.BucketState))
			b.start()
			b.eventually(func() any {
				kv, err := b.conn.JS.KeyValue(b.t.Context(), topology.BucketState)
				if err != nil {
					return err
				}

				_, err = kv.Get(b.t.Context(), topology.KeyGuardHistory)

				return err
			}, nil) // the copy is written again
			b.mapping("m1", crew(10))
			b.again()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, ahead := guarded(t, 10)
			b.file("rejected", 2, all(6, 60, false)...)
			g := b.held(1, 6)
			_, err := b.decide(control.HeldDecision{ID: g.ID, Token: b.shown(g.ID).Token})
			require.NoError(t, err)
			b.eventually(func() any { return len(b.outcomes()["rejected"]) }, 6)
			ahead.Add(int64(time.Hour))
			b.file("held", 3, all(5, 40, false)...)
			second := b.held(1, 5)

			ahead.Add(int64(5 * time.Hour)) // the hold must be kept, not judged again at another hour

			lose(b)
			b.idle()
			after := b.held(1, 5)
			require.Equal(t, second.ID, after.ID)
			require.Empty(t, b.outcomes()["held"])

			for user, u := range b.table() {
				require.True(t, u.On, user)
			}

			_, err = b.decide(control.HeldDecision{ID: second.ID, Token: b.shown(second.ID).Token, Approve: true})
			require.NoError(t, err)
			b.eventually(func() any {
				off := 0
				for _, u := range b.table() {
					if !u.On {
						off++
					}
				}

				return off
			}, 5)
		})
	}
}

// TestNothingIsDecidedBeforeAllIsKnownAgain: the state store was lost, and only some of the held workers have been read
// again. An approval would apply to the others too, whom nobody was shown.
func TestNothingIsDecidedBeforeAllIsKnownAgain(t *testing.T) {
	t.Parallel()
	b, _ := guarded(t, 10)
	off := all(6, 60, false)
	b.file("off", 2, off...)
	g := b.held(1, 6)
	kv, err := b.conn.JS.KeyValue(t.Context(), topology.BucketState)
	require.NoError(t, err)
	await.True(t, func() bool {
		entry, err := kv.Get(t.Context(), topology.KeyGuardHistory)
		return err == nil && bytes.Contains(entry.Value(), []byte(g.ID))
	}, timeout)
	entry, err := kv.Get(t.Context(), topology.KeyResolverEpoch)
	require.NoError(t, err)
	var epoch event.StoreEpoch
	require.NoError(t, event.Decode(entry.Value(), &epoch))
	b.stop()
	require.NoError(t, os.Remove(filepath.Join(b.cfg.Data.Directory, "resolver.db")))
	b.start()
	b.file("off", 2, off[:2]...)
	b.held(1, 2)
	_, err = b.decide(control.HeldDecision{ID: g.ID, Token: b.shown(g.ID).Token, Approve: true})
	refused(t, err, "making good")
	b.file("off", 2, off...)
	b.recovered(epoch.Epoch)
	b.idle()
	b.held(1, 6)
	b.eventually(b.onDuty, 10)
	_, err = b.decide(control.HeldDecision{ID: g.ID, Token: b.shown(g.ID).Token, Approve: true})
	require.NoError(t, err)
	b.eventually(b.onDuty, 4)
}

// again plays ingest reading all files again: the settled ones, and the one that waits.
func (b *bench) again() {
	settled := func(name string, order int64, entries []event.Entry) {
		for i := range entries {
			entries[i].Row = i + 2
		}

		b.publish(topology.EntriesSubject(name), &event.Entries{File: name, Sequence: order, Last: true, Settled: true, Entries: entries})
	}
	settled("on", 1, all(10, 300, true))
	settled("rejected", 2, all(6, 60, false))
	b.file("held", 3, all(5, 40, false)...)
}

// TestADecisionIsCarriedOutAfterACrash: the process ended after the decision was saved, before anything of it was
// carried out.
func TestADecisionIsCarriedOutAfterACrash(t *testing.T) {
	t.Parallel()

	for _, outcome := range []string{guard.Approved, guard.Rejected} {
		t.Run(outcome, func(t *testing.T) {
			t.Parallel()
			b, _ := guarded(t, 10)
			b.file("off", 2, all(6, 60, false)...)
			b.held(1, 6)
			b.stop()
			state, err := store.Open(filepath.Join(b.cfg.Data.Directory, "resolver.db"), bustest.Logger())
			require.NoError(t, err)
			h, groups, known, err := state.Guard()
			require.NoError(t, err)
			require.True(t, known)
			require.Len(t, groups, 1)
			groups[0].Decision = &guard.Decision{Outcome: outcome, At: time.Now().UTC(), Users: 6}
			change := store.GuardChange{Since: h.Since, Recent: h.Recent, Groups: groups}
			require.NoError(t, state.Save(t.Context(), store.Change{Guard: &change}))
			require.NoError(t, state.Close())

			b.start()

			want := 10
			if outcome == guard.Approved {
				want = 4
			} else {
				b.eventually(func() any { return b.outcomes()["off"][7] }, event.Withheld)
			}

			b.eventually(b.onDuty, want)
			b.held0()
		})
	}
}

// held0 waits until nobody is held.
func (b *bench) held0() {
	b.t.Helper()
	b.eventually(func() any { return len(b.guard().Held) }, 0)
}

// TestAFailingPublicationHoldsTheSame: publishing what follows fails again and again, and the process ends; nobody who
// is held is sent.
func TestAFailingPublicationHoldsTheSame(t *testing.T) {
	t.Parallel()
	b, _ := guarded(t, 10)
	b.mapping("m2", crew(11))
	b.idle()
	sent, unblock := b.record(), b.blockAcks()
	b.file("off", 2, append(all(6, 60, false), booked(worker(10), 60*30, true))...) // the last row's outcome cannot be stored
	b.held(1, 6)
	b.stop()
	b.start()
	unblock()
	b.settled("off", map[int]event.Outcome{8: event.Expired})
	b.held(1, 6)
	require.Empty(t, sent())
}

// TestStaleClearingIsHeld: the clearing of stale duty, of workers and of unmanaged users, is held until a person
// decides.
func TestStaleClearingIsHeld(t *testing.T) {
	t.Parallel()
	b, ahead := guarded(t, 6)
	ahead.Store(int64(26 * time.Hour))

	var users []control.ObservedUser
	for i := range 6 {
		users = append(users, control.ObservedUser{User: user(i), On: true, At: b.table()[user(i)].At})
	}

	users = append(users, seen("stranger@example.org", 40))
	before := b.published()
	answer := b.observe(control.Expire, true, users...)
	require.Equal(t, []int{0, 7}, []int{answer.Published, answer.Held})

	g := b.held(1, 7)
	require.Equal(t, "stale", g.Kind)

	again := b.observe(control.Expire, true, users...)
	require.Equal(t, []int{0, 7}, []int{again.Published, again.Held})
	require.Equal(t, 6, b.observe(control.Compare, true, users...).Held, "a comparison leaves them out and says how many")
	state := b.replay(control.ReplayRequest{All: true})
	require.Equal(t, []int{0, 6}, []int{state.Users, state.Held})
	require.Equal(t, before, b.published())

	_, err := b.decide(control.HeldDecision{ID: g.ID, Token: b.shown(g.ID).Token, Approve: true, Except: []string{worker(0)}})
	require.NoError(t, err)
	b.eventually(b.onDuty, 1)
	require.Equal(t, 1, b.observe(control.Expire, true, users...).Published, "the user without a worker is found again")

	rest := b.held(1, 1)
	_, err = b.decide(control.HeldDecision{ID: rest.ID, Token: b.shown(rest.ID).Token})
	require.NoError(t, err)
	b.held0()
	require.Zero(t, b.observe(control.Expire, true, users[0]).Published, "a person wants it to stay")
	b.held0()
}

// TestNothingJoinsAHoldWhenNothingIsHeldAnyMore: its present members go on waiting for a person.
func TestNothingJoinsAHoldWhenNothingIsHeldAnyMore(t *testing.T) {
	t.Parallel()
	b, ahead := guarded(t, 6)
	ahead.Store(int64(26 * time.Hour))

	var users []control.ObservedUser
	for i := range 6 {
		users = append(users, control.ObservedUser{User: user(i), On: true, At: b.table()[user(i)].At})
	}

	require.Equal(t, 6, b.observe(control.Expire, true, users...).Held)
	b.cfg.Guard.Mode = "off"
	b.restart()
	require.Equal(t, 1, b.observe(control.Expire, true, seen("stranger@example.org", 40)).Published)
	b.held(1, 6)
}

// TestASecondMassOfStaleDutyIsAHoldOfItsOwn: stale duty that is found bit by bit joins the first hold, and does not
// make the two masses one hold.
func TestASecondMassOfStaleDutyIsAHoldOfItsOwn(t *testing.T) {
	t.Parallel()
	b, ahead := guarded(t, 14)
	first := time.Duration(26) * time.Hour
	expire := func(at time.Duration, workers ...int) (held int) {
		ahead.Store(int64(at))

		var users []control.ObservedUser
		for _, i := range workers {
			users = append(users, control.ObservedUser{User: user(i), On: true, At: b.table()[user(i)].At})
		}

		return b.observe(control.Expire, true, users...).Held
	}
	require.Equal(t, 5, expire(first, 0, 1, 2, 3, 4))

	one := b.held(1, 5)

	at := first
	for i := range 4 { // one every ten minutes is not unusual, and waits with the others all the same
		at += 10 * time.Minute
		require.Equal(t, 1, expire(at, 5+i), i)
	}

	require.Equal(t, one.ID, b.held(1, 9).ID)

	at += 5 * time.Minute
	require.Equal(t, 5, expire(at, 9, 10, 11, 12, 13))

	two := b.held(2, 14)
	require.NotEqual(t, one.ID, two.ID)
	require.Equal(t, 5, two.Users)

	_, err := b.decide(control.HeldDecision{ID: two.ID, Token: b.shown(two.ID).Token, Approve: true})
	require.NoError(t, err)
	b.eventually(b.onDuty, 9)
	require.Equal(t, 9, b.held(1, 9).Users, "nobody decided about the first")
}

// TestClearingWaitsWhileAFeedIsSilent: clearing waits, whatever the number, for workers whom the silent feed booked and
// for workers whose feed is not known.
func TestClearingWaitsWhileAFeedIsSilent(t *testing.T) {
	t.Parallel()

	b, ahead := guarded(t, 4)
	for i, feed := range []string{"north", "south"} {
		entry := booked(worker(i), 250, true)
		entry.Row = 2
		b.publish(topology.EntriesSubject(feed), &event.Entries{File: feed, Feed: feed, Sequence: int64(i + 5), Last: true, Entries: []event.Entry{entry}})
	}

	b.idle()
	b.eventually(func() any { return b.table()[user(1)].File }, "south")
	b.confirmed(user(0))
	b.confirmed(user(1))
	b.idle()
	ahead.Store(int64(26 * time.Hour))

	expire := func(silent ...string) control.ObserveAnswer {
		req := control.ObserveRequest{Purpose: control.Expire, Seen: time.Now().Add(time.Minute), Apply: true, Silent: silent}
		for i := range 3 {
			req.Users = append(req.Users, control.ObservedUser{User: user(i), On: true, At: b.table()[user(i)].At})
		}

		answer, err := ask[control.ObserveAnswer](b, control.Observe, req)
		require.NoError(t, err)

		return answer
	}
	answer := expire("north")
	require.Equal(t, []int{1, 2}, []int{answer.Published, answer.Held}, "south's is cleared; north's and the one that nobody knows of wait")

	g := b.held(1, 2)
	require.Equal(t, "silent", g.Kind)
	require.Equal(t, map[string]int{"north": 1, "": 1}, b.shown(g.ID).Feeds)

	answer = expire()
	require.Equal(t, 2, answer.Held, "they wait for a person, also when the feed is back")

	_, err := b.decide(control.HeldDecision{ID: g.ID, Token: b.shown(g.ID).Token, Approve: true})
	require.NoError(t, err)
	b.held0()
	b.eventually(b.onDuty, 1)
}

// TestObservingHoldsNothing: what would have been held is only reported.
func TestObservingHoldsNothing(t *testing.T) {
	t.Parallel()

	for mode, reports := range map[string]bool{"observe": true, "auto": false, "off": false} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.cfg.Guard.Mode, b.cfg.Guard.MinUsers = mode, 3
			b.start()
			b.recovered("")
			b.mapping("m1", crew(10))
			b.file("on", 1, all(10, 300, true)...)
			b.eventually(b.onDuty, 10)
			b.file("off", 2, all(6, 60, false)...)
			b.eventually(b.onDuty, 4)
			b.eventually(func() any {
				g := b.guard()
				for _, told := range g.Unusual {
					if told.Kind == "off" && told.Users == 6 {
						return []bool{true, g.Holding, len(g.Held) > 0}
					}
				}

				return []bool{false, g.Holding, len(g.Held) > 0}
			}, []bool{reports, false, false})
		})
	}
}

func TestOnFlipsAreHeldOnlyIfWanted(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.cfg.Guard.Mode, b.cfg.Guard.MinUsers, b.cfg.Guard.On = "hold", 3, "hold"
	b.start()
	b.recovered("")
	b.mapping("m1", crew(10))
	b.file("on", 1, all(10, 300, true)...)
	g := b.held(1, 10)
	require.Equal(t, "on", g.Kind)
	_, err := b.decide(control.HeldDecision{ID: g.ID, Token: b.shown(g.ID).Token})
	require.NoError(t, err)
	b.eventually(func() any { return len(b.outcomes()["on"]) }, 10)
	require.Empty(t, b.table())
}

// crashAt makes the resolver crash before the n-th step from now on that leaves something behind: that step and all
// later ones fail.
func (b *bench) crashAt(n int64) {
	b.stop()
	var steps atomic.Int64
	b.crashed = make(chan struct{})
	b.hit = func() error {
		switch step := steps.Add(1); {
		case step < n:
			return nil
		case step == n:
			close(b.crashed)
		}

		return errors.New("crashed at a failpoint")
	}
	b.start()
}

// until polls until done returns true, and starts the resolver again if it has crashed meanwhile.
func (b *bench) until(what string, done func() bool) {
	b.t.Helper()
	await.True(b.t, func() bool {
		select {
		case <-b.crashed:
			b.stop()
			b.hit, b.crashed = nil, nil
			b.start()
		default:
		}

		return done()
	}, timeout, what)
}

// TestKilledAtAnyStepOfAHold: the process ends before each step of holding, deciding and publishing that leaves
// something behind. No hold is lost, and nobody is sent without approval.
func TestKilledAtAnyStepOfAHold(t *testing.T) {
	t.Parallel()

	const steps = 11 // with one more, the crash is never reached
	for n := range int64(steps + 1) {
		t.Run(fmt.Sprint("step ", n+1), func(t *testing.T) {
			t.Parallel()
			b, _ := guarded(t, 10)
			sent := b.record()
			b.crashAt(n + 1)

			list := func() (answer control.HeldAnswer) {
				answer, _ = control.Ask[control.HeldAnswer](t.Context(), b.conn.NC, topology.Resolver, control.Held, control.Nothing{})
				return answer
			}
			decided := func(outcome string) bool {
				return slices.ContainsFunc(list().Decided, func(g control.HeldGroup) bool { return g.Decision == outcome })
			}

			// order approves every hold with more than one member, except for worker 5 if it has six; or it rejects
			// every hold with one member.
			order := func(approve bool) {
				for _, g := range list().Held {
					set, err := control.Ask[control.HeldSet](t.Context(), b.conn.NC, topology.Resolver, control.HeldShow, control.HeldRequest{ID: g.ID})
					if err != nil || approve == (len(set.Workers) == 1) {
						continue
					}

					d := control.HeldDecision{ID: g.ID, Token: set.Token, Approve: approve, Reason: "looked at it", By: "me@here"}
					if len(set.Workers) == 6 {
						d.Except = []string{worker(5)}
					}

					_, _ = control.Ask[control.HeldResult](t.Context(), b.conn.NC, topology.Resolver, control.HeldDecide, d)
				}
			}

			b.file("off", 2, all(6, 60, false)...)
			b.until("all of them are held", func() bool { a := list(); return a.Users() == 6 })
			require.Empty(t, sent())
			require.Empty(t, b.outcomes()["off"])
			b.until("all but one are approved", func() bool { order(true); return decided(guard.Approved) })
			b.until("they are sent", func() bool { return b.onDuty() == 5 })
			b.until("the other one is rejected", func() bool { order(false); return decided(guard.Rejected) })
			b.until("that is settled", func() bool { return b.outcomes()["off"][7] == event.Withheld })
			b.idle()
			require.Empty(t, list().Held)
			require.Equal(t, 5, b.onDuty())

			for _, u := range sent() {
				require.NotEqual(t, user(5), u.User)
			}

			require.Equal(t, n < steps, b.crashed == nil, "every step is tried")
		})
	}
}
