//go:build unix

package e2e_test

// Full disks: whatever was being written when the disk became full, everything goes on by itself once there is room
// again (with a broker of its own: once somebody has restarted it), and status does not say OK before AtHoc has
// everything that arrived meanwhile.

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/e2e/audit"
	"bobosync/e2e/harness"
	"bobosync/shared/verdict"
)

// diskRounds is how often the disk becomes full; make soak-disk sets a higher number.
var diskRounds = flag.Int("disk-rounds", 1, "rounds of TestAFullDiskHeals")

const (
	// healedWithin is how long files may still wait once there is room again and a broker of its own has been
	// restarted.
	healedWithin = 30 * time.Second
	// toldWithin is how long files may wait on a full disk before status names it.
	toldWithin = time.Minute
	// heldFor is the least time for which a disk is full; it may be up to twice as long.
	heldFor = 8 * time.Second
	// diskMebibytes is the size of the disk, in MiB: large enough that status does not call it nearly full while
	// there is room. It uses no memory.
	diskMebibytes = 4 << 10
	// diskStaff is the number of workers: the updates of all of them take several times the room that their entries
	// take.
	diskStaff = 1000
	// mayBeFresh is how long a file may wait without status mentioning it: on a busy machine a file waits for so long
	// even if all is well.
	mayBeFresh = 10 * time.Second
	// startsWith is about the number of bytes that a broker needs to start.
	startsWith = 300 << 10
	plenty     = 1 << 20
)

// looked is what status said at some moment between asked and told.
type looked struct {
	asked, told time.Time
	judged
}

// wrongOKs returns what status should not have said since a moment: OK, although a file that had arrived some time
// before was still waiting.
func wrongOKs(all []looked, from time.Time, files []audit.File, gone map[int]time.Time) (wrong []string) {
	for _, l := range all {
		if l.asked.Before(from) || !l.ok() {
			continue
		}

		for i, f := range files {
			left, has := gone[i]
			if l.asked.Sub(f.Appeared) > mayBeFresh && (!has || left.After(l.told)) {
				wrong = append(wrong, fmt.Sprintf("%s: OK, while %s waits since %s", l.asked.Format("15:04:05.0"), f.Name, f.Appeared.Format("15:04:05.0")))
				break
			}
		}
	}

	return wrong
}

func TestWrongOKs(t *testing.T) {
	t.Parallel()

	at := func(seconds int) time.Time { return time.Unix(int64(seconds), 0) }
	files := []audit.File{{Name: "a", Appeared: at(0)}, {Name: "b", Appeared: at(30)}}
	fine, bad := judged{}, judged{Verdict: verdict.Verdict{Findings: []verdict.Finding{{Cause: verdict.CauseDisk}}}}
	for name, c := range map[string]struct {
		look  looked
		gone  map[int]time.Time
		wrong bool
	}{
		"a file waits":                    {looked{at(11), at(12), fine}, nil, true},
		"a file waits, and it is said":    {looked{at(11), at(12), bad}, nil, false},
		"it has just come":                {looked{at(9), at(10), fine}, nil, false},
		"before the disk was full":        {looked{at(4), at(12), fine}, nil, false},
		"it went while status looked":     {looked{at(20), at(25), fine}, map[int]time.Time{0: at(24)}, false},
		"it went after status had looked": {looked{at(20), at(25), fine}, map[int]time.Time{0: at(26)}, true},
		"the next one waits":              {looked{at(41), at(42), fine}, map[int]time.Time{0: at(24)}, true},
	} {
		assert.Equal(t, c.wrong, len(wrongOKs([]looked{c.look}, at(5), files, c.gone)) > 0, name)
	}
}

// watcher asks for the status all the time.
type watcher struct {
	mu   sync.Mutex
	all  []looked
	errs []error
}

// watch starts asking, and goes on until the test ends.
func watch(t *testing.T, s *harness.Stack) *watcher {
	w := &watcher{}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()

		for {
			asked := time.Now()

			j, err := askStatus(ctx, s)
			if ctx.Err() != nil {
				return
			}

			w.mu.Lock()
			w.all, w.errs = append(w.all, looked{asked, time.Now(), j}), append(w.errs, err)
			w.mu.Unlock()

			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		group.Wait()
		assert.NoError(t, errors.Join(w.errs...))
	})

	return w
}

// since returns the answers to everything asked since a moment.
func (w *watcher) since(at time.Time) []looked {
	w.mu.Lock()
	defer w.mu.Unlock()

	from, _ := slices.BinarySearchFunc(w.all, at, func(l looked, at time.Time) int { return l.asked.Compare(at) })

	return slices.Clone(w.all[from:])
}

