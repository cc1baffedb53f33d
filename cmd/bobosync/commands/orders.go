package commands

import (
	"context"

	"bobosync/shared/bus"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/text"
)

// finish waits for an order to end and returns its journal entry. If Ctrl-C interrupts the wait, finish says so and
// returns the exit status.
func finish(ctx context.Context, conn *bus.Conn, stderr *text.Printer, id string) (control.JournalEntry, error) {
	entry, err := client.Await(ctx, conn.NC, id)
	if err != nil && ctx.Err() != nil {
		stderr.Printf("bobosync: it goes on without being watched; bobosync journal shows its end\n")
		return entry, ExitStatus(exitInterrupted)
	}

	return entry, err
}
