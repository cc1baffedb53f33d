package event_test

import (
	"fmt"

	"bobosync/shared/event"
)

// What one service writes, another reads.
func Example() {
	data := event.Encode(&event.Entries{File: "3fa9c1", Sequence: 7, Entries: []event.Entry{{Row: 2, Employee: "00042", At: 1_718_634_600, On: true}}})
	var entries event.Entries
	if err := event.Decode(data, &entries); err != nil {
		fmt.Println(err)
		return
	}

	fmt.Println(entries.File, entries.Entries[0].Employee)
	// Output: 3fa9c1 00042
}

// The later event wins; at the same second the file that was read later, and within a file the later row.
func ExampleVersion_Compare() {
	early := event.Version{Rank: 1_718_634_600, Sequence: 9, Row: 30}
	late := event.Version{Rank: 1_718_634_601, Sequence: 1, Row: 2}
	fmt.Println(early.Compare(late) < 0, late.Compare(early) > 0, late.Compare(late))
	// Output: true true 0
}

// Rows of one outcome travel as runs.
func ExampleRowSet() {
	var rows event.RowSet
	for _, row := range []int{4, 2, 3, 9, 3} {
		rows.Add(row)
	}

	text, _ := rows.MarshalText()
	fmt.Println(string(text), rows.Len())
	// Output: 2-4,9 4
}
