package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// release holds what all images of a run have in common.
type release struct {
	source            string // the root of the source tree
	version, revision string
	created           int64 // Unix seconds, the time of the commit
}

// build makes a static program for Linux on arch. The same Go makes the same bytes wherever and whenever it is run.
func (r release) build(ctx context.Context, p program, arch, to string) error {
	flags := "-s -w"
	args := []string{"build", "-trimpath", "-buildvcs=false", "-o", to}
	if p.own {
		flags += " -X bobosync/shared/program.Version=" + r.version
		// The programs must know the zones of the two wall clocks, and the image holds no zone files. Without
		// grpcnotrace the OTLP exporter would bring in a part of gRPC that nothing uses: 3 MB.
		args = append(args, "-tags", "timetzdata,grpcnotrace")
	}

	cmd := exec.CommandContext(ctx, "go", append(args, "-ldflags", flags, p.pkg)...)
	cmd.Dir = filepath.Join(r.source, p.module)
	// Anything else that these variables say on the building machine would show in the image.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s for %s: %w: %s", p.name, arch, err, out)
	}

	return nil
}

// sourceRoot returns the nearest directory that holds go.work, from the current one upwards.
func sourceRoot() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, statErr := os.Stat(filepath.Join(dir, "go.work")); statErr == nil {
			return dir, nil
		}

		if dir == filepath.Dir(dir) {
			err = errors.New("the source tree is not above the current directory")
		}
	}

	return "", err
}
