package watch

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/services/ingest/internal/files"
)

// arrivals lets n files arrive, with a pause after each. It returns the sizes of the lots in which they are taken, and
// the longest time that a file waited after it had settled.
func arrivals(n int, pause time.Duration) (lots []int, longest time.Duration) {
	t := NewTracker(time.Second, quiet())
	dir := t.add("")
	for came, taken := 0, 0; taken < n; {
		if came < n {
			dir.see(fmt.Sprintf("%05d.csv", came), sight{stat: files.Stat{Size: int64(came), Modified: int64(came)}}, true, time.Now())
			came++
		}

		time.Sleep(pause)

		now := time.Now()
		dir.offer(dir.due(now), now)

		select {
		case <-t.Ready():
		default:
			continue
		}

		if lot := t.Take(); len(lot) > 0 {
			lots, taken = append(lots, len(lot)), taken+len(lot)
			longest = max(longest, now.Sub(lot[0].Ready))
		}
	}

	return lots, longest
}

// TestABurstIsReadInOneLot: the files of a burst are read as one lot, while those of a steady stream, however long it
// is, do not wait.
func TestABurstIsReadInOneLot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lots, waited := arrivals(1000, 200*time.Microsecond)
		require.Equal(t, []int{1000}, lots)
		require.Less(t, waited, 250*time.Millisecond)

		lots, waited = arrivals(500, 100*time.Millisecond)
		require.Len(t, lots, 500)
		require.Zero(t, waited)

		lots, waited = arrivals(3000, 2*time.Millisecond) // a burst that goes on and on is read all the same
		require.Greater(t, len(lots), 10)
		require.LessOrEqual(t, waited, 510*time.Millisecond)
	})
}

// TestWhatABurstWaitsForMayGo: if the files that a burst waits for disappear, those that have settled are taken.
func TestWhatABurstWaitsForMayGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := NewTracker(time.Second, quiet())
		dir := tr.add("")
		dir.see("first.csv", sight{}, true, time.Now())
		time.Sleep(50 * time.Millisecond)

		for i := range 2 * burst {
			dir.see(fmt.Sprintf("%d.csv", i), sight{}, true, time.Now())
		}

		time.Sleep(950 * time.Millisecond)
		dir.offer(dir.due(time.Now()), time.Now())
		<-tr.Ready()
		require.Empty(t, tr.Take())

		for i := range 2 * burst {
			dir.forget(fmt.Sprintf("%d.csv", i))
		}

		<-tr.Ready()
		require.Len(t, tr.Take(), 1)
	})
}

// TestWhatHasJustComeDoesNotWaitYet: a feed that brings one file after another always has a file that has just arrived.
func TestWhatHasJustComeDoesNotWaitYet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := NewTracker(time.Second, quiet())
		dir, start := tr.add("north/"), time.Now()
		dir.see("north/a.csv", sight{arrived: start}, true, start)
		require.False(t, tr.Waits("north/", start))
		require.True(t, tr.Waits("north/", start.Add(time.Nanosecond)))
		require.False(t, tr.Waits("south/", start.Add(time.Hour)))
		dir.see("north/b.csv", sight{}, true, start) // its time of arrival is not known
		require.True(t, tr.Waits("north/", start))
	})
}

// TestWhatChangedBeforeItWasRejectedComesAgain: the file is offered once it has settled, without the pause after a
// rejection.
func TestWhatChangedBeforeItWasRejectedComesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tracker := NewTracker(time.Second, quiet())
		dir := tracker.add("")
		come := func(size int64) {
			dir.see("a.csv", sight{stat: files.Stat{Size: size}}, true, time.Now())
		}
		looks := func(while time.Duration) (n int) {
			for end := time.After(while); ; n++ {
				select {
				case now := <-dir.timer.C:
					dir.offer(dir.due(now), now)
				case <-end:
					return n
				}
			}
		}

		come(1)
		looks(2 * time.Second)
		require.Len(t, tracker.Take(), 1)

		come(2)
		tracker.Reject("a.csv", "busy")
		require.LessOrEqual(t, looks(3*time.Second), 2)

		found := tracker.Take()
		require.Len(t, found, 1)
		require.EqualValues(t, 2, found[0].Stat.Size)
	})
}
