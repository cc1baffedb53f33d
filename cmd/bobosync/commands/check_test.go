package commands

import (
	"testing"
)

// TestCheckOfNobodyIsAProblem: if no service can be asked, that is what the exit status says, and not that of warnings.
func TestCheckOfNobodyIsAProblem(t *testing.T) {
	r := newResponders(t)
	r.fails(2, "no such service answers", "check", "--running")
	t.Setenv("NATS_URL", "")
	t.Setenv("DATA_DIRECTORY", t.TempDir())
	r.fails(2, "no broker to ask", "check", "--running")
}
