//go:build unix

package config

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAPipeThatNobodyWritesTo: it holds no value, and reading it does not block.
func TestAPipeThatNobodyWritesTo(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))

	vars := good()
	delete(vars, "PASSWORD")
	vars["PASSWORD_FILE"] = pipe
	require.ErrorContains(t, Load(t.Context(), Map(vars), &all{}), "PASSWORD: not set")
}
