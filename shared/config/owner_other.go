//go:build !unix

package config

import "io/fs"

// trusted accepts every file: modes do not show on this system who may write.
func trusted(string, fs.FileInfo) error { return nil }
