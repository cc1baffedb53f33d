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

// Findings are what the last refresh of the mapping found in AtHoc that an operator may want to fix. Employee ids and
// usernames in it are personal data.
type Findings struct {
	// Users counts AtHoc's users, each once, Without those who have no employee id, and Unusable those whose name is empty, or whose
	// name or id is too long to be one or has characters that nobody can see.
	Users    int `json:"users"`
	Without  int `json:"without"`
	Unusable int `json:"unusable"`
	// Ambiguous are employee ids that several users have, with those users. None of them gets the id's duty status.
	Ambiguous map[string][]string `json:"ambiguous,omitempty"`
	// Alike are groups of employee ids that differ only in blanks or leading zeros. They count as different ids, but one of a group
	// is likely to be misspelt.
	Alike [][]string `json:"alike,omitempty"`
	// Left counts what of Ambiguous and Alike is left out, as there is too much of it for a message.
	Left int `json:"left,omitempty"`
}

// fit drops the names that would take more than most bytes.
func (f Findings) fit(most int) Findings {
	size := func(texts ...string) (n int) {
		for _, t := range texts {
			quoted, _ := json.Marshal(t) // there is no string that it cannot write
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

// Findings returns those of the last refresh; they are zero if there was none.
func (j *Journal) Findings() Findings {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.findings
}

// part is a part of a comparison, in a message of its own. Report holds the part's users.
type part struct {
	Report control.ReconcileAnswer `json:"report"`
	Index  int                     `json:"index"`
	Parts  int                     `json:"parts"`
}

// cut cuts a comparison into parts that the broker takes.
func cut(report control.ReconcileAnswer) []part {
	head := report
	head.Users, head.Next = nil, 0
	parts := []part{{Report: head}}
	size := 0
	for _, user := range report.Users {
		data, _ := json.Marshal(user) // it holds nothing that cannot be written
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

// whole puts a comparison together. Parts of an older and longer one come after the last part.
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

// SetComparison replaces the comparison; its Users are all who differ. It is stored whole or not at all.
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

// keepComparison replaces the comparison in memory. The caller holds j.mu, or is alone.
func (j *Journal) keepComparison(report control.ReconcileAnswer) {
	j.comparison = report
	if report.Held == "" {
		j.held.Store(nil)
		return
	}

	report.Users = []control.DifferingUser{} // JSON's null is no list
	j.held.Store(&report)
}

// Held returns the last comparison, without its users, if it sent nothing although it was to; else nil.
func (j *Journal) Held() *control.ReconcileAnswer { return j.held.Load() }

// Comparison returns the last comparison with those of its users who come after an index in the list, as many as fit into an
// answer. It is zero if there was none.
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
