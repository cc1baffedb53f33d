package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// image is an image that has been built.
type image struct {
	v1.Image
	spec  spec
	arch  string
	bills []bill // what its programs consist of
}

// image builds the programs of s for arch and puts them into an image. It keeps its work files below dir.
func (r release) image(ctx context.Context, s spec, arch, dir string) (*image, error) {
	at := time.Unix(r.created, 0).UTC()

	img := &image{spec: s, arch: arch}
	var files []entry
	for _, d := range s.dirs {
		files = append(files, entry{path: d, mode: 0o750, owner: userID})
	}

	for _, p := range s.programs {
		content, b, err := r.binary(ctx, p, arch, filepath.Join(dir, arch, p.name))
		if err != nil {
			return nil, err
		}

		files = append(files, entry{path: "/" + p.name, mode: 0o755, content: content})
		img.bills = append(img.bills, b)
	}

	base, err := baseLayer(at)
	if err != nil {
		return nil, err
	}

	layer, err := newLayer(files, at)
	if err != nil {
		return nil, err
	}

	img.Image, err = mutate.AppendLayers(empty.Image, base, layer)
	if err == nil {
		img.Image, err = mutate.ConfigFile(img.Image, r.config(s, arch, img.Image))
	}

	if err != nil {
		return nil, fmt.Errorf("put %s together: %w", s.name, err)
	}

	return img, nil
}

// binary returns a program and its bill of materials. The program is built at path, unless it has been built there
// for another image.
func (r release) binary(ctx context.Context, p program, arch, path string) ([]byte, bill, error) {
	if _, err := os.Stat(path); err != nil {
		if err := r.build(ctx, p, arch, path); err != nil {
			return nil, bill{}, err
		}
	}

	content, err := os.ReadFile(path)
	if err != nil {
		return nil, bill{}, fmt.Errorf("read what was built: %w", err)
	}

	b, err := readBill(content, p)

	return content, b, err
}

// baseLayer holds the certificates of the authorities. It is the same in all images, so that it is stored once.
func baseLayer(at time.Time) (v1.Layer, error) {
	roots, err := authorities()
	if err != nil {
		return nil, err
	}

	return newLayer([]entry{{path: caFile, mode: 0o644, content: roots}}, at)
}

// config returns how the image is run. Its layers are those of img.
func (r release) config(s spec, arch string, img v1.Image) *v1.ConfigFile {
	at := v1.Time{Time: time.Unix(r.created, 0).UTC()}
	file := &v1.ConfigFile{Architecture: arch, OS: "linux", Created: at}
	if built, err := img.ConfigFile(); err == nil {
		file.RootFS = built.RootFS
		for range built.RootFS.DiffIDs {
			file.History = append(file.History, v1.History{Created: at, CreatedBy: "make images"})
		}
	}

	file.Config = v1.Config{
		User: fmt.Sprintf("%d:%d", userID, userID), WorkingDir: "/", StopSignal: "SIGTERM",
		Entrypoint: []string{"/" + s.programs[0].name}, Cmd: s.cmd,
		Env:         append([]string{"SSL_CERT_FILE=" + caFile}, s.env...),
		Healthcheck: s.healthcheck(),
		Labels: map[string]string{
			"org.opencontainers.image.title": s.name, "org.opencontainers.image.description": s.title,
			"org.opencontainers.image.version": r.version, "org.opencontainers.image.revision": r.revision,
			"org.opencontainers.image.created": at.Format(time.RFC3339),
		},
		ExposedPorts: map[string]struct{}{},
	}
	for _, p := range s.ports {
		file.Config.ExposedPorts[p] = struct{}{}
	}

	return file
}

// healthcheck returns how the engine checks a running container, or nil if nothing in it runs for long.
func (s spec) healthcheck() *v1.HealthConfig {
	if s.health == nil {
		return nil
	}

	return &v1.HealthConfig{
		Test: append([]string{"CMD"}, s.health...), Interval: 10 * time.Second, Timeout: 5 * time.Second, StartPeriod: s.startPeriod, Retries: 3,
	}
}
