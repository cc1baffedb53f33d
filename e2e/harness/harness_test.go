//go:build unix

package harness

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/e2e/workload"
	"bobosync/shared/await"
)

// patient polls until a condition holds.
func patient(t *testing.T, what string, holds func() bool) {
	t.Helper()
	await.True(t, holds, 10*time.Second, what)
}

// echo answers each line with the same line.
func echo(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })

	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}

			go func() {
				defer c.Close()

				_, _ = io.Copy(c, c)
			}()
		}
	}()

	return l.Addr().String()
}

func newTestProxy(t *testing.T) *Proxy {
	p, err := NewProxy(echo(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// line is a connection that sends and receives lines.
type line struct {
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, address string) line {
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))

	return line{c, bufio.NewReader(c)}
}

func (l line) say(text string) (string, error) {
	if _, err := fmt.Fprintln(l, text); err != nil {
		return "", err
	}
	return l.r.ReadString('\n')
}

func TestProxyPassesOn(t *testing.T) {
	c := dial(t, newTestProxy(t).Addr())
	for i := range 3 {
		got, err := c.say(fmt.Sprint("hello ", i))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintln("hello", i), got)
	}
}

func TestProxyDelays(t *testing.T) {
	p := newTestProxy(t)
	c := dial(t, p.Addr())
	p.Delay(50 * time.Millisecond)

	begin := time.Now()
	_, err := c.say("slowly")
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(begin), 100*time.Millisecond, "there and back")
}

func TestProxyCuts(t *testing.T) {
	p := newTestProxy(t)
	c := dial(t, p.Addr())
	_, err := c.say("hello")
	require.NoError(t, err)
	p.Refuse(true)
	p.Cut()

	_, err = c.say("hello")
	require.Error(t, err)

	refused, err := net.Dial("tcp", p.Addr())
	if err == nil { // the reset can arrive as early as this
		defer refused.Close()

		require.NoError(t, refused.SetDeadline(time.Now().Add(10*time.Second)))
		_, err = line{refused, bufio.NewReader(refused)}.say("hello")
	}

	require.ErrorIs(t, err, syscall.ECONNRESET)
	p.Refuse(false)
	_, err = dial(t, p.Addr()).say("hello")
	require.NoError(t, err)
}

func TestProxyIsSilent(t *testing.T) {
	p := newTestProxy(t)
	c := dial(t, p.Addr())
	p.Silence(true)

	_, err := fmt.Fprintln(c, "hello")
	require.NoError(t, err)
	require.NoError(t, c.SetDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = c.r.ReadString('\n')
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	p.Silence(false)

	got, err := c.r.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "hello\n", got)
}

// TestProxyDropsWhatTheClientGaveUp checks that what a client sent into a silent network does not arrive once the
// client has gone.
func TestProxyDropsWhatTheClientGaveUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")

	require.NoError(t, err)

	defer l.Close()

	p, err := NewProxy(l.Addr().String())
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()

	p.Silence(true)
	c := dial(t, p.Addr())
	_, err = fmt.Fprintln(c, "late")
	require.NoError(t, err)
	server, err := l.Accept()
	require.NoError(t, err)

	defer server.Close()

	require.NoError(t, c.Close())
	require.NoError(t, server.SetDeadline(time.Now().Add(10*time.Second)))
	got, err := io.ReadAll(server)
	require.Empty(t, got)

	if err != nil {
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	}
}

func sleeper(t *testing.T) *Process {
	dir := t.TempDir()
	p := &Process{Name: "sleeper", path: "/bin/sh", args: []string{"-c", "echo begun; exec sleep 60"}, dir: dir, log: filepath.Join(dir, "log")}
	require.NoError(t, p.Start())
	t.Cleanup(func() { require.NoError(t, p.Kill()) })

	return p
}

func TestProcessIsKilledAndStarted(t *testing.T) {
	p := sleeper(t)
	require.True(t, p.Running())
	begun(t, p, 1)
	require.NoError(t, p.Kill())
	require.False(t, p.Running())
	require.NoError(t, p.Died(), "it was killed on purpose")
	require.NoError(t, p.Kill(), "twice does no harm")
	require.NoError(t, p.Start())
	require.True(t, p.Running())
	begun(t, p, 2)
}

