package journal

// The entries in memory, in the order of their ids: which ones a request lists, and how one entry represents several
// runs.

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"bobosync/shared/control"
)

const (
	// listed is the number of entries in an answer unless the request sets another, and maxListed the largest that it
	// can set.
	listed    = 200
	maxListed = 1000
	// answerBytes bounds an answer, well below the broker's limit of 1 MB for a message.
	answerBytes = 512 << 10
)

// timesCount is the key, in an entry's counts, for the number of runs that it represents, if they are more than one.
const timesCount = "times"

// entry is an entry with its sequence in the stream.
type entry struct {
	control.JournalEntry
	seq uint64
}

// entries are the journal's entries, sorted by id.
type entries []entry

func byID(e entry, id string) int { return strings.Compare(e.ID, id) }

func (all entries) sort() {
	slices.SortFunc(all, func(a, b entry) int { return byID(a, b.ID) })
}

func (all entries) get(id string) (entry, bool) {
	i, ok := slices.BinarySearchFunc(all, id, byID)
	if !ok {
		return entry{}, false
	}

	return all[i], true
}

// put adds an entry, or replaces the entry with the same id.
func (all *entries) put(e entry) {
	i, ok := slices.BinarySearchFunc(*all, e.ID, byID)
	if ok {
		(*all)[i] = e
		return
	}

	*all = slices.Insert(*all, i, e)
}

func (all *entries) remove(id string) {
	if i, ok := slices.BinarySearchFunc(*all, id, byID); ok {
		*all = slices.Delete(*all, i, i+1)
	}
}

// merge reports whether the last entry of e's kind before e says the same as e, and neither has an operator. If so, it
// returns that entry, changed so that it represents e as well.
func (all entries) merge(e control.JournalEntry) (control.JournalEntry, bool) {
	end, _ := slices.BinarySearchFunc(all, e.ID, byID)
	for _, before := range slices.Backward(all[:end]) {
		if before.Kind != e.Kind {
			continue
		}

		alike := before.By == "" && e.By == "" && before.Outcome == e.Outcome && before.Error == e.Error && before.Text == e.Text
		if !alike {
			return e, false
		}

		merged := before.JournalEntry
		merged.Counts = map[string]int{timesCount: max(before.Counts[timesCount], 1) + 1}
		maps.Copy(merged.Counts, e.Counts)
		merged.Ended = e.Ended

		return merged, true
	}

	return e, false
}

// list returns the entries that a request asks for, newest first.
func (all entries) list(req control.JournalRequest) (control.JournalAnswer, error) {
	answer := control.JournalAnswer{Entries: []control.JournalEntry{}}

	chosen, err := all.indexBefore(req)
	if err != nil {
		return answer, err
	}

	most := min(req.Most, maxListed)
	if most <= 0 {
		most = listed
	}

	size := 0
	for _, e := range slices.Backward(chosen) {
		if req.Kind != "" && e.Kind != req.Kind || e.Started.Before(req.Since) {
			continue
		}

		data, err := json.Marshal(e.JournalEntry)
		if err != nil {
			return answer, err
		}

		size += len(data) + len(",")
		if len(answer.Entries) == most || size > answerBytes && len(answer.Entries) > 0 {
			answer.More = true
			break
		}

		answer.Entries = append(answer.Entries, e.JournalEntry)
	}

	return answer, nil
}

// indexBefore returns the entries that a request's ID or Before allows: the entry with that id, if there is one, those
// before it, or all.
func (all entries) indexBefore(req control.JournalRequest) (entries, error) {
	id := req.ID
	if id == "" {
		id = req.Before
	}

	if id == "" {
		return all, nil
	}

	parsed, err := uuid.Parse(id)
	if err != nil {
		return nil, control.Refuse("%q is not the id of a journal entry", id)
	}

	i, there := slices.BinarySearchFunc(all, parsed.String(), byID)
	switch {
	case req.ID == "":
		return all[:i], nil
	case !there:
		return nil, nil
	default:
		return all[i : i+1], nil
	}
}
