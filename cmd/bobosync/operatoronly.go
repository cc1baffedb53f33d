//go:build operator

package main

import "github.com/spf13/cobra"

// addPrograms belongs to the image for operators. Services, broker and simulator would make it twice as large, and each of them
// has an image of its own beside it; so what would run them only says so.
func addPrograms(root *cobra.Command, _ *string) {
	for _, name := range []string{"run", "demo", "healthcheck"} {
		root.AddCommand(&cobra.Command{
			Use: name, Hidden: true, DisableFlagParsing: true,
			RunE: func(*cobra.Command, []string) error {
				return misused("%s is not in this image: each service has one of its own, and everything in one process is for machines without containers", name)
			},
		})
	}
}
