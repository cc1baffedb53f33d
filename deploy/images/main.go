// Command images makes the container images of BOBO Sync from nothing: a static program, the certificates of the
// authorities that Mozilla trusts, and empty directories for volumes. It needs Go and no container engine, and the
// same commit built with the same Go gives the same image digests.
//
// For each image and architecture it writes <name>_linux_<arch>.tar, for `docker load`, and
// <name>_linux_<arch>.cdx.json, the bill of materials; and digests.txt over all of them. With -push it writes images
// for all architectures to a registry.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"bobosync/deploy/sign"
)

// maxSize is the most bytes that an image may have, unpacked, as a machine stores it. An image that outgrows it has
// taken in something that it does not need.
const maxSize = 25_000_000

type options struct {
	release
	out, push string
	key       string // file with the owner's key for signing; empty for no signature
	arches    []string
	only      []string
}

func main() { os.Exit(run()) }

func run() int {
	var o options
	arches, only := "", ""

	flag.StringVar(&o.version, "version", "dev", "`version` of the images: their tag, and what the programs say of themselves")
	flag.StringVar(&o.revision, "revision", "", "`commit` that they are made of")
	flag.Int64Var(&o.created, "created", 0, "time of that commit, in `seconds` since 1970")
	flag.StringVar(&o.out, "out", "dist/images", "`directory` to write to")
	flag.StringVar(&arches, "arch", "amd64,arm64", "architectures, `comma-separated`")
	flag.StringVar(&only, "only", "", "make only these images, `comma-separated`")
	flag.StringVar(&o.key, "key", "", "`file` of the key to sign the digests with (deploy/sign)")
	flag.StringVar(&o.push, "push", "", "also push to this `registry and path`, such as registry.example.org/bobosync")
	flag.Parse()

	o.arches, o.only = strings.Split(arches, ","), strings.FieldsFunc(only, func(c rune) bool { return c == ',' })

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	if err := o.makeAll(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		return 1
	}

	return 0
}

func (o options) makeAll(ctx context.Context) (err error) {
	if o.source == "" {
		if o.source, err = sourceRoot(); err != nil {
			return err
		}
	}

	work, err := os.MkdirTemp("", "bobosync-images-")
	if err == nil {
		err = os.MkdirAll(o.out, 0o755)
	}

	if err != nil {
		return fmt.Errorf("make the directories for images: %w", err)
	}

	defer os.RemoveAll(work)

	var report strings.Builder
	for _, s := range catalog() {
		if len(o.only) > 0 && !slices.Contains(o.only, s.name) {
			continue
		}

		var made []*image
		for _, arch := range o.arches {
			img, err := o.image(ctx, s, arch, work)
			if err != nil {
				return err
			}

			line, err := o.write(img)
			if err != nil {
				return err
			}

			fmt.Println(line)
			report.WriteString(line + "\n")

			made = append(made, img)
		}

		if o.push != "" {
			if err := o.pushIndex(ctx, s, made); err != nil {
				return err
			}
		}
	}

	if report.Len() == 0 {
		return fmt.Errorf("no image is called %s", strings.Join(o.only, " or "))
	}

	list := filepath.Join(o.out, "digests.txt")
	if err := os.WriteFile(list, []byte(report.String()), 0o644); err != nil {
		return err
	}

	return sign.File(o.key, list)
}

// write writes an image and its bill of materials, and returns a line of text about it.
func (o options) write(img *image) (line string, err error) {
	size, packed, err := img.sizes()
	if err != nil {
		return "", err
	}

	if size > maxSize {
		return "", fmt.Errorf("%s for %s has %.1f MB, more than %.0f: find out what has got in (go version -m, or the image's .cdx.json)",
			img.spec.name, img.arch, float64(size)/1e6, float64(maxSize)/1e6)
	}

	path := filepath.Join(o.out, img.spec.name+"_linux_"+img.arch)
	if err := o.writeTarball(path+".tar", img); err != nil {
		return "", err
	}

	out, err := os.Create(path + ".cdx.json")
	if err != nil {
		return "", err
	}

	if err := errors.Join(o.writeSBOM(out, img), out.Close()); err != nil {
		return "", fmt.Errorf("write the bill of materials of %s: %w", img.spec.name, err)
	}

	digest, err := img.Digest()
	if err != nil {
		return "", fmt.Errorf("digest of %s: %w", img.spec.name, err)
	}

	return fmt.Sprintf("%-20s %-6s %s  %5.1f MB, %4.1f MB packed", img.spec.name, img.arch, digest, float64(size)/1e6, float64(packed)/1e6), nil
}
