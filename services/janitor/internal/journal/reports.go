package journal

// What the last refresh of the mapping and the last comparison found.

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// Findings are what the last refresh of the mapping found in AtHoc that an operator may want to fix. The employee ids
// and usernames in it are personal data.
type Findings struct {
	// Users counts AtHoc's users that have a usable name, each once. Without counts those that have no employee id.
	// Unusable counts those whose name is empty, and those whose name or id is too long or has invisible characters.
	Users    int `json:"users"`
	Without  int `json:"without"`
	Unusable int `json:"unusable"`
	// Ambiguous maps each employee id that several users have to these users. None of them gets the id's duty status.
	Ambiguous map[string][]string `json:"ambiguous,omitempty"`
	// Alike holds groups of employee ids that differ only in blanks or leading zeros. They count as different ids, but
	// one id of each group is probably misspelt.
	Alike [][]string `json:"alike,omitempty"`
	// Left is the number of entries of Ambiguous and Alike that were left out because they do not fit into a message.
	Left int `json:"left,omitempty"`
}

// fit returns the findings without the entries of Ambiguous and Alike that would exceed most bytes, and counts them in
// Left.
func (f Findings) fit(most int) Findings {
	size := func(texts ...string) (n int) {
		for _, t := range texts {
			quoted, _ := json.Marshal(t) // a string can always be marshalled
			n += len(quoted) + len(":[],")
		}

		return n
	}
	out := f
	out.Ambiguous, out.Alike = map[string][]string{}, nil
	for _, id := range slices.Sorted(maps.Keys(f.Ambiguous)) {
		if most -= size(append([]string{id}, f.Ambiguous[id]...)...); most < 0 {
			out.Left++
			continue
		}

		out.Ambiguous[id] = f.Ambiguous[id]
	}

	for _, ids := range f.Alike {
		if most -= size(ids...); most < 0 {
			out.Left++
			continue
		}

		out.Alike = append(out.Alike, ids)
	}

	return out
}

// SetFindings replaces the findings.
func (j *Journal) SetFindings(f Findings) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.setFindings(f)
}

func (j *Journal) setFindings(f Findings) error {
	f = f.fit(answerBytes)

	ctx, cancel := writing()
	defer cancel()

	if _, err := j.storage.publish(ctx, topology.SubjectJournalMapping, f); err != nil {
		return err
	}

	j.findings = f

	return nil
}

// Findings returns the findings of the last refresh, or the zero value if there was none.
func (j *Journal) Findings() Findings {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.findings
}

// part is one message of a comparison. Report holds this part's users.
type part struct {
	Report control.ReconcileAnswer `json:"report"`
	Index  int                     `json:"index"`
	Parts  int                     `json:"parts"`
}

// cut cuts a comparison into parts that fit into a message.
func cut(report control.ReconcileAnswer) []part {
	head := report
	head.Users, head.Next = nil, 0
	parts := []part{{Report: head}}
	size := 0
	for _, user := range report.Users {
		data, _ := json.Marshal(user) // the type has nothing that cannot be marshalled
		if size += len(data) + len(","); size > answerBytes {
			parts, size = append(parts, part{Report: head, Index: len(parts)}), len(data)
		}

		last := &parts[len(parts)-1].Report
		last.Users = append(last.Users, user)
	}

	for i := range parts {
		parts[i].Parts = len(parts)
	}

	return parts
}

// whole joins the parts of a comparison. Parts that are left over from an older, longer comparison have higher indexes
// and are ignored.
func whole(parts []part) (report control.ReconcileAnswer) {
	slices.SortFunc(parts, func(a, b part) int { return a.Index - b.Index })

	if len(parts) == 0 || len(parts) < parts[0].Parts {
		return report
	}

	report = parts[0].Report
	for _, p := range parts[1:parts[0].Parts] {
		report.Users = append(report.Users, p.Report.Users...)
	}

	return report
}

// SetComparison replaces the comparison. Its Users are all users that differ. It is stored as a whole or not at all.
func (j *Journal) SetComparison(report control.ReconcileAnswer) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.setComparison(report)
}

func (j *Journal) setComparison(report control.ReconcileAnswer) error {
	var messages []*message.Message
	for _, p := range cut(report) {
		data, err := json.Marshal(p)
		if err != nil {
			return fmt.Errorf("write the comparison: %w", err)
		}

		messages = append(messages, bus.NewMessage(topology.JournalComparisonSubject(p.Index), data))
	}

	ctx, cancel := writing()
	defer cancel()

	last, err := j.storage.pub.PublishBatch(ctx, messages...)
	if err != nil {
		return j.storage.failed(err)
	}

	j.keepComparison(report)

	first := last - uint64(len(messages)) + 1

	err = j.storage.stream.Purge(ctx, jetstream.WithPurgeSubject(topology.JournalComparisonSubjects), jetstream.WithPurgeSequence(first))
	if err != nil {
		return fmt.Errorf("remove the comparison before: %w", err)
	}

	return nil
}

// keepComparison replaces the comparison in memory. The caller holds j.mu, unless nobody else has j yet.
func (j *Journal) keepComparison(report control.ReconcileAnswer) {
	j.comparison = report
	if report.Held == "" {
		j.held.Store(nil)
		return
	}

	report.Users = []control.DifferingUser{} // an empty list rather than JSON's null
	j.held.Store(&report)
}

// Held returns the last comparison, without its users, if it should have sent statuses but the guard held them back;
// otherwise nil.
func (j *Journal) Held() *control.ReconcileAnswer { return j.held.Load() }

// Comparison returns the last comparison with its users from index after on, as many as fit into an answer. It returns
// the zero value if there was none.
func (j *Journal) Comparison(after int) (control.ReconcileAnswer, error) {
	if after < 0 {
		return control.ReconcileAnswer{}, control.Refuse("a list has no place %d", after)
	}

	j.mu.Lock()
	report := j.comparison
	j.mu.Unlock()

	left := report.Users[min(after, len(report.Users)):]
	report.Users = []control.DifferingUser{}
	size := 0
	for _, user := range left {
		data, err := json.Marshal(user)
		if err != nil {
			return report, fmt.Errorf("write a part of the comparison: %w", err)
		}

		if size += len(data) + len(","); size > answerBytes && len(report.Users) > 0 {
			report.Next = after + len(report.Users)
			break
		}

		report.Users = append(report.Users, user)
	}

	return report, nil
}
