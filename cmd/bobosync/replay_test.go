package main

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/client"
	"bobosync/shared/control"
)

// forget makes AtHoc lose all duty statuses.
func (s *site) forget() {
	s.t.Helper()

	var logins []string
	for _, u := range s.athoc.Users() {
		logins = append(logins, u.LoginID)
	}

	if _, err := s.athoc.ClearAttribute(sim.DefaultDutyAttribute, logins...); err != nil {
		s.t.Fatal(err)
	}

	if on := s.onDuty(); len(on) > 0 {
		s.t.Fatalf("still on duty: %v", on)
	}
}

func (s *site) replays() []control.ReplayState {
	s.t.Helper()

	var all []control.ReplayState
	if err := json.Unmarshal([]byte(s.succeeds("replay", "list", "--json")), &all); err != nil {
		s.t.Fatal(err)
	}

	return all
}

func TestReplayRestoresEveryStatus(t *testing.T) {
	s := newSite(t, 6)
	s.start()

	if out := s.succeeds("replay", "list", "--json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("no replays are %s", out)
	}

	s.drop("monday.csv", booking(1, 50, true), booking(2, 50, true), booking(3, 50, true), booking(4, 50, true))
	s.arrives("done", "monday.csv")
	s.drop("tuesday.csv", booking(2, 40, false), booking(3, 30, true), booking(5, 30, true))
	s.arrives("done", "tuesday.csv")

	want := s.onDuty()
	if len(want) != 4 {
		t.Fatalf("on duty: %v", want)
	}

	only := func(workers ...int) map[string]string {
		some := map[string]string{}
		for _, w := range workers {
			some[username(w)] = want[username(w)]
		}

		return some
	}

	s.forget()

	if out := s.succeeds("replay", "--all", "--dry-run"); !strings.Contains(out, "It would be 5 users (everyone)") || !strings.Contains(out, "Some 1 calls") {
		t.Errorf("dry run: %s", out)
	}

	if out := s.succeeds("replay", "list"); strings.Contains(out, "everyone") {
		t.Errorf("a dry run left a record: %s", out)
	}

	if on := s.onDuty(); len(on) > 0 {
		t.Errorf("a dry run has sent %v", on)
	}

	out := s.succeeds("replay", "--all", "--watch")
	if !strings.Contains(out, "All 5 users are on their way") {
		t.Errorf("watched: %s", out)
	}

	s.until("every status is restored", func() bool { return maps.Equal(s.onDuty(), want) })

	for what, c := range map[string]struct {
		args []string
		want map[string]string
	}{
		"file monday":   {[]string{"--file", "monday.csv"}, only(1, 3, 4)}, // 2 is in the file too, but off duty
		"workers":       {[]string{"--worker", "00001,00002", "--worker", "00005"}, only(1, 5)},
		"users":         {[]string{"--user", strings.ToUpper(username(4))}, only(4)},
		"since":         {[]string{"--since", "1h"}, want},
		"entries since": {[]string{"--entries-since", time.Now().Add(-time.Hour).Format("2006-01-02 15:04")}, want},
	} {
		s.forget()
		s.succeeds(append([]string{"replay", "--watch"}, c.args...)...)
		s.until(what+" is restored", func() bool { return len(s.onDuty()) >= len(c.want) })

		if got := s.onDuty(); !maps.Equal(got, c.want) {
			t.Errorf("%s restored %v, want %v", what, got, c.want)
		}
	}

	all := s.replays()
	if len(all) != 6 {
		t.Fatalf("%d replays are in the list", len(all))
	}

	first := all[5]
	if first.What != "everyone" || first.By != client.Whoami() || first.Users != 5 || first.Left != 0 || first.Ended.Before(first.Started) || first.Stopped {
		t.Errorf("record %+v", first)
	}

	if out := s.succeeds("replay", "list"); !strings.Contains(out, first.ID) || !strings.Contains(out, "everyone") {
		t.Errorf("list: %s", out)
	}

	var told struct {
		control.ReplayState
		DryRun bool `json:"dry_run"`
		Calls  int  `json:"calls"`
	}
	if err := json.Unmarshal([]byte(s.succeeds("replay", "--all", "--dry-run", "--json")), &told); err != nil || told.Users != 5 || !told.DryRun || told.Calls != 1 {
		t.Errorf("dry run in JSON: %+v, error %v", told, err)
	}

	s.fails(1, "under way", "replay", "stop", first.ID)
	s.fails(2, `"soon" is no time`, "replay", "--since", "soon")
	s.fails(2, `"2024-13-01" is no time`, "replay", "--entries-since", "2024-13-01")
	s.fails(1, `no file "sunday.csv"`, "replay", "--file", "sunday.csv")

	if len(s.replays()) != 6 {
		t.Error("a mistake began a replay")
	}
}
