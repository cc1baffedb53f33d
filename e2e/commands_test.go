//go:build unix

package e2e_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"bobosync/e2e/harness"
	"bobosync/shared/await"
)

// TestCommandsWorkAlike checks that every command that only reads works with the all-in-one program and with separate
// services, for people and for scripts.
func TestCommandsWorkAlike(t *testing.T) {
	for name, allInOne := range map[string]bool{"services": false, "all in one": true} {
		t.Run(name, func(t *testing.T) {
			long(t)
			t.Parallel()

			told := make(chan string, 10)

			receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { told <- r.Header.Get("Webhook-Signature") }))
			defer receiver.Close()

			s := start(t, harness.Config{Publishers: 1, Plan: plan(11, 3), AllInOne: allInOne, Settings: map[string]string{
				"MAPPING_MAX_REMOVAL_PERCENT": "50", // some users are removed from AtHoc at the start
				"NOTIFY_WEBHOOK_URL":          receiver.URL, "NOTIFY_WEBHOOK_SECRET": "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))),
			}})
			require.NoError(t, s.DropAll(t.Context(), plan(11, 3).Files))
			require.NoError(t, s.Idle(idleWithin))
			files := ask[struct {
				Files []struct{ ID, Name string }
			}](t, s, "files", "list")
			require.NotEmpty(t, files.Files)
			pairs := ask[[]struct{ Employee, User string }](t, s, "mapping", "list")
			require.NotEmpty(t, pairs)

			for _, args := range [][]string{
				{"files", "show", files.Files[0].ID}, {"worker", pairs[0].Employee}, {"worker", pairs[0].User},
				{"mapping", "show"}, {"mapping", "refresh"}, {"journal"}, {"reconcile"}, {"reconcile", "--last"}, {"dead", "list"},
				{"replay", "--all", "--dry-run"}, {"replay", "list"}, {"held"}, {"held", "list"}, {"pause", "--for", "1m", "--reason", "a test"}, {"resume"}, {"feeds", "list"}, {"feeds", "mute", "default", "--for", "1h", "--reason", "a test"}, {"notify", "test"},
				{"files", "try", s.Path("processed", files.Files[0].Name)},
			} {
				out, err := s.Operate(t.Context(), args...)
				require.NoError(t, err)
				require.NotEmpty(t, out)
				ask[any](t, s, args...)
			}

			require.NotEmpty(t, <-told, "a notice is signed")
			await.True(t, func() bool { // an answer that is late is not waited for
				out, _ := s.Operate(t.Context(), "status") // the exit status is not 0, because the simulator is called without TLS
				return strings.Contains(out, "duty data is fresh") && status(t, s, nil).ok()
			}, idleWithin)
		})
	}
}

// ask runs a command as a script does; the command must answer.
func ask[T any](t *testing.T, s *harness.Stack, args ...string) T {
	t.Helper()
	answer, err := asked[T](t, s, args...)
	require.NoError(t, err)
	return answer
}

// asked runs a command as a script does.
func asked[T any](t *testing.T, s *harness.Stack, args ...string) (answer T, err error) {
	t.Helper()

	out, err := s.Operate(t.Context(), append(args, "--json")...)
	if err == nil {
		err = json.Unmarshal([]byte(out), &answer)
	}

	return answer, err
}
