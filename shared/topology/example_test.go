package topology_test

import (
	"fmt"

	"bobosync/shared/topology"
)

// However a username is written, its updates go to one subject, in one partition.
func ExampleUpdatesSubject() {
	fmt.Println(topology.UpdatesSubject("ann@example.org") == topology.UpdatesSubject("Ann@Example.org"))
	fmt.Println(topology.Partition("ann@example.org") == topology.Partition("ANN@example.org"))
	// Output:
	// true
	// true
}
