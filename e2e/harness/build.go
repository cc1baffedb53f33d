//go:build unix

package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Environment variables that change what is run.
const (
	// BinVariable names a directory with programs that were built already.
	BinVariable = "BOBOSYNC_BIN"
	// RaceVariable, set to anything, builds the programs with the race detector.
	RaceVariable = "BOBOSYNC_RACE"
)

// programs are the packages of all programs, by the name of the program.
var programs = map[string]string{
	"ingest":    "bobosync/services/ingest/cmd/ingest",
	"resolver":  "bobosync/services/resolver/cmd/resolver",
	"publisher": "bobosync/services/publisher/cmd/publisher",
	"janitor":   "bobosync/services/janitor/cmd/janitor",
	"bobosync":  "bobosync/cmd/bobosync",
	"athocsim":  "bobosync/cmd/athocsim",
	"natsd":     "bobosync/e2e/cmd/natsd",
}

// Build returns a directory with all programs. Those that BOBOSYNC_BIN has are taken from there; the others are built into dir.
func Build(ctx context.Context, dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("build the programs: %w", err)
	}
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	if os.Getenv(RaceVariable) != "" {
		args = append(args, "-race")
	}
	ready := os.Getenv(BinVariable)
	packages := 0
	for name, pkg := range programs {
		if ready == "" || os.Symlink(filepath.Join(ready, name), filepath.Join(dir, name)) != nil || !exists(filepath.Join(dir, name)) {
			_ = os.Remove(filepath.Join(dir, name)) // a link to nothing
			args, packages = append(args, pkg), packages+1
		}
	}
	if packages == 0 {
		return dir, nil
	}
	out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the programs: %w", errors.Join(err, errors.New(string(out))))
	}
	return dir, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
