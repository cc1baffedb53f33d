//go:build unix

package e2e_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"bobosync/e2e/harness"
)

// TestRollingUpgrade replaces the services of commit 8e1707d with the current ones, one by one, while files arrive.
// It does so in some order and in the reverse order, so that each service works with the old and the current versions
// of the others.
func TestRollingUpgrade(t *testing.T) {
	long(t)

	old := t.TempDir()
	err := harness.Checkout(t.Context(), "8e1707d", old)
	if errors.Is(err, harness.ErrNoHistory) {
		t.Skip(err)
	}

	require.NoError(t, err)

	services := []string{"ingest", "resolver", "publisher", "janitor"}
	for _, service := range services {
		build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(old, "bin", service), "./cmd/"+service)
		build.Dir = filepath.Join(old, "services", service)
		out, err := build.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}

	for name, order := range map[string][]string{
		"resolver before publisher": services,
		"publisher before resolver": {"janitor", "publisher", "resolver", "ingest"},
	} {
		t.Run(name, func(t *testing.T) {
			const each = 25
			mixed, p := t.TempDir(), plan(8, each*(len(order)+1))
			programs, err := os.ReadDir(bin)
			require.NoError(t, err)

			for _, program := range programs {
				install(t, filepath.Join(bin, program.Name()), mixed)
			}

			for _, service := range order {
				install(t, filepath.Join(old, "bin", service), mixed)
			}

			s := start(t, harness.Config{Bin: mixed, Publishers: 2, Plan: p})
			for i, service := range order {
				require.NoError(t, s.DropAll(t.Context(), p.Files[i*each:(i+1)*each]))
				install(t, filepath.Join(bin, service), mixed)

				replaced := []string{service}
				if service == "publisher" {
					replaced = s.Publishers()
				}

				for _, name := range replaced {
					require.NoError(t, s.Process(name).Stop())
					require.NoError(t, s.Process(name).Start())
				}
			}

			require.NoError(t, s.DropAll(t.Context(), p.Files[len(order)*each:]))
			finish(t, s)
		})
	}
}

// install makes a directory link to a program, in place of the program of that name that it linked to before.
func install(t *testing.T, program, dir string) {
	t.Helper()

	link := filepath.Join(dir, filepath.Base(program))
	require.NoError(t, os.RemoveAll(link))
	require.NoError(t, os.Symlink(program, link))
}