// begun waits until the process has printed that many times that it has begun.
func begun(t *testing.T, p *Process, times int) {
	t.Helper()
	patient(t, "it begins", func() bool {
		out, err := os.ReadFile(p.log)
		require.NoError(t, err)
		return strings.Count(string(out), "begun") == times
	})
}

func TestProcessIsFrozen(t *testing.T) {
	p := sleeper(t)
	require.NoError(t, p.Pause())

	state := func() string {
		var name, state string
		var pid int

		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		if errors.Is(err, os.ErrNotExist) {
			t.Skip("there is no /proc")
		}

		_, err = fmt.Sscan(string(stat), &pid, &name, &state)
		require.NoError(t, err)

		return state
	}
	patient(t, "it stands still", func() bool { return state() == "T" })
	require.NoError(t, p.Resume())
	patient(t, "it goes on", func() bool { return state() != "T" })
	require.NoError(t, p.Pause())
	require.NoError(t, p.Kill(), "a frozen process is killed as well")
}

func TestProcessThatEndsByItself(t *testing.T) {
	dir := t.TempDir()
	p := &Process{Name: "brief", path: "/bin/sh", args: []string{"-c", "exit 3"}, dir: dir, log: filepath.Join(dir, "log")}
	require.NoError(t, p.Start())
	patient(t, "it ends", func() bool { return !p.Running() })
	require.ErrorContains(t, p.Died(), "exit status 3")
}

func TestFolderRecords(t *testing.T) {
	root := t.TempDir()
	in, outside := filepath.Join(root, "in"), filepath.Join(root, "outside")
	require.NoError(t, errors.Join(os.Mkdir(in, 0o700), os.Mkdir(outside, 0o700)))
	f := newFolder(in, outside, time.Minute)
	require.NoError(t, f.Drop(workload.File{Name: "a.csv", Content: []byte("1")}))
	require.NoError(t, f.Drop(workload.File{Name: "a.csv", Content: []byte("2")}))
	require.NoError(t, f.Drop(workload.File{Name: "slow.csv", Content: []byte("abc"), Pieces: []int{1, 1, 1}}))
	files, gone, err := f.Record()
	require.NoError(t, err)
	require.Len(t, files, 3)
	require.Empty(t, gone)
	require.Equal(t, "a again 2.csv", files[1].Name, "nothing is overwritten")

	slow, err := os.ReadFile(filepath.Join(in, "slow.csv"))
	require.NoError(t, err)
	require.Equal(t, "abc", string(slow))

	first, err := os.Stat(filepath.Join(in, "a.csv"))
	require.NoError(t, err)
	second, err := os.Stat(filepath.Join(in, "a again 2.csv"))
	require.NoError(t, err)
	require.True(t, second.ModTime().After(first.ModTime()))

	require.NoError(t, os.Remove(filepath.Join(in, "a.csv")))
	require.NoError(t, f.Drop(workload.File{Name: "a.csv", Content: []byte("3")}))
	files, gone, err = f.Record()
	require.NoError(t, err)
	require.Len(t, gone, 1)
	require.Equal(t, 0, gone[0].File)
	require.Equal(t, "a.csv", files[3].Name, "the name was free again")
}

func TestSchedule(t *testing.T) {
	draw := func(seed uint64) []Fault { return Schedule(rand.New(rand.NewPCG(seed, 1)), 12, 8*time.Second) }
	require.Equal(t, draw(1), draw(1))
	require.NotEqual(t, draw(1), draw(2))

	seen := map[string]bool{}
	for seed := range uint64(100) {
		for _, f := range draw(seed) {
			seen[f.What] = true
			require.Less(t, f.At, 8*time.Second)
		}
	}

	all := map[string]bool{}
	for _, k := range faultKinds {
		all[k.what] = true
	}

	require.Equal(t, all, seen, "every kind comes")

	// If something is held, one of the two stores that know of it stays.
	for seed := range uint64(100) {
		mistakes, lost := 0, map[string]bool{}
		for _, f := range Mistakes(rand.New(rand.NewPCG(seed, 2)), draw(seed), 3, 8*time.Second) {
			if f.What == mistake.what {
				mistakes++
			}

			lost[f.What] = true
		}

		require.Equal(t, 3, mistakes)
		require.False(t, lost[lostStateStore] && lost[lostStore])
	}
}
