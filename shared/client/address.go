package client

import (
	"fmt"
	"net/url"
	"path/filepath"

	"bobosync/shared/disk"
)

// AddressFile is the file in the data directory that holds the address of the broker inside the all-in-one program,
// with its token: only users who may read the data directory may give orders.
const AddressFile = "broker.url"

// WriteAddress writes the address of the broker inside, with its token, for the operators' commands.
func WriteAddress(directory, address, token string) error {
	u, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("the address of the broker inside: %w", err)
	}

	u.User = url.User(token)
	if err := disk.Replace(filepath.Join(directory, AddressFile), []byte(u.String()+"\n")); err != nil {
		return fmt.Errorf("write the address of the broker inside (DATA_DIRECTORY): %w", err)
	}

	return nil
}

// StoreDir returns the directory below DATA_DIRECTORY in which the broker inside keeps its streams.
func StoreDir(directory string) string { return filepath.Join(directory, "jetstream") }
