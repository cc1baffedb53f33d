package commands

import (
	"testing"
)

// TestCheckOfNobodyIsAProblem checks that the exit status is that of problems, not that of warnings, if no service can
// be asked.
func TestCheckOfNobodyIsAProblem(t *testing.T) {
	r := newResponders(t)
	r.fails(2, "no such service answers", "check", "--running")
	t.Setenv("NATS_URL", "")
	t.Setenv("DATA_DIRECTORY", t.TempDir())
	r.fails(2, "no broker to ask", "check", "--running")
}
