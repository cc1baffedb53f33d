package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/stretchr/testify/require"
)

// small is an image that is quickly made.
var small = spec{
	name: "small", title: "A test", programs: []program{probe}, health: []string{"/healthcheck", "http://127.0.0.1:1/"},
	env: []string{"A=b"}, dirs: []string{"/data", "/files/in"}, ports: []string{"8080/tcp"},
}

func testRelease(t *testing.T) release {
	root, err := sourceRoot()
	require.NoError(t, err)
	return release{source: root, version: "v1.2.3", revision: "abcdef", created: 1_800_000_000}
}

// long skips a test unless make test-long runs it.
func long(t *testing.T) {
	t.Helper()

	if os.Getenv("BOBOSYNC_LONG") == "" {
		t.Skip("it builds programs: make test-long runs it")
	}
}

func makeSmall(t *testing.T, r release, arch string) *image {
	long(t)
	img, err := r.image(t.Context(), small, arch, t.TempDir())
	require.NoError(t, err)
	return img
}

// TestTheSameCommitGivesTheSameImage checks that builds in two directories give the same tarball and bill of
// materials, byte for byte.
func TestTheSameCommitGivesTheSameImage(t *testing.T) {
	r := testRelease(t)
	var tarballs, bills [2][]byte
	for i := range tarballs {
		img := makeSmall(t, r, "amd64")
		path := filepath.Join(t.TempDir(), "small.tar")
		require.NoError(t, options{release: r}.writeTarball(path, img))
		var err error
		tarballs[i], err = os.ReadFile(path)
		require.NoError(t, err)
		var bom bytes.Buffer
		require.NoError(t, r.writeSBOM(&bom, img))
		bills[i] = bom.Bytes()
	}

	require.True(t, bytes.Equal(tarballs[0], tarballs[1]))
	require.Equal(t, string(bills[0]), string(bills[1]))

	before, err := makeSmall(t, r, "amd64").Digest()
	require.NoError(t, err)

	r.created++
	after, err := makeSmall(t, r, "amd64").Digest()
	require.NoError(t, err)
	require.NotEqual(t, before, after, "the commit's time is in the image")
}

// files lists the content of an image's layers.
func files(t *testing.T, img *image) map[string]*tar.Header {
	layers, err := img.Layers()
	require.NoError(t, err)

	all := map[string]*tar.Header{}
	for _, l := range layers {
		r, err := l.Uncompressed()
		require.NoError(t, err)

		for tr := tar.NewReader(r); ; {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}

			require.NoError(t, err)

			all["/"+strings.TrimSuffix(h.Name, "/")] = h
		}

		require.NoError(t, r.Close())
	}

	return all
}

func TestAnImageHoldsNothingButTheProgram(t *testing.T) {
	r := testRelease(t)
	img := makeSmall(t, r, "arm64")
	got := files(t, img)
	owners := map[string]int{"/data": userID, "/files/in": userID, "/files": 0, "/healthcheck": 0, caFile: 0, "/etc": 0, "/etc/ssl": 0, "/etc/ssl/certs": 0}
	require.Len(t, got, len(owners))

	for path, owner := range owners {
		require.Contains(t, got, path)
		require.Equal(t, owner, got[path].Uid, path)
		require.Equal(t, r.created, got[path].ModTime.Unix(), path)
		require.Zero(t, got[path].Mode&0o022, "%s can be written by others", path)
	}

	require.Equal(t, int64(0o755), got["/healthcheck"].Mode)

	file, err := img.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, "arm64", file.Architecture)
	require.Equal(t, "65532:65532", file.Config.User)
	require.Equal(t, []string{"/healthcheck"}, file.Config.Entrypoint)
	require.Equal(t, []string{"CMD", "/healthcheck", "http://127.0.0.1:1/"}, file.Config.Healthcheck.Test)
	require.Equal(t, "v1.2.3", file.Config.Labels["org.opencontainers.image.version"])
	require.Equal(t, "abcdef", file.Config.Labels["org.opencontainers.image.revision"])
	require.Contains(t, file.Config.Env, "A=b")
	require.Len(t, file.History, len(file.RootFS.DiffIDs))
}

