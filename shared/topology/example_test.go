package topology_test

import (
	"fmt"

	"bobosync/shared/topology"
)

// However a username is written, its updates go to one subject, in one lane.
func ExampleUpdatesSubject() {
	fmt.Println(topology.UpdatesSubject("ann@example.org") == topology.UpdatesSubject("Ann@Example.org"))
	fmt.Println(topology.Lane("ann@example.org") == topology.Lane("ANN@example.org"))
	// Output:
	// true
	// true
}
