package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// bill is what one program consists of, as Go recorded it in the program.
type bill struct {
	program program
	info    *buildinfo.BuildInfo
	sum     string // SHA-256 of the file, in hex
}

func readBill(content []byte, p program) (bill, error) {
	info, err := buildinfo.Read(bytes.NewReader(content))
	if err != nil {
		return bill{}, fmt.Errorf("read what %s is made of: %w", p.name, err)
	}

	sum := sha256.Sum256(content)

	return bill{program: p, info: info, sum: hex.EncodeToString(sum[:])}, nil
}

// rootsModule is the module that the certificates are from. It is a part of this program, and its certificates are a
// part of every image.
const rootsModule = "golang.org/x/crypto/x509roots/fallback"

// writeSBOM writes the image's bill of materials as CycloneDX 1.6 JSON: the programs, their modules, Go's standard
// library, and the bundle of certificates. The same image gives the same bytes.
func (r release) writeSBOM(w io.Writer, img *image) error {
	digest, err := img.Digest()
	if err != nil {
		return fmt.Errorf("digest of %s: %w", img.spec.name, err)
	}

	subject := cdx.Component{
		BOMRef: "image", Type: cdx.ComponentTypeContainer, Name: img.spec.name, Version: r.version, Description: img.spec.title,
		Hashes:     &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: digest.Hex}},
		Properties: &[]cdx.Property{{Name: "arch", Value: img.arch}, {Name: "revision", Value: r.revision}},
	}
	parts := map[string]cdx.Component{}
	depends := map[string][]string{}
	add := func(user string, c cdx.Component) {
		c.BOMRef = c.Name + "@" + c.Version
		parts[c.BOMRef] = c
		depends[user] = append(depends[user], c.BOMRef)
	}
	for _, b := range img.bills {
		ref := "/" + b.program.name
		parts[ref] = cdx.Component{
			BOMRef: ref, Type: cdx.ComponentTypeApplication, Name: b.program.name, Version: r.version,
			Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: b.sum}},
		}
		depends["image"] = append(depends["image"], ref)
		add(ref, module("stdlib", strings.TrimPrefix(b.info.GoVersion, "go"), "golang/std"))

		for _, m := range append([]*debug.Module{&b.info.Main}, b.info.Deps...) {
			add(ref, r.component(m))
		}
	}

	if v := moduleVersion(rootsModule); v != "" {
		add("image", module(rootsModule, v, "golang/"+rootsModule))
	}

	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &subject}
	bom.Components, bom.Dependencies = inOrder(parts, depends)

	return cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)
}

func inOrder(parts map[string]cdx.Component, depends map[string][]string) (*[]cdx.Component, *[]cdx.Dependency) {
	components, dependencies := []cdx.Component{}, []cdx.Dependency{}
	for _, c := range parts {
		components = append(components, c)
	}

	slices.SortFunc(components, func(a, b cdx.Component) int { return strings.Compare(a.BOMRef, b.BOMRef) })

	for user, used := range depends {
		slices.Sort(used)
		used = slices.Compact(used)
		dependencies = append(dependencies, cdx.Dependency{Ref: user, Dependencies: &used})
	}

	slices.SortFunc(dependencies, func(a, b cdx.Dependency) int { return strings.Compare(a.Ref, b.Ref) })

	return &components, &dependencies
}

// component describes a module. The project's own modules get the version of the release.
func (r release) component(m *debug.Module) cdx.Component {
	if m.Replace != nil && m.Replace.Version != "" {
		m = m.Replace
	}

	if m.Version == "" || m.Version == "(devel)" || strings.HasPrefix(m.Path, "bobosync/") {
		return cdx.Component{Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: r.version}
	}

	return module(m.Path, m.Version, "golang/"+m.Path)
}

func module(name, version, purl string) cdx.Component {
	return cdx.Component{
		Type: cdx.ComponentTypeLibrary, Name: name, Version: version, PackageURL: "pkg:" + purl + "@" + strings.ReplaceAll(version, "+", "%2B"),
	}
}

// moduleVersion returns the version of a module in this program; "" if it is not recorded, as in test binaries of
// older Go versions.
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}

	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}

	return ""
}
