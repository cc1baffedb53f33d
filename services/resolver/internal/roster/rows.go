package roster

import "bobosync/shared/event"

// RowOutcomes collects rows by file and outcome.
type RowOutcomes map[rowKey]*event.RowSet

type rowKey struct {
	file    string
	outcome event.Outcome
}

// Add adds a row.
func (r RowOutcomes) Add(file string, o event.Outcome, row int) {
	k := rowKey{file, o}
	set := r[k]
	if set == nil {
		set = &event.RowSet{}
		r[k] = set
	}

	set.Add(row)
}

// Count returns the number of rows.
func (r RowOutcomes) Count() int {
	rows := 0
	for _, set := range r {
		rows += set.Len()
	}

	return rows
}

// ackBytes bounds the text of the rows in one acknowledgement, well below the broker's limit of 1 MB for a message.
const ackBytes = 256 << 10

// acks divides the rows into messages of a size that the broker accepts.
func (r RowOutcomes) acks(from string) []event.Acks {
	var out []event.Acks
	size := ackBytes
	for k, set := range r {
		for _, part := range set.Split(ackBytes) {
			text, _ := part.MarshalText() // it never returns an error

			cost := len(text) + len(k.file) + 50
			if size+cost > ackBytes {
				out, size = append(out, event.Acks{From: from}), 0
			}

			last := &out[len(out)-1]
			last.Rows = append(last.Rows, event.Settle(k.file, k.outcome, part))
			size += cost
		}
	}

	return out
}
