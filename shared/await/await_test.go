package await_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/await"
)

// failed is a test that keeps the failures reported to it; FailNow ends it, as it ends a test.
type failed struct {
	testing.TB
	said []string
}

func (f *failed) Helper() {}
func (f *failed) Errorf(format string, args ...any) {
	f.said = append(f.said, fmt.Sprintf(format, args...))
}
func (f *failed) FailNow() { panic(f) }

func (f *failed) run(test func()) {
	defer func() {
		if ended := recover(); ended != nil && ended != any(f) {
			panic(ended)
		}
	}()

	test()
}

func TestWaiting(t *testing.T) {
	t.Parallel()

	const limit = 3 * time.Second
	for name, c := range map[string]struct {
		after time.Duration // when the value appears
		comes bool
	}{
		"it is there":         {0, true},
		"it comes":            {2 * time.Second, true},
		"it comes at the end": {limit, true},
		"it never comes":      {time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				looks := map[string]func(testing.TB, func() bool){
					"true": func(tb testing.TB, come func() bool) { await.True(tb, come, limit, "what was awaited") },
					"equal": func(tb testing.TB, come func() bool) {
						await.Equal(tb, true, func() any { return come() }, limit, "what was awaited")
					},
					"no failure": func(tb testing.TB, come func() bool) {
						await.NoFailure(tb, func(c *await.Try) { require.Equal(c, true, come()) }, limit, "what was awaited")
					},
				}
				for kind, look := range looks {
					began, times, f := time.Now(), 0, &failed{TB: t}
					f.run(func() { look(f, func() bool { times++; return time.Since(began) >= c.after }) })

					if c.comes {
						require.Empty(t, f.said, kind)
						require.LessOrEqual(t, time.Since(began), c.after+100*time.Millisecond, kind)
					} else {
						require.Contains(t, fmt.Sprint(f.said), "what was awaited", kind)
						require.Less(t, time.Since(began), limit+200*time.Millisecond, kind)
						require.Less(t, times, 60, kind)
					}
				}
			})
		})
	}
}
