package main

import (
	"context"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// writeTarball writes an image in the form that `docker load` reads.
func (o options) writeTarball(path string, img *image) error {
	tag, err := name.NewTag(img.spec.name + ":" + o.version)
	if err == nil {
		err = tarball.WriteToFile(path, tag, img)
	}

	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}

	return nil
}

// sizes returns the bytes of an image's layers, unpacked and packed.
func (img *image) sizes() (unpacked, packed int64, err error) {
	layers, err := img.Layers()
	if err != nil {
		return 0, 0, fmt.Errorf("layers of %s: %w", img.spec.name, err)
	}

	for _, l := range layers {
		p, err := l.Size()
		if err != nil {
			return 0, 0, fmt.Errorf("size of %s: %w", img.spec.name, err)
		}

		n, err := unpackedSize(l)
		if err != nil {
			return 0, 0, fmt.Errorf("size of %s: %w", img.spec.name, err)
		}

		packed, unpacked = packed+p, unpacked+n
	}

	return unpacked, packed, nil
}

func unpackedSize(l v1.Layer) (int64, error) {
	r, err := l.Uncompressed()
	if err != nil {
		return 0, err
	}
	defer r.Close()

	return io.Copy(io.Discard, r)
}

// pushIndex writes the images of one name to the registry, as a single image for all architectures. The credentials
// are read from the configuration that `docker login` writes.
func (o options) pushIndex(ctx context.Context, s spec, made []*image) error {
	tag, err := name.NewTag(o.push + "/" + s.name + ":" + o.version)
	if err != nil {
		return fmt.Errorf("-push %s: %w", o.push, err)
	}

	index := mutate.IndexMediaType(empty.Index, "application/vnd.docker.distribution.manifest.list.v2+json")
	for _, img := range made {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: img.Image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: img.arch}},
		})
	}

	if err := remote.WriteIndex(tag, index, remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithContext(ctx)); err != nil {
		return fmt.Errorf("push %s: %w", tag, err)
	}

	digest, err := index.Digest()
	if err != nil {
		return fmt.Errorf("digest of %s: %w", tag, err)
	}

	fmt.Printf("pushed %s@%s\n", tag, digest)

	return nil
}
