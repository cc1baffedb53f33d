package mapping_test

import (
	"fmt"

	"bobosync/shared/event"
	"bobosync/shared/mapping"
)

// A mapping counts once all of its chunks are there.
func Example() {
	var all mapping.Assembler
	fmt.Println(all.Add(event.MappingChunk{Snapshot: "s1", Index: 1, Chunks: 2, Users: map[string]string{"00002": "bob@example.org"}}) != nil)
	users := all.Add(event.MappingChunk{Snapshot: "s1", Index: 0, Chunks: 2, Users: map[string]string{"00001": "ann@example.org"}})
	index := mapping.NewIndex("s1", users)
	fmt.Println(index.Len(), index.User("00001"), index.Employee("BOB@example.org"))
	// Output:
	// false
	// 2 ann@example.org 00002
}
