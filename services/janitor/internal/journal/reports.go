package journal

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"

	"bobosync/shared/control"
)

var (
	mappingReport    = []byte("mapping")
	comparisonReport = []byte("comparison")
)

// Findings are what the last refresh of the mapping found in AtHoc that an operator may want to mend. Employee ids and
// usernames in it are personal data.
type Findings struct {
	Users     int                 `json:"users"`
	Without   int                 `json:"without"`
	Unusable  int                 `json:"unusable"`
	Ambiguous map[string][]string `json:"ambiguous,omitempty"`
	Alike     [][]string          `json:"alike,omitempty"`
}

// SetFindings takes the place of the findings before.
func (j *Journal) SetFindings(f Findings) error {
	err := j.update(func(tx *bbolt.Tx) error { return putJSON(tx.Bucket(reportsBucket), mappingReport, f) })
	if err != nil {
		return fmt.Errorf("write what was found of the mapping to %s: %w", j.path, err)
	}
	return nil
}

// Findings returns those of the last refresh on this machine; they are zero if there was none.
func (j *Journal) Findings() (f Findings, err error) {
	err = j.view(func(tx *bbolt.Tx) error { return getJSON(tx.Bucket(reportsBucket), mappingReport, &f) })
	if err != nil {
		return Findings{}, fmt.Errorf("read what was found of the mapping from %s: %w", j.path, err)
	}
	return f, nil
}

// SetComparison takes the place of the comparison before; its Users are all who differ.
func (j *Journal) SetComparison(report control.ReconcileAnswer) error {
	users := report.Users
	report.Users, report.Next = nil, 0
	err := j.update(func(tx *bbolt.Tx) error {
		if err := tx.DeleteBucket(differingBucket); err != nil {
			return err
		}
		b, err := tx.CreateBucket(differingBucket)
		if err != nil {
			return err
		}
		b.FillPercent = 1 // written once, in the order of the keys
		for i, user := range users {
			if err := putJSON(b, placeOf(i+1), user); err != nil {
				return err
			}
		}
		return putJSON(tx.Bucket(reportsBucket), comparisonReport, report)
	})
	if err != nil {
		return fmt.Errorf("write the comparison to %s: %w", j.path, err)
	}
	return nil
}

// Comparison returns the last comparison on this machine with those of its users who come after a place in the list, as many
// as fit into an answer. It is zero if there was none.
func (j *Journal) Comparison(after int) (report control.ReconcileAnswer, err error) {
	if after < 0 {
		return report, control.Refuse("a list has no place %d", after)
	}
	err = j.view(func(tx *bbolt.Tx) error {
		if err := getJSON(tx.Bucket(reportsBucket), comparisonReport, &report); err != nil {
			return err
		}
		report.Users = []control.DifferingUser{}
		c, size := tx.Bucket(differingBucket).Cursor(), 0
		for k, data := c.Seek(placeOf(after + 1)); k != nil; k, data = c.Next() {
			if size += len(data) + len(","); size > answerBytes && len(report.Users) > 0 {
				report.Next = after + len(report.Users)
				return nil
			}
			var user control.DifferingUser
			if err := json.Unmarshal(data, &user); err != nil {
				return err
			}
			report.Users = append(report.Users, user)
		}
		return nil
	})
	if err != nil {
		return control.ReconcileAnswer{}, fmt.Errorf("read the comparison from %s: %w", j.path, err)
	}
	return report, nil
}

func placeOf(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(min(n, 1<<31))) } //nolint:gosec // it is bounded

func putJSON(b *bbolt.Bucket, key []byte, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Put(key, data)
}

// getJSON leaves v as it is if there is nothing.
func getJSON(b *bbolt.Bucket, key []byte, v any) error {
	data := b.Get(key)
	if data == nil {
		return nil
	}
	return json.Unmarshal(data, v)
}
