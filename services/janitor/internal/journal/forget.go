package journal

// Erasing a worker from the journal.

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"bobosync/shared/control"
	"bobosync/shared/erase"
	"bobosync/shared/topology"
)

// Forget erases a worker from the entries, from the last comparison and from the findings of the last refresh of the
// mapping.
func (j *Journal) Forget(ctx context.Context, n erase.Names) (answer control.ForgetAnswer, err error) {
	if answer.Entries, err = j.forgetInEntries(ctx, n); err != nil {
		return answer, err
	}

	reports, err := j.forgetInReports(n)
	answer.Entries += reports
	if err != nil {
		return answer, err
	}

	info, err := j.storage.stream.Info(ctx)
	if err != nil {
		return answer, fmt.Errorf("look at stream %s: %w", topology.StreamJournal, err)
	}

	answer.Through = info.State.LastSeq

	return answer, nil
}

// forgetInReports holds the lock throughout: otherwise a newer report could be overwritten with the rest of the
// previous one.
func (j *Journal) forgetInReports(n erase.Names) (changed int, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()

	report := j.comparison
	report.Users = slices.DeleteFunc(slices.Clone(report.Users), func(u control.DifferingUser) bool { return mentions(n, u) })
	if len(report.Users) < len(j.comparison.Users) {
		changed++
		if err := j.setComparison(report); err != nil {
			return changed, err
		}
	}

	if mentions(n, j.findings) {
		changed++
		return changed, j.setFindings(j.findings.without(n))
	}

	return changed, nil
}

func mentions(n erase.Names, v any) bool {
	data, err := json.Marshal(v)
	return err == nil && n.MentionedIn(data)
}

func (j *Journal) forgetInEntries(ctx context.Context, n erase.Names) (changed int, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()

	for _, e := range slices.Clone(j.entries) {
		if !mentions(n, e.JournalEntry) {
			continue
		}

		data, err := json.Marshal(e.JournalEntry)
		if err == nil {
			data, err = n.Redact(data)
		}

		var without control.JournalEntry
		if err == nil {
			err = json.Unmarshal(data, &without)
		}

		if err != nil {
			return changed, fmt.Errorf("take a worker out of the journal: %w", err)
		}

		if err := j.store(ctx, without); err != nil {
			return changed, err
		}

		changed++
	}

	return changed, nil
}

// without returns the findings without the groups that mention a person.
func (f Findings) without(n erase.Names) Findings {
	f.Ambiguous = maps.Clone(f.Ambiguous)
	maps.DeleteFunc(f.Ambiguous, func(id string, users []string) bool { return n.Are(id) || slices.ContainsFunc(users, n.Are) })

	alike := f.Alike
	f.Alike = nil
	for _, ids := range alike {
		if !slices.ContainsFunc(ids, n.Are) {
			f.Alike = append(f.Alike, ids)
		}
	}

	return f
}
