//go:build !unix

package config

import "io/fs"

// trusted trusts every file: modes say nothing here about who may write.
func trusted(string, fs.FileInfo) error { return nil }
