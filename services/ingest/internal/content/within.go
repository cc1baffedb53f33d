package content

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// stallTime is how long a single call to the file system may take. A share or a file system of its own kind may never answer; the
// other files go on without it.
const stallTime = 10 * time.Second

// maxStalled bounds how many calls are waited for that do not come back.
const maxStalled = 16

var stalled atomic.Int32

// ErrStalled means that the file system does not answer.
var ErrStalled = errors.New("the file system does not answer for this file")

// errLate is wrapped by the error of a call that has not come back.
var errLate = errors.New("not waited for any longer")

// within makes a call that may hang, and returns what it returns. When it takes too long, or ctx ends, it is left alone; late gets
// what it returns in the end.
func within[T any](ctx context.Context, call func() (T, error), late func(T, error)) (result T, err error) {
	if err := ctx.Err(); err != nil {
		return result, err
	}
	if stalled.Load() >= maxStalled {
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
	select {
	case o := <-came:
		return o.result, o.err
	case <-timer.C:
		err = errors.Join(ErrStalled, errLate)
	case <-ctx.Done():
		err = errors.Join(ctx.Err(), errLate)
	}
	stalled.Add(1)
	go func() {
		o := <-came
		stalled.Add(-1)
		late(o.result, o.err)
	}()
	return result, err
}
