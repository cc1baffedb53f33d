package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// entry is a file or, with nil content, a directory of a layer.
type entry struct {
	path    string // absolute
	mode    int64
	owner   int
	content []byte
}

// newLayer packs entries and the directories above them. The same entries and time give the same bytes: the entries
// are sorted, and nothing depends on the machine.
func newLayer(entries []entry, at time.Time) (v1.Layer, error) {
	data, err := pack(withParents(entries), at)
	if err != nil {
		return nil, err
	}

	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }

	return tarball.LayerFromOpener(open, tarball.WithCompressionLevel(gzip.BestCompression), tarball.WithCompressedCaching)
}

// withParents adds the missing parent directories, owned by root, and sorts.
func withParents(entries []entry) []entry {
	all := map[string]entry{}
	for _, e := range entries {
		for dir := path.Dir(e.path); dir != "/"; dir = path.Dir(dir) {
			if _, there := all[dir]; !there {
				all[dir] = entry{path: dir, mode: 0o755}
			}
		}
	}

	for _, e := range entries {
		all[e.path] = e
	}

	var sorted []entry
	for _, e := range all {
		sorted = append(sorted, e)
	}

	slices.SortFunc(sorted, func(a, b entry) int { return strings.Compare(a.path, b.path) })

	return sorted
}

func pack(entries []entry, at time.Time) ([]byte, error) {
	var out bytes.Buffer

	w := tar.NewWriter(&out)
	for _, e := range entries {
		h := &tar.Header{
			Name: strings.TrimPrefix(e.path, "/"), Mode: e.mode, Uid: e.owner, Gid: e.owner, ModTime: at,
			Typeflag: tar.TypeReg, Size: int64(len(e.content)), Format: tar.FormatUSTAR,
		}
		if e.content == nil {
			h.Name, h.Typeflag = h.Name+"/", tar.TypeDir
		}

		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("pack %s: %w", e.path, err)
		}

		if _, err := w.Write(e.content); err != nil {
			return nil, fmt.Errorf("pack %s: %w", e.path, err)
		}
	}

	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack a layer: %w", err)
	}

	return out.Bytes(), nil
}

// authorities returns the certificates of the authorities that Mozilla trusts, as PEM. It leaves out those that
// Mozilla trusts only for what they signed before a certain day: a PEM file cannot express that.
func authorities() ([]byte, error) {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}

		cert, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			return nil, fmt.Errorf("read a certificate of the bundle: %w", err)
		}

		fmt.Fprintf(&out, "# %s\n", cert.Subject)

		if err := pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return nil, fmt.Errorf("write a certificate: %w", err)
		}
	}

	return out.Bytes(), nil
}
