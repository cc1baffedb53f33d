package disk

import "golang.org/x/sys/windows"

func free(path string) (uint64, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, err
	}

	var mine uint64 // what this account may write; a quota may make it less than what is free
	err = windows.GetDiskFreeSpaceEx(name, &mine, nil, nil)

	return mine, err
}

func noFiles(string) bool { return false }
