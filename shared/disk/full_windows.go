package disk

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// systemFull are the Windows errors for a full disk that Go does not map to ENOSPC and EDQUOT.
var systemFull = []syscall.Errno{windows.ERROR_DISK_FULL, windows.ERROR_HANDLE_DISK_FULL, windows.ERROR_DISK_QUOTA_EXCEEDED, windows.ERROR_NOT_ENOUGH_QUOTA}