// fullDisk is a stack whose broker has its store on a file system that can be filled.
type fullDisk struct {
	*roster
	dir     string
	inside  bool
	watcher *watcher
	// takes is how many bytes of it a file with a booking of each worker needs.
	takes uint64
}

// TestAFullDiskHeals leaves no room on the broker's disk, for bytes or for files, while files arrive.
func TestAFullDiskHeals(t *testing.T) {
	long(t)
	t.Parallel()

	for name, inside := range map[string]bool{"bobosync run": true, "a broker of its own": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			d := newFullDisk(t, inside)
			kinds := slices.DeleteFunc(slices.Clone(diskKinds), func(k diskKind) bool { return k.inside && !inside })
			for round := range *diskRounds {
				kind := kinds[round%len(kinds)]
				require.True(t, t.Run(fmt.Sprintf("%d %s", round+1, kind.name), func(t *testing.T) { d.round(t, kind) }))
			}
		})
	}
}

func newFullDisk(t *testing.T, inside bool) *fullDisk {
	dir := workDir(t)
	d := &fullDisk{inside: inside, dir: filepath.Join(dir, map[bool]string{true: "data", false: "jetstream"}[inside])}
	small(t, d.dir, diskMebibytes)
	d.roster = newRosterIn(t, dir, harness.Config{AllInOne: inside, Settings: map[string]string{"GUARD": "off"}}, diskStaff)
	before, _, err := harness.Used(d.dir)
	require.NoError(t, err)
	d.book(true, d.some(diskStaff)...)
	require.NoError(t, d.s.Idle(idleWithin))
	after, _, err := harness.Used(d.dir)
	require.NoError(t, err)

	d.takes = max(after, before+64<<10) - before
	t.Logf("a booking of all %d takes %d KiB", diskStaff, d.takes>>10)
	d.watcher = watch(t, d.s)

	return d
}

// diskKind is a way in which a disk gets full.
type diskKind struct {
	name string
	// leave draws how many bytes remain free, and how many files can still be created.
	leave func(d *fullDisk) (bytes, files uint64)
	// stopped means that the program with the store is down at that moment, and starts on the full disk.
	stopped bool
	// inside is for the broker inside the all-in-one program only: a separate broker ends if it cannot start, and
	// whatever restarts it is not part of this project.
	inside bool
	// all books everybody at once, which is written as an atomic batch.
	all bool
}

var diskKinds = []diskKind{
	{name: "to the last byte", leave: func(*fullDisk) (uint64, uint64) { return 0, plenty }},
	{name: "in an atomic batch", all: true, leave: func(d *fullDisk) (uint64, uint64) { return d.draw(d.takes/4, d.takes), plenty }},
	{name: "before the start", stopped: true, leave: func(d *fullDisk) (uint64, uint64) { return d.draw(startsWith, 2*startsWith), plenty }},
	{name: "so that it does not start", stopped: true, inside: true, leave: func(d *fullDisk) (uint64, uint64) { return d.draw(0, startsWith), plenty }},
	{name: "in the middle", leave: func(d *fullDisk) (uint64, uint64) { return d.draw(0, d.takes), plenty }},
	{name: "no more files", leave: func(d *fullDisk) (uint64, uint64) { return 1 << 30, d.draw(0, 3) }},
	{name: "no more files at the start", stopped: true, inside: true, leave: func(d *fullDisk) (uint64, uint64) { return 1 << 30, d.draw(0, 12) }},
}

func (d *fullDisk) draw(from, to uint64) uint64 { return from + d.rng.Uint64N(to-from+1) }

// program returns the process that has the store.
func (d *fullDisk) program() *harness.Process {
	return d.s.Process(map[bool]string{true: harness.AllInOne, false: harness.Broker}[d.inside])
}

