// The bill of materials of an archive.

package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// writeBill writes, as CycloneDX 1.6 JSON, what the programs in a directory consist of: each program, Go's standard
// library and the modules, as Go recorded them in the programs.
func (o options) writeBill(path, archive, dir string) (err error) {
	built, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list the programs: %w", err)
	}

	parts := map[string]cdx.Component{}
	uses := []cdx.Dependency{}
	var programs []string
	for _, entry := range built {
		used, err := o.take(parts, filepath.Join(dir, entry.Name()))
		if err != nil {
			return fmt.Errorf("read what %s is made of: %w", entry.Name(), err)
		}

		programs = append(programs, entry.Name())
		uses = append(uses, cdx.Dependency{Ref: entry.Name(), Dependencies: &used})
	}

	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &cdx.Component{BOMRef: "release", Type: cdx.ComponentTypeApplication, Name: archive, Version: o.version}}

	components := []cdx.Component{}
	for _, ref := range slices.Sorted(maps.Keys(parts)) {
		components = append(components, parts[ref])
	}

	uses = append(uses, cdx.Dependency{Ref: "release", Dependencies: &programs})
	bom.Components, bom.Dependencies = &components, &uses

	out, err := os.Create(path)
	if err != nil {
		return err
	}

	err = cdx.NewBOMEncoder(out, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)

	return errors.Join(err, out.Close())
}

// take adds a program and its modules to parts, and returns references to everything that the program uses.
func (o options) take(parts map[string]cdx.Component, path string) (used []string, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}

	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return nil, err
	}

	name := filepath.Base(path)
	parts[name] = cdx.Component{
		BOMRef: name, Type: cdx.ComponentTypeApplication, Name: name, Version: o.version,
		Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: fmt.Sprintf("%x", sha256.Sum256(content))}},
	}
	add := func(module, version, purl string) {
		c := cdx.Component{BOMRef: module + "@" + version, Type: cdx.ComponentTypeLibrary, Name: module, Version: version, PackageURL: purl}
		parts[c.BOMRef] = c
		used = append(used, c.BOMRef)
	}
	goVersion := strings.TrimPrefix(info.GoVersion, "go")
	add("stdlib", goVersion, "pkg:golang/std@"+goVersion)

	for _, m := range info.Deps {
		if m.Replace != nil && m.Replace.Version != "" {
			m = m.Replace
		}

		if strings.HasPrefix(m.Path, "bobosync/") {
			add(m.Path, o.version, "")
			continue
		}

		add(m.Path, m.Version, "pkg:golang/"+m.Path+"@"+strings.ReplaceAll(m.Version, "+", "%2B"))
	}

	return used, nil
}
