//go:build unix

package harness

// Faults of the broker's store: a disk that is full for a while, and damage. A stream that ran into a full disk
// accepts nothing until the broker is restarted, so whoever makes room again must also restart the broker.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// storeMebibytes is the size of the broker's store, in MiB, if it can be given a file system of its own.
const storeMebibytes = 160

// diskFaults are the faults of the broker's store.
var diskFaults = []faultKind{
	{"full disk of", 2, []string{Broker}, time.Second, 4 * time.Second, fillStore},
	{"damaged store of", 2, []string{Broker}, 0, time.Second, damageStore},
}

// fillStore leaves no room for the broker's store. If the store has no file system of its own, it does nothing.
func fillStore(_ context.Context, s *Stack, _ Fault, whom string) (func() error, error) {
	if s.unmount == nil {
		return func() error { return nil }, nil
	}

	free, err := Fill(s.Path(storeDir))

	return func() error {
		p := s.Process(whom)
		return errors.Join(free(), p.Kill(), p.Start())
	}, err
}

// damageStore kills the broker, and damages a file that it needs to recover one of its streams or consumers.
func damageStore(_ context.Context, s *Stack, f Fault, whom string) (func() error, error) {
	p := s.Process(whom)
	if err := p.Kill(); err != nil {
		return nil, err
	}

	s.mu.Lock()
	s.storeLost = append(s.storeLost, time.Now()) // the damaged stream may be the bucket of the shared state
	s.mu.Unlock()

	var all []string
	err := filepath.WalkDir(s.Path(storeDir, "jetstream"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && slices.Contains([]string{"o.dat", "meta.inf"}, d.Name()) {
			all = append(all, path)
		}

		if errors.Is(err, fs.ErrNotExist) {
			return nil // the broker had been killed before it had recreated its store
		}

		return err
	})
	if err != nil || len(all) == 0 {
		return p.Start, err
	}

	victim := all[rand.New(rand.NewPCG(f.Draw, 0)).IntN(len(all))]
	s.Note("damaged: %s", victim)

	return p.Start, spoil(victim)
}

// spoil overwrites the first bytes of a file.
func spoil(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("damage the broker's store: %w", err)
	}

	_, err = file.WriteAt(make([]byte, 8), 0)

	return errors.Join(err, file.Close())
}