// round fills the disk while files arrive, makes room again, and judges.
func (d *fullDisk) round(t *testing.T, kind diskKind) {
	d.t = t
	assert.Eventually(t, func() bool { return d.saysOK(time.Now().Add(-3 * time.Second)) }, namedWithin, pollInterval, "status says no OK before the round")
	require.False(t, t.Failed(), "status says %s", d.last())

	first, _ := d.waiting()
	if kind.stopped {
		require.NoError(t, d.program().Kill())
	}

	bytes, files := kind.leave(d)
	require.NoError(t, harness.Leave(d.dir, bytes, files))

	full := time.Now()

	d.s.Note("round %s: %d bytes and %d files are left", t.Name(), bytes, files)

	if kind.stopped {
		require.NoError(t, d.program().Start())
	}

	named := d.arrive(t, kind, full)
	require.NoError(t, harness.Leave(d.dir, diskMebibytes<<20, plenty))

	if !d.inside {
		require.NoError(t, d.program().Kill()) // as status demands, unless the broker has ended
		require.NoError(t, d.program().Start())
	}

	free := time.Now()

	d.s.Note("there is room again")

	var wait int
	healed := assert.Eventually(t, func() bool { _, wait = d.waiting(); return wait == 0 }, 2*healedWithin, 50*time.Millisecond, "files wait for ever")
	if !healed {
		t.Logf("%d files wait; status says %s", wait, d.last())
	}

	d.judge(t, first, full, free)
	require.NoError(t, d.s.Idle(idleWithin))
	requireStatuses(t, d.s, d.latest)
	require.NoError(t, d.s.Died())
	t.Logf("%d bytes and %d files were left; full for %s, named %q", bytes, files, free.Sub(full).Round(time.Second), named)
}

// arrive lets files arrive until the disk has been full for a while, a file is stuck, and status has named the disk.
// A disk that only takes no more files may let everything through.
func (d *fullDisk) arrive(t *testing.T, kind diskKind, full time.Time) (named string) {
	until := full.Add(heldFor + time.Duration(d.rng.Int64N(int64(heldFor))))

	tick := time.NewTicker(time.Second)
	defer tick.Stop()

	for n := 0; ; n++ {
		booking := 1 + d.rng.IntN(60)
		if kind.all && n%3 == 0 {
			booking = diskStaff
		}

		d.book(d.rng.IntN(2) == 0, d.some(booking)...)
		<-tick.C

		if named == "" {
			named = d.named(full)
		}

		oldest, waits := d.oldest()
		stuck := waits && time.Since(oldest) > mayBeFresh/2
		require.False(t, named == "" && waits && time.Since(oldest) > toldWithin, "the full disk is not named; status says %s", d.last())

		if time.Now().After(until) && (stuck && named != "" || !stuck && time.Since(full) > 4*heldFor) {
			return named
		}
	}
}

// named returns what status has said about the disk since it became full, if it says what to do.
func (d *fullDisk) named(full time.Time) string {
	for _, l := range d.watcher.since(full) {
		for _, f := range l.Findings {
			if l.Level == verdict.Problem && strings.Contains(f.Do, "make room") {
				return fmt.Sprintf("%s after %s", f.Cause, l.told.Sub(full).Round(100*time.Millisecond))
			}
		}
	}

	return ""
}

// judge checks what status said until all files had gone, and how long that took.
func (d *fullDisk) judge(t *testing.T, first int, full, free time.Time) {
	files, departures, err := d.s.In.Record()
	require.NoError(t, err)

	gone := map[int]time.Time{}
	last := free
	for _, left := range departures {
		if left.File >= first {
			gone[left.File-first] = left.Gone
			last = slices.MaxFunc([]time.Time{last, left.Gone}, time.Time.Compare)
		}
	}

	assert.LessOrEqual(t, last.Sub(free), healedWithin, "until all files were done")
	assert.Len(t, gone, len(files)-first, "files that have gone")

	for _, wrong := range wrongOKs(d.watcher.since(full), full, files[first:], gone) {
		t.Error(wrong)
	}

	t.Logf("%d files, done after %s", len(files)-first, last.Sub(free).Round(100*time.Millisecond))
}

// waiting returns how many files have been dropped, and how many of them are still there.
func (d *fullDisk) waiting() (dropped, wait int) {
	files, departures, _ := d.s.In.Record()
	return len(files), len(files) - len(departures)
}

// oldest returns when the file arrived that has been waiting longest.
func (d *fullDisk) oldest() (came time.Time, waits bool) {
	files, departures, _ := d.s.In.Record()
	left := map[int]bool{}
	for _, gone := range departures {
		left[gone.File] = true
	}

	for i, f := range files {
		if !left[i] {
			return f.Appeared, true
		}
	}

	return came, false
}

// last returns what status said last.
func (d *fullDisk) last() judged {
	all := d.watcher.since(time.Time{})
	return all[len(all)-1].judged
}

// saysOK reports whether status has said OK, and nothing else, since a moment.
func (d *fullDisk) saysOK(since time.Time) bool {
	all := d.watcher.since(since)
	return len(all) > 0 && !slices.ContainsFunc(all, func(l looked) bool { return !l.ok() })
}
