package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/await"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// holding lists the files below a directory that contain one of the texts, in upper or lower case.
func holding(t *testing.T, dir string, texts ...string) (found []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a running broker creates and removes files
		}

		if err != nil || d.IsDir() {
			return err
		}

		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}

		for _, text := range texts {
			if bytes.Contains(bytes.ToLower(data), bytes.ToLower([]byte(text))) {
				found = append(found, path+" has "+text)
			}
		}

		return err
	}))

	return found
}

// TestNothingIsLeftOfAWorkerWhoIsErased checks that no file of any store contains a byte of the worker's names, nor of
// the hashes under which the worker was stored. The audit must still verify, and all other workers must be unchanged.
func TestNothingIsLeftOfAWorkerWhoIsErased(t *testing.T) {
	const employee, user = "8877123", "Zara.Quill@example.org"
	s := newSite(t, 8)
	s.vars["MAPPING_MAX_REMOVAL_PERCENT"] = "100"
	require.NoError(t, s.athoc.PutUsers(sim.User{LoginID: user, Attributes: map[string]string{sim.DefaultCollar: employee}}))

	his := func(minutesAgo int, on bool) string {
		return strings.Replace(booking(1, minutesAgo, on), ",00001,", ","+employee+",", 1)
	}
	stop := s.start()
	for n := range 4 {
		name := fmt.Sprintf("%d.csv", n)
		s.drop(name, booking(1, 50-n, n%2 == 0), his(50-n, n%2 == 0), booking(2, 50-n, true))
		s.arrives("done", name)
	}

	s.succeeds("replay", "--worker", employee, "--worker", "00002", "--watch")
	s.until("AtHoc has answered the replay", func() bool { return !strings.Contains(s.succeeds("worker", employee), "on its way") })
	s.succeeds("worker", employee, "--at", "1ms")
	s.succeeds("reconcile")

	subjects := []string{topology.HistorySubject(employee, ""), topology.UpdatesSubject(user)}
	require.NotEmpty(t, holding(t, s.path("data"), append(subjects, employee, user)...))

	order := []string{"erase", employee, "--reason", "he asked for it"}
	s.fails(1, "AtHoc still has a user", append(order, "--yes")...)
	s.fails(2, "the reason names the worker", "erase", employee, "--reason", "for "+user)
	_, err := s.athoc.RemoveUsers(user)
	require.NoError(t, err)
	s.succeeds("mapping", "refresh")
	s.until("nothing is under way", func() bool { _, text, _ := s.call(order...); return text == "" })
	forecast := s.succeeds(order...)
	require.Contains(t, forecast, "Nothing is erased yet")
	require.Contains(t, forecast, user)
	require.Contains(t, forecast, "2.csv")
	s.succeeds("worker", employee)

	out, text, status := s.call(append(order, "--yes")...)
	require.Zero(t, status, text)
	require.Contains(t, out, "What the broker had deleted is overwritten.")

	check := func() {
		t.Helper()
		s.until("the services answer", func() bool { _, _, status := s.call("worker", "00001", "--at", "1ms"); return status == 0 })
		require.Empty(t, holding(t, s.path("data"), employee, user))

		for _, subject := range subjects {
			hash := subject[strings.LastIndex(subject, ".")+1:]
			raw, err := hex.DecodeString(hash)
			require.NoError(t, err)
			require.Empty(t, holding(t, s.path("data"), hash, string(raw)), "the hash of "+subject)
		}

		require.Contains(t, s.succeeds("audit", "verify"), "are as they were written")
		require.Contains(t, s.succeeds("audit", "list"), "he asked for it")
		require.NotContains(t, s.succeeds("audit", "list", "--json"), employee)
	}
	check()
	var past control.PastAnswer
	require.NoError(t, json.Unmarshal([]byte(s.succeeds("worker", "00001", "--at", "1ms", "--json")), &past))
	require.Len(t, past.Deliveries, 4, "the others' history is as it was")
	s.fails(1, "is neither", "worker", employee)
	stop()
	require.Equal(t, "0 messages overwritten.\n", s.succeeds("erase", "scrub", s.path("data", "jetstream"), employee, user, "--through", "ACKS=9999,ENTRIES=9999"))
	require.Regexp(t, `^[1-9]\d* messages overwritten\.\n$`, s.succeeds("erase", "scrub", s.path("data", "jetstream"), "00002", username(2)), "what was replaced")
	s.start()
	check()
	require.FileExists(t, s.path("data", client.AddressFile))
	s.drop("new.csv", his(1, true), booking(1, 1, true))
	s.arrives("done", "new.csv")
	await.True(t, func() bool { return s.onDuty()[username(1)] != "" }, time.Minute)
}
