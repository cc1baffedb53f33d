package main

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bobosync/shared/client"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// letters returns the dead letters that dead list shows with these arguments.
func (s *site) letters(args ...string) []client.Letter {
	s.t.Helper()

	var all []client.Letter
	if err := json.Unmarshal([]byte(s.succeeds(append([]string{"dead", "list", "--json"}, args...)...)), &all); err != nil {
		s.t.Fatal(err)
	}

	return all
}

// TestDeadLettersAreMended checks that a wrong setting makes dead letters, and that a requeue completes the file once
// the setting is right.
func TestDeadLettersAreMended(t *testing.T) {
	s := newSite(t, 5)
	s.vars["DUTY_STATUS_FIELD"] = "No-Such-Field"
	stop := s.start()
	s.drop("monday.csv", booking(1, 50, true), booking(2, 50, true), booking(3, 50, false))
	s.arrives("failed", "monday.csv")
	s.drop("tuesday.csv", booking(4, 40, true))
	s.arrives("failed", "tuesday.csv")

	if on := s.onDuty(); len(on) > 0 {
		t.Errorf("on duty: %v", on)
	}

	all := s.letters()
	if len(all) != 4 {
		t.Fatalf("dead letters: %+v", all)
	}

	for _, l := range all {
		if l.Service != "publisher" || !strings.Contains(l.Reason, "No-Such-Field") || l.File == "" || l.Row < 1 || l.Attempts < 1 || l.Died.IsZero() || l.First.IsZero() {
			t.Errorf("dead letter %+v", l)
		}

		if strings.Contains(l.Reason, "@") {
			t.Errorf("a username in the reason: %s", l.Reason)
		}
	}

	monday, tuesday := s.letters("--file", "monday.csv"), s.letters("--file", "tuesday.csv")
	if len(monday) != 3 || len(tuesday) != 1 {
		t.Errorf("%d of Monday, %d of Tuesday", len(monday), len(tuesday))
	}

	if got := s.letters("--file", tuesday[0].File[:12]); len(got) != 1 {
		t.Errorf("by the id as the list shows it: %+v", got)
	}

	if got := s.letters("--reason", "NO-such"); len(got) != 4 {
		t.Errorf("by reason: %d", len(got))
	}

	if got := s.letters("--reason", "the moon"); len(got) != 0 {
		t.Errorf("by another reason: %+v", got)
	}

	id := strconv.FormatUint(tuesday[0].ID, 10)
	if out := s.succeeds("dead", "list"); !strings.Contains(out, tuesday[0].File[:12]) || strings.Count(out, "No-Such-Field") != 4 {
		t.Errorf("list: %s", out)
	}

	var shown struct {
		ID      uint64
		Payload event.Update
	}
	if err := json.Unmarshal([]byte(s.succeeds("dead", "show", id)), &shown); err != nil || shown.ID != tuesday[0].ID ||
		shown.Payload.User != username(4) || !shown.Payload.On {
		t.Errorf("shown: %+v, error %v", shown, err)
	}

	s.fails(1, "there is no dead letter 99", "dead", "show", "99")
	s.fails(2, `"x" is no id`, "dead", "show", "x")
	s.fails(1, "there is no dead letter 99", "dead", "requeue", id, "99")
	s.fails(2, "say which", "dead", "requeue")
	s.fails(2, "say which", "dead", "drop")
	s.fails(1, `no file "sunday.csv"`, "dead", "drop", "--file", "sunday.csv")

	if out := s.succeeds("dead", "drop", "--reason", "the moon"); !strings.Contains(out, "no such dead letters") {
		t.Errorf("nothing to drop: %s", out)
	}

	if len(s.letters()) != 4 {
		t.Error("a mistake has dropped something")
	}

	stop()

	s.vars["DUTY_STATUS_FIELD"] = "On-Duty-DTG"
	stop = s.start()
	s.drop("wednesday.csv", booking(2, 10, false))
	s.arrives("done", "wednesday.csv")

	would := s.succeeds("dead", "requeue", "--file", "monday.csv", "--dry-run")
	if !strings.Contains(would, "2 would be sent; of 1 a newer booking has won") {
		t.Errorf("dry run: %s", would)
	}

	out := s.succeeds("dead", "requeue", "--file", "monday.csv")
	if strings.Count(out, "is sent again") != 2 || strings.Count(out, "a newer event has won") != 1 {
		t.Errorf("requeue: %s", out)
	}

	s.arrives("done", "monday.csv")

	if exists(s.path("failed", "monday.csv")) {
		t.Error("the file lies among the failed ones too")
	}

	if on := s.onDuty(); len(on) != 1 || on[username(1)] == "" {
		t.Errorf("on duty: %v", on)
	}

	if got := s.letters(); len(got) != 1 || got[0].ID != tuesday[0].ID {
		t.Errorf("left: %+v", got)
	}

	if out := s.succeeds("dead", "drop", id, id); !strings.Contains(out, id+": dropped") {
		t.Errorf("drop: %s", out)
	}

	if out := s.succeeds("dead", "list", "--json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("left: %s", out)
	}

	if !exists(s.path("failed", "tuesday.csv")) {
		t.Error("a file whose dead letter was dropped has moved")
	}

	stop()
}

// TestRequeueNeverBringsBackWhatIsOlder checks that unreadable updates and mappings are not requeued: they could
// replace newer ones.
func TestRequeueNeverBringsBackWhatIsOlder(t *testing.T) {
	s := newSite(t, 2)
	s.open()
	s.start()
	s.drop("monday.csv", booking(1, 50, true))
	s.arrives("done", "monday.csv")

	conn := s.broker()
	for _, subject := range []string{topology.UpdatesSubject(username(2)), topology.SubjectMapping, topology.SubjectAcks} {
		if _, err := conn.JS.Publish(t.Context(), subject, []byte(`{"v":99}`)); err != nil {
			t.Fatal(err)
		}
	}

	// Two services read the acknowledgement.
	s.until("all are dead", func() bool { return len(s.letters("--reason", "version 99")) == 4 })

	updates, mappings := lastSequence(t, s, topology.StreamUpdates), lastSequence(t, s, topology.StreamMapping)
	for subject, advice := range map[string]string{
		topology.UpdatesSubject(username(2)): "replay", topology.SubjectMapping: "janitor",
	} {
		at := slices.IndexFunc(s.letters(), func(l client.Letter) bool { return l.Subject == subject })
		if at < 0 {
			t.Fatalf("no dead letter of %s", subject)
		}

		s.fails(1, advice, "dead", "requeue", strconv.FormatUint(s.letters()[at].ID, 10))
	}

	s.fails(1, "2 of 4 dead letters stay", "dead", "requeue", "--all")

	if lastSequence(t, s, topology.StreamUpdates) != updates || lastSequence(t, s, topology.StreamMapping) != mappings {
		t.Error("it was published again")
	}

	// Both services read both requeued copies, so there are four dead letters of acknowledgements.
	s.until("the others are dead again", func() bool { return len(s.letters()) == 2+4 })
	s.succeeds("dead", "drop", "--all")
}

func lastSequence(t *testing.T, s *site, stream string) uint64 {
	t.Helper()

	info, err := s.broker().JS.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}

	return info.CachedInfo().State.LastSeq
}
