package text_test

import (
	"fmt"

	"bobosync/shared/text"
)

// A name that somebody else chose cannot control the terminal that shows it.
func ExampleClean() {
	fmt.Println(text.Clean("monday\x1b[2J.csv"))
	// Output: monday\x1b[2J.csv
}

func ExampleCount() {
	fmt.Println(text.Count(1, "file"), "and", text.Count(2, "row"))
	// Output: 1 file and 2 rows
}
