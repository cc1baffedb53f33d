//go:build unix

package config

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// trusted rejects a settings file that somebody else could have put there: it could redirect what the environment
// holds.
func trusted(path string, info fs.FileInfo) error {
	link, err := os.Lstat(path)
	if err != nil {
		return err
	}

	for _, one := range []fs.FileInfo{link, info} {
		owner, ok := one.Sys().(*syscall.Stat_t)
		if !ok {
			continue
		}

		if uid := int(owner.Uid); uid != 0 && uid != os.Geteuid() {
			return fmt.Errorf("%s is not read since it belongs to another user (%d): name it with --env if it is meant", path, uid)
		}

		group := one.Mode()&0o020 != 0 && owner.Gid != 0 && int(owner.Gid) != os.Getegid()
		if one.Mode()&fs.ModeSymlink == 0 && (one.Mode()&0o002 != 0 || group) {
			return fmt.Errorf("%s is not read since others may write to it: chmod 600 %s, or name it with --env if it is meant", path, path)
		}
	}

	return nil
}
