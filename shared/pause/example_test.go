package pause_test

import (
	"context"
	"fmt"
	"time"

	"bobosync/shared/pause"
)

// A wait ends when its context does.
func ExampleFor() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	fmt.Println(pause.For(ctx, time.Hour))
	// Output: context canceled
}

// Failed tries are repeated at longer and longer intervals.
func ExampleDoubling() {
	waits := pause.Doubling(time.Second, 5*time.Second)
	for range 4 {
		fmt.Print(waits.Next(), " ")
	}

	waits.Reset()
	fmt.Println(waits.Next())
	// Output: 1s 2s 4s 5s 1s
}