// TestTheCatalogHoldsTogether checks that each image can answer its health check with what it contains, and that its
// data has somewhere to go.
func TestTheCatalogHoldsTogether(t *testing.T) {
	r := testRelease(t)
	seen := map[string]bool{}
	for _, s := range catalog() {
		require.False(t, seen[s.name], s.name)

		seen[s.name] = true
		var programs []string
		for _, p := range s.programs {
			programs = append(programs, "/"+p.name)
			require.DirExists(t, filepath.Join(r.source, p.module))

			if strings.HasPrefix(p.pkg, ".") {
				require.DirExists(t, filepath.Join(r.source, p.module, p.pkg))
			}
		}

		if s.health == nil {
			require.Empty(t, s.ports, "%s serves something and cannot be asked for its health", s.name)
		} else {
			require.Contains(t, programs, s.health[0], s.name)
		}

		for _, e := range s.env {
			key, value, _ := strings.Cut(e, "=")
			if strings.HasSuffix(key, "_DIRECTORY") {
				require.Contains(t, s.dirs, value, "%s: %s", s.name, key)
			}
		}
	}
}

func TestAuthoritiesCanBeRead(t *testing.T) {
	data, err := authorities()
	require.NoError(t, err)

	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(data))
	require.Greater(t, strings.Count(string(data), "BEGIN CERTIFICATE"), 100)
}

func TestTheBillNamesWhatIsInside(t *testing.T) {
	r := testRelease(t)
	img := makeSmall(t, r, "amd64")
	var out bytes.Buffer
	require.NoError(t, r.writeSBOM(&out, img))
	var bom cdx.BOM
	require.NoError(t, cdx.NewBOMDecoder(&out, cdx.BOMFileFormatJSON).Decode(&bom))

	digest, err := img.Digest()
	require.NoError(t, err)
	require.Equal(t, digest.Hex, (*bom.Metadata.Component.Hashes)[0].Value)

	names := map[string]string{}
	for _, c := range *bom.Components {
		names[c.Name] = c.PackageURL
	}

	require.Contains(t, names, "stdlib")
	require.Contains(t, names, "healthcheck")
	require.Contains(t, names["golang.org/x/crypto/x509roots/fallback"], "pkg:golang/golang.org/x/crypto/x509roots/fallback@v0.0.0-")
}

func TestPushWritesAllArchitectures(t *testing.T) {
	server := httptest.NewServer(registry.New())
	defer server.Close()

	r := testRelease(t)
	o := options{release: r, push: strings.TrimPrefix(server.URL, "http://") + "/bobosync"}
	made := []*image{makeSmall(t, r, "amd64"), makeSmall(t, r, "arm64")}
	require.NoError(t, o.pushIndex(t.Context(), small, made))
	ref, err := name.ParseReference(o.push + "/small:v1.2.3")
	require.NoError(t, err)
	index, err := remote.Index(ref)
	require.NoError(t, err)
	manifest, err := index.IndexManifest()
	require.NoError(t, err)
	require.Len(t, manifest.Manifests, 2)

	for i, img := range made {
		digest, err := img.Digest()
		require.NoError(t, err)
		require.Equal(t, digest, manifest.Manifests[i].Digest)
		require.Equal(t, img.arch, manifest.Manifests[i].Platform.Architecture)
	}
}

// TestMakeAllWritesWhatCanBeLoaded makes a complete image in the way that the command does.
func TestMakeAllWritesWhatCanBeLoaded(t *testing.T) {
	long(t)
	o := options{release: testRelease(t), out: t.TempDir(), arches: []string{"amd64"}, only: []string{"bobosync-athocsim"}}
	require.NoError(t, o.makeAll(t.Context()))
	img, err := tarball.ImageFromPath(filepath.Join(o.out, "bobosync-athocsim_linux_amd64.tar"), nil)
	require.NoError(t, err)
	file, err := img.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, []string{"/athocsim"}, file.Config.Entrypoint)
	require.FileExists(t, filepath.Join(o.out, "bobosync-athocsim_linux_amd64.cdx.json"))
	digests, err := os.ReadFile(filepath.Join(o.out, "digests.txt"))
	require.NoError(t, err)
	require.Contains(t, string(digests), "bobosync-athocsim")

	o.only = []string{"nothing"}
	require.ErrorContains(t, o.makeAll(t.Context()), "no image is called nothing")
}
