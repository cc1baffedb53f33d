package content

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"time"
)

// stallTime is how long a single call to the file system may take. A network share or an unusual file system may
// never answer; the other files are then read without it.
const stallTime = 10 * time.Second

// maxStalled bounds how many calls that do not return may be left waiting in one directory. Each directory has its
// own bound, so that a directory that hangs does not keep the files of another from being read.
const maxStalled = 16

// stalls counts the calls that have not returned, by the path of their file and by its directory.
type stalls struct {
	mu    sync.Mutex
	calls map[string]int
}

var stalled = stalls{calls: map[string]int{}}

// blocks reports whether no call may be made for the file at a path, because an earlier call for it has not returned,
// or too many in its directory. Without the first condition, a single file that is tried again and again would block
// all others in its directory.
func (s *stalls) blocks(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[path] > 0 || s.calls[filepath.Dir(path)] >= maxStalled
}

func (s *stalls) add(n int, keys ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()

	for _, key := range keys {
		if s.calls[key] += n; s.calls[key] == 0 {
			delete(s.calls, key)
		}
	}
}

// ErrStalled means that the file system does not answer.
var ErrStalled = errors.New("the file system does not answer for this file")

// errLate is wrapped by the error of a call that has not returned.
var errLate = errors.New("not waited for any longer")

// within makes a call for the file at a path, which may hang, and returns its result. If the call takes longer than
// stallTime, or ctx ends, within stops waiting and returns an error; late gets the result once the call returns.
func within[T any](ctx context.Context, path string, call func() (T, error), late func(T, error)) (result T, err error) {
	if err := ctx.Err(); err != nil {
		return result, err
	}

	if stalled.blocks(path) {
		return result, ErrStalled
	}

	type outcome struct {
		result T
		err    error
	}
	came := make(chan outcome, 1)
	go func() {
		r, err := call()
		came <- outcome{r, err}
	}()

	timer := time.NewTimer(stallTime)
	defer timer.Stop()

	keys := []string{filepath.Dir(path)}
	select {
	case o := <-came:
		return o.result, o.err
	case <-timer.C:
		keys = append(keys, path)
		err = errors.Join(ErrStalled, errLate)
	case <-ctx.Done():
		err = errors.Join(ctx.Err(), errLate)
	}

	stalled.add(1, keys...)
	go func() {
		o := <-came

		stalled.add(-1, keys...)
		late(o.result, o.err)
	}()

	return result, err
}
