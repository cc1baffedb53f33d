package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/stretchr/testify/require"
)

// TestRelease makes the release for this system twice, and checks that the archive is complete, that the programs run
// and report the version, that the checksums are right, and that both releases are the same, byte for byte.
func TestRelease(t *testing.T) {
	if os.Getenv("BOBOSYNC_LONG") == "" {
		t.Skip("it builds all programs twice: make test-long runs it")
	}

	o := options{
		source: "../..", version: "v1.2.3-test", created: time.Unix(1_700_000_000, 0).UTC(),
		targets: []string{runtime.GOOS + "/" + runtime.GOARCH},
	}

	var sums [2]string
	for i := range sums {
		o.out = t.TempDir()
		require.NoError(t, o.makeAll(t.Context()))
		data, err := os.ReadFile(filepath.Join(o.out, "checksums.txt"))
		require.NoError(t, err)

		sums[i] = string(data)
	}

	require.Equal(t, sums[0], sums[1])

	name := "bobosync_1.2.3-test_" + runtime.GOOS + "_" + runtime.GOARCH
	dir := t.TempDir()
	names := unpack(t, filepath.Join(o.out, name+".tar.gz"), dir)
	for _, want := range []string{"bobosync", "ingest", ".env.example", "docs/runbook.md", "deploy/systemd/bobosync.service", "CHANGELOG.md"} {
		require.Contains(t, names, name+"/"+want)
	}

	said, err := exec.Command(filepath.Join(dir, name, "bobosync"), "--version").CombinedOutput()
	require.NoError(t, err)
	require.Contains(t, string(said), "v1.2.3-test")

	in, err := os.Open(filepath.Join(o.out, name+".cdx.json"))
	require.NoError(t, err)

	defer in.Close()
	var bom cdx.BOM
	require.NoError(t, cdx.NewBOMDecoder(in, cdx.BOMFileFormatJSON).Decode(&bom))

	parts := map[string]string{}
	for _, c := range *bom.Components {
		parts[c.Name] = c.Version
	}

	require.Equal(t, "v1.2.3-test", parts["bobosync"])
	require.Equal(t, strings.TrimPrefix(runtime.Version(), "go"), parts["stdlib"])
	require.Contains(t, parts, "github.com/nats-io/nats.go")
}

// TestAnArchiveHasWhatAnUpgradeBeginsWith checks that an archive holds accounts.conf, which an upgrade according to
// docs/deploy.md gives the broker first. The keys of whoever makes the release, which lie next to it, must not be in
// any archive.
func TestAnArchiveHasWhatAnUpgradeBeginsWith(t *testing.T) {
	files, err := options{source: "../.."}.files("a", t.TempDir())
	require.NoError(t, err)

	var names []string
	for _, f := range files {
		names = append(names, f.name)
		require.NotRegexp(t, `\.(nk|key|crt)$|/keys\.conf$`, f.name)
	}

	for _, want := range []string{"accounts.conf", "nats.conf", "cluster.conf", "server.conf", "README.md"} {
		require.Contains(t, names, "a/deploy/nats/"+want)
	}

	require.Contains(t, names, "a/SECURITY.md", "docs/security.md leads there")
}

func TestAVersionIsATag(t *testing.T) {
	for _, bad := range []string{"", "dev", "1.2.3", "v1.2", "8e1707d-dirty", "v1.2.3 4"} {
		require.ErrorContains(t, options{version: bad}.makeAll(t.Context()), "is no version", bad)
	}
}

func unpack(t *testing.T, archive, dir string) map[string]bool {
	t.Helper()

	in, err := os.Open(archive)
	require.NoError(t, err)

	defer in.Close()

	packed, err := gzip.NewReader(in)
	require.NoError(t, err)

	names := map[string]bool{}
	r := tar.NewReader(packed)
	for {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}

		require.NoError(t, err)
		data, err := io.ReadAll(r)
		require.NoError(t, err)

		path := filepath.Join(dir, head.Name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, data, head.FileInfo().Mode()))
		names[head.Name] = true
	}
}
