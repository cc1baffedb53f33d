package check

import (
	"fmt"

	"golang.org/x/sys/windows"
)

// diskSpace queries the volume that holds path.
func diskSpace(path string) (Space, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return Space{}, fmt.Errorf("ask for the free space of %s: %w", path, err)
	}

	var s Space
	if err := windows.GetDiskFreeSpaceEx(name, &s.Free, &s.Total, nil); err != nil {
		return Space{}, fmt.Errorf("ask for the free space of %s: %w", path, err)
	}

	return s, nil
}
