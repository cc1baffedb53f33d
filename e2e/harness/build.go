//go:build unix

package harness

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// Environment variables that change what is run.
const (
	// BinVariable names a directory of programs that have already been built.
	BinVariable = "BOBOSYNC_BIN"
	// RaceVariable, set to anything, builds the programs with the race detector.
	RaceVariable = "BOBOSYNC_RACE"
)

// program says where the source of a program is: its module, and the package in it.
type program struct{ module, pkg string }

var programs = map[string]program{
	"ingest":    {"services/ingest", "./cmd/ingest"},
	"resolver":  {"services/resolver", "./cmd/resolver"},
	"publisher": {"services/publisher", "./cmd/publisher"},
	"janitor":   {"services/janitor", "./cmd/janitor"},
	"console":   {"services/console", "./cmd/console"},
	"bobosync":  {"cmd", "./bobosync"},
	"athocsim":  {"cmd/athocsim", "."},
	"natsd":     {"e2e", "./cmd/natsd"},
}

// Build puts all programs into dir. It takes those that are in BOBOSYNC_BIN from there, and builds the others, each
// in its own module. The current directory must be within the source tree.
func Build(ctx context.Context, dir string) error {
	root, err := sourceRoot()
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}

	if err != nil {
		return fmt.Errorf("build the programs: %w", err)
	}

	for _, name := range slices.Sorted(maps.Keys(programs)) {
		target := filepath.Join(dir, name)
		if ready := os.Getenv(BinVariable); ready != "" && exists(filepath.Join(ready, name)) {
			ready, err := filepath.Abs(filepath.Join(ready, name))
			if err == nil {
				err = os.Symlink(ready, target)
			}

			if err != nil {
				return fmt.Errorf("take %s as it was built: %w", name, err)
			}

			continue
		}

		if err := build(ctx, filepath.Join(root, programs[name].module), programs[name].pkg, target); err != nil {
			return fmt.Errorf("build %s: %w", name, err)
		}
	}

	return nil
}

func build(ctx context.Context, module, pkg, target string, flags ...string) error {
	args := append([]string{"build", "-o", target}, flags...)
	if os.Getenv(RaceVariable) != "" {
		args = append(args, "-race")
	}

	cmd := exec.CommandContext(ctx, "go", append(args, pkg)...)
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}

	return nil
}

// ErrNoHistory means that the source tree has no history, or one that does not reach back far enough.
var ErrNoHistory = errors.New("the history does not reach back so far")

// Checkout writes the source tree, as it was at a commit, into dir. The current directory must be within the source
// tree.
func Checkout(ctx context.Context, commit, dir string) error {
	root, err := sourceRoot()
	if err != nil {
		return fmt.Errorf("check out %s: %w", commit, err)
	}

	archive := exec.CommandContext(ctx, "git", "-C", root, "archive", "--output", filepath.Join(dir, "tree.tar"), commit)
	if out, err := archive.CombinedOutput(); err != nil {
		return fmt.Errorf("check out %s: %w: %s", commit, ErrNoHistory, out)
	}

	if out, err := exec.CommandContext(ctx, "tar", "-C", dir, "-xf", filepath.Join(dir, "tree.tar")).CombinedOutput(); err != nil {
		return fmt.Errorf("check out %s: %w: %s", commit, err, out)
	}

	return nil
}

// sourceRoot returns the root of the source tree: the nearest directory, from the current one upwards, that holds
// this module.
func sourceRoot() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if exists(filepath.Join(dir, "e2e", "go.mod")) {
			return dir, nil
		}

		if dir == filepath.Dir(dir) {
			err = errors.New("the source tree is not above the current directory")
		}
	}

	return "", err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
