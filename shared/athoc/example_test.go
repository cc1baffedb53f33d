package athoc_test

import (
	"fmt"
	"time"

	"bobosync/shared/athoc"
)

// AtHoc holds a duty status as a wall clock shows it.
func ExampleFormatTime() {
	phoenix := time.FixedZone("", -7*3600)
	value := athoc.FormatTime(time.Date(2024, 6, 17, 21, 30, 0, 0, time.UTC), phoenix)
	fmt.Println(value)
	at, err := athoc.ParseTime(value, phoenix)
	fmt.Println(at.UTC().Format(time.RFC3339), err)
	// Output:
	// 17/06/2024 14:30:00
	// 2024-06-17T21:30:00Z <nil>
}
