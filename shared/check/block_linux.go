package check

import (
	"golang.org/x/sys/unix"

	"bobosync/shared/disk"
)

func blockSize(st *unix.Statfs_t) uint64 { return disk.BlockSize(st) }
