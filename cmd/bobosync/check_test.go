package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"bobosync/shared/check"
)

// checkedAs returns the level of the named check, or "" if there is no such check.
func checkedAs(results []check.Result, name string) check.Level {
	for _, r := range results {
		if r.Check == name {
			return r.Level
		}
	}

	return ""
}

// TestCheckBesideARunningProgram checks that bobosync check uses the running services' broker and token, and disturbs
// nothing.
func TestCheckBesideARunningProgram(t *testing.T) {
	s := newSite(t, 3)
	stop := s.start()
	s.drop("a.csv", booking(1, 10, true))
	s.arrives("done", "a.csv")
	out, text, status := s.call("check", "--json")
	require.Equal(t, 1, status, "%s%s", out, text) // the simulator speaks no TLS
	require.Empty(t, text)
	var results []check.Result
	require.NoError(t, json.Unmarshal([]byte(out), &results))

	for _, name := range []string{"settings", "CSV_DIRECTORY", "broker", "streams", "consumers", "buckets", "sync to disk", "AtHoc token", "duty status right"} {
		require.Equal(t, check.OK, checkedAs(results, name), "%s: %s", name, out)
	}

	require.Contains(t, out, "no new one was asked for")
	require.NotContains(t, out, s.vars["PASSWORD"])
	s.drop("b.csv", booking(2, 5, true))
	s.arrives("done", "b.csv")
	require.Len(t, s.onDuty(), 2)
	stop()
	s.fails(1, "bobosync run, which is not running now", "check")
}

// TestRunningServicesCheck checks that each running service checks what it needs, and that the journal and the audit
// have the request.
func TestRunningServicesCheck(t *testing.T) {
	s := newSite(t, 3)

	stop := s.start()
	defer stop()

	out, text, status := s.call("check", "--running", "--json")
	require.Equal(t, 1, status, "%s%s", out, text) // the simulator speaks no TLS
	var results []check.Result
	require.NoError(t, json.Unmarshal([]byte(out), &results))

	found := map[string]check.Level{}
	for _, r := range results {
		found[string(r.Service)+": "+r.Check] = r.Level
	}

	for _, name := range []string{
		"ingest: CSV_DIRECTORY", "ingest: moving files", "resolver: DATA_DIRECTORY", "publisher: duty status right", "janitor: employee id attribute", "janitor: streams",
	} {
		require.Equal(t, check.OK, found[name], "%s: %s", name, out)
	}

	require.NotContains(t, out, s.vars["PASSWORD"])
	require.NoError(t, os.RemoveAll(s.vars["PROCESSED_DIRECTORY"]))
	require.NoError(t, os.WriteFile(s.vars["PROCESSED_DIRECTORY"], nil, 0o600))
	s.fails(2, "is not a directory", "check", "--running")
	require.Contains(t, s.succeeds("journal"), "check by the running services")
	require.Contains(t, s.succeeds("audit", "list"), "ingest check")
	s.fails(2, "none of the others can be", "check", "--running", "--service", "ingest")
}

func TestCheckNamesAllSettingsAtOnce(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(dir+"/.env", []byte("ATHOC_SERVER_ULR=https://x\nBATCH_SIZE=many\n"), 0o600))
	out, _, status := call(t, command(t, dir, map[string]string{"DATA_DIRECTORY": dir}, "check"))
	require.Equal(t, 2, status, out)

	for _, says := range []string{"ATHOC_SERVER_URL", "PASSWORD", "ORG_CODE", "CSV_DIRECTORY", "is ATHOC_SERVER_URL meant?", "not a whole number", "not tried: settings are missing"} {
		require.Contains(t, out, says)
	}

	require.Equal(t, 1, strings.Count(out, "problem  ORG_CODE"), out)
}

func TestCheckOfOneService(t *testing.T) {
	dir := t.TempDir()
	vars := map[string]string{"DATA_DIRECTORY": dir}
	out, _, status := call(t, command(t, dir, vars, "check", "--service", "resolver"))
	require.Equal(t, 2, status)
	require.Contains(t, out, "NATS_URL")
	require.NotContains(t, out, "ATHOC")
	require.NotContains(t, out, "CSV_DIRECTORY")

	for says, args := range map[string][]string{
		"use ingest, resolver":         {"check", "--service", "postman"},
		"must be longer than 0s":       {"check", "--timeout", "0s"},
		"read the settings":            {"check", "--env", dir + "/missing.env"},
		"is not a list of NAME=value ": {"check", "--env", "broken.env"},
	} {
		require.NoError(t, os.WriteFile(dir+"/broken.env", []byte("not a setting\n"), 0o600))
		out, text, status := call(t, command(t, dir, vars, args...))
		require.Equal(t, 2, status, "%v", args)
		require.Contains(t, out+text, says, "%v", args)
	}
}
