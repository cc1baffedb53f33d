package files

import (
	"io/fs"
	"strconv"
	"syscall"
	"time"
)

func keyOf(info fs.FileInfo) string {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}

	return strconv.FormatUint(s.Dev, 16) + ":" + strconv.FormatUint(s.Ino, 16)
}

func changeTime(info fs.FileInfo) time.Time {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return time.Time{}
	}

	return time.Unix(s.Ctim.Unix())
}
