package check

import "golang.org/x/sys/unix"

func blockSize(st *unix.Statfs_t) uint64 { return uint64(st.Bsize) }
