// Command release makes the files of a release: for each system an archive of all programs and of everything else
// that an operator needs, its bill of materials, and the checksums of all files. It needs nothing but Go. The same
// commit built with the same Go gives the same bytes.
package main

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"bobosync/deploy/sign"
)

// programs are the packages of the programs in a release. A program is named after its directory.
var programs = []string{
	"./services/ingest/cmd/ingest", "./services/resolver/cmd/resolver", "./services/publisher/cmd/publisher",
	"./services/janitor/cmd/janitor", "./services/console/cmd/console", "./cmd/bobosync", "./cmd/athocsim",
}

// besides are the files and directories of the source tree that go into each archive. Those of deploy/nats are listed
// one by one, because keys may lie next to them.
var besides = []string{
	".env.example", "README.md", "CHANGELOG.md", "SECURITY.md", "docs", "deploy/systemd", "deploy/windows", "deploy/prometheus", "deploy/grafana",
	"deploy/nats/README.md", "deploy/nats/accounts.conf", "deploy/nats/nats.conf", "deploy/nats/cluster.conf", "deploy/nats/server.conf",
}

// version matches a tag in the form of semantic versioning, preceded by a v.
var version = regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)

type options struct {
	source, version, out string
	key                  string // file with the owner's key for signing; empty for no signature
	created              time.Time
	targets              []string // such as linux/amd64
}

func main() { os.Exit(run()) }

func run() int {
	var o options
	created, targets := int64(0), ""

	flag.StringVar(&o.source, "source", ".", "root of the source tree")
	flag.StringVar(&o.version, "version", "", "`version`: a tag such as v1.2.3")
	flag.StringVar(&o.out, "out", "bin/release", "`directory` to write to")
	flag.StringVar(&o.key, "key", "", "`file` of the key to sign the checksums with (deploy/sign)")
	flag.StringVar(&targets, "targets", "linux/amd64,linux/arm64,windows/amd64", "systems, `comma-separated`")
	flag.Int64Var(&created, "created", 0, "time of the commit, in `seconds` since 1970")
	flag.Parse()

	o.targets, o.created = strings.Split(targets, ","), time.Unix(created, 0).UTC()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	if err := o.makeAll(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		return 1
	}

	return 0
}

func (o options) makeAll(ctx context.Context) error {
	if !version.MatchString(o.version) {
		return fmt.Errorf("%q is no version such as v1.2.3: tag the commit, or say VERSION=v1.2.3", o.version)
	}

	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return fmt.Errorf("make the directory for the release: %w", err)
	}

	var made []string
	for _, target := range o.targets {
		names, err := o.makeOne(ctx, target)
		if err != nil {
			return fmt.Errorf("release for %s: %w", target, err)
		}

		made = append(made, names...)
	}

	return o.writeSums(made)
}

// makeOne makes the archive and the bill of materials for one system, and returns their names.
func (o options) makeOne(ctx context.Context, target string) (names []string, err error) {
	system, arch, ok := strings.Cut(target, "/")
	if !ok {
		return nil, fmt.Errorf("a system is given as linux/amd64")
	}

	work, err := os.MkdirTemp("", "bobosync-release-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)

	if err := o.build(ctx, system, arch, work); err != nil {
		return nil, err
	}

	name := strings.Join([]string{"bobosync", strings.TrimPrefix(o.version, "v"), system, arch}, "_")
	bill := name + ".cdx.json"
	if err := o.writeBill(filepath.Join(o.out, bill), name, work); err != nil {
		return nil, err
	}

	archive := name + ".tar.gz"
	write := writeTar
	if system == "windows" {
		archive, write = name+".zip", writeZip
	}

	files, err := o.files(name, work)
	if err != nil {
		return nil, err
	}

	if err := write(filepath.Join(o.out, archive), files, o.created); err != nil {
		return nil, fmt.Errorf("write %s: %w", archive, err)
	}

	return []string{archive, bill}, nil
}

// build makes all programs, statically linked. The same Go makes the same bytes wherever and whenever it is run.
func (o options) build(ctx context.Context, system, arch, to string) error {
	args := []string{
		"build", "-tags", "grpcnotrace", "-trimpath", "-buildvcs=false", "-o", to + string(filepath.Separator),
		"-ldflags", "-s -w -X bobosync/shared/program.Version=" + o.version,
	}
	cmd := exec.CommandContext(ctx, "go", append(args, programs...)...)
	cmd.Dir = o.source
	// Anything else that these variables say on the building machine would show in the programs.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+arch, "GOFLAGS=", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}

	return nil
}

// writeSums writes the SHA-256 of each file, in the format of sha256sum.
func (o options) writeSums(names []string) error {
	slices.Sort(names)

	var sums strings.Builder
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(o.out, name))
		if err != nil {
			return fmt.Errorf("sum up the release: %w", err)
		}

		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(data), name)
	}

	fmt.Print(sums.String())

	list := filepath.Join(o.out, "checksums.txt")
	if err := os.WriteFile(list, []byte(sums.String()), 0o644); err != nil {
		return fmt.Errorf("sum up the release: %w", err)
	}

	return sign.File(o.key, list)
}
