package broker

// Damaged parts of the store are set aside, so that they are recreated: everything in them can be had again from the
// files.

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"bobosync/shared/scrub"
)

// The directories of the store, as the server lays it out: jetstream/<account>/streams/<stream>/obs/<consumer>.
const (
	serverDir    = server.JetStreamStoreDir
	streamsDir   = "streams"
	consumersDir = "obs"
	// asideDir is next to them, and holds what was damaged.
	asideDir = scrub.AsideDir
)

// maxHeals is how often a start sets damaged parts aside before it gives up.
const maxHeals = 3

// ErrDamaged means that a part of the store cannot be used, and was not set aside.
var ErrDamaged = errors.New("a part of the store is damaged")

// damaged returns the directories of streams and consumers that are in the store but that the server has not loaded,
// and those of streams that have lost their end.
func (s *Server) damaged() ([]string, error) {
	var all []string
	err := eachDir(filepath.Join(s.storeDir, serverDir), func(account, dir string) error {
		return eachDir(filepath.Join(dir, streamsDir), func(stream, dir string) error {
			if !s.hasStream(account, stream) || s.lostItsEnd(account, stream) {
				all = append(all, dir)
				return nil
			}

			return eachDir(filepath.Join(dir, consumersDir), func(consumer, dir string) error {
				if !s.hasConsumer(account, stream, consumer) {
					all = append(all, dir)
				}
				return nil
			})
		})
	})

	return all, err
}

// hasStream reports whether the server has loaded a stream that is in the store.
func (s *Server) hasStream(account, stream string) bool {
	health := s.ns.Healthz(&server.HealthzOptions{Account: account, Stream: stream, Details: true})
	for _, e := range health.Errors {
		if strings.Contains(e.Error, "could not be recovered") {
			return false
		}
	}

	return true
}

// lostItsEnd reports whether a stream that is in the store holds less than a consumer of it was delivered. A message
// that is stored then gets a sequence that the consumer has already had, and is never delivered to it.
func (s *Server) lostItsEnd(account, stream string) bool {
	return slices.ContainsFunc(s.ahead(account), func(c consumerRef) bool { return c.stream == stream })
}

// consumerRef identifies a consumer, or a stream if consumer is empty.
type consumerRef struct{ account, stream, consumer string }

// ahead returns the consumers that were delivered more than their streams hold; an empty account means all accounts.
// The server finds some damage only when it reads the messages, long after its start.
func (s *Server) ahead(account string) (all []consumerRef) {
	delivered, last := s.sequences(account)
	suspect := func() bool {
		all = nil
		for at, d := range delivered {
			if stream := (consumerRef{account: at.account, stream: at.stream}); d > last[stream] {
				all = append(all, at)
			}
		}

		return len(all) > 0
	}
	if suspect() { // or a message was stored and delivered between the two readings: only damage ever lowers a stream's last sequence
		_, last = s.sequences(account)

		suspect()
	}

	return all
}

// sequences returns the last sequence that each consumer was delivered, and the last that each stream holds.
func (s *Server) sequences(account string) (delivered, last map[consumerRef]uint64) {
	delivered, last = map[consumerRef]uint64{}, map[consumerRef]uint64{}

	info, err := s.ns.Jsz(&server.JSzOptions{Account: account, Accounts: true, Streams: true, Consumer: true})
	if err != nil {
		return nil, nil
	}

	for _, a := range info.AccountDetails {
		for _, st := range a.Streams {
			last[consumerRef{account: a.Name, stream: st.Name}] = st.State.LastSeq
			for _, c := range st.Consumer {
				delivered[consumerRef{a.Name, st.Name, c.Name}] = c.Delivered.Stream
			}
		}
	}

	return delivered, last
}

// hasConsumer reports whether the server has loaded a consumer that is in the store. A consumer that nobody needs any
// more may have gone meanwhile.
func (s *Server) hasConsumer(account, stream, consumer string) bool {
	health := s.ns.Healthz(&server.HealthzOptions{Account: account, Stream: stream, Consumer: consumer, Details: true})
	return health.StatusCode != http.StatusNotFound
}

// eachDir calls f for each directory in dir, which need not exist. It skips those whose names begin with a dot or an
// underscore, by which the server marks what it is deleting, and what is its own.
func eachDir(dir string, f func(name, path string) error) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}

	if err != nil {
		return fmt.Errorf("look for damage in the broker's store: %w", err)
	}

	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") || strings.HasPrefix(e.Name(), "_") {
			continue
		}

		if err := f(e.Name(), filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}

	return nil
}

const (
	// asideAge is how long what was set aside is kept, asideBytes how much of it; the latest is kept whatever its size.
	asideAge   = 30 * 24 * time.Hour
	asideBytes = 256 << 20
)

// asideForm is the form of the names of directories below asideDir: the time at which something was set aside.
const asideForm = "20060102T150405.000000000Z"

// pruneAside deletes what was set aside too long ago, or takes up too much. What cannot be deleted is tried again at
// the next start.
func pruneAside(storeDir string, now time.Time, log *slog.Logger) {
	aside := filepath.Join(storeDir, asideDir)
	var dirs []string // anything that somebody else has put there stays

	err := eachDir(aside, func(name, _ string) error {
		if _, err := time.Parse(asideForm, name); err == nil {
			dirs = append(dirs, name)
		}
		return nil
	})
	if err != nil {
		log.Warn("what was set aside of the broker's store cannot be read", "error", err)
		return
	}

	total := int64(0)
	for i, name := range slices.Backward(dirs) { // the latest first
		dir := filepath.Join(aside, name)

		total += sizeOf(dir)
		when, _ := time.Parse(asideForm, name)
		if now.Sub(when) <= asideAge && (i == len(dirs)-1 || total <= asideBytes) {
			continue
		}

		if err := os.RemoveAll(dir); err != nil {
			log.Warn("what was set aside of the broker's store cannot be deleted", "kept", dir, "error", err)
			continue
		}

		log.Info("what was set aside of the broker's store is deleted: it is older than 30 days, or there is more than 256 MiB", "deleted", dir)
	}
}

// sizeOf adds up the sizes of the files below a directory that can be read.
func sizeOf(dir string) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // what cannot be seen does not count
		}

		if info, err := d.Info(); err == nil {
			total += info.Size()
		}

		return nil
	})

	return total
}

// setAside moves directories of a store that no server is using below asideDir.
func setAside(storeDir string, dirs []string, log *slog.Logger, reason string) error {
	aside := filepath.Join(storeDir, asideDir, time.Now().UTC().Format(asideForm))
	for _, dir := range dirs {
		inside, err := filepath.Rel(storeDir, dir)
		if err != nil {
			return fmt.Errorf("%w: set %s aside: %w", ErrDamaged, dir, err)
		}

		to := filepath.Join(aside, inside)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, storeError(storeDir, err))
		}

		if err := os.Rename(dir, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %w", ErrDamaged, storeError(storeDir, err))
		}

		log.Error("a part of the broker's store is damaged and is recreated; what was in it is read again from the files. The damaged "+
			"part is kept for 30 days and may be deleted", "damaged", inside, "kept", to, "reason", reason)
	}

	return nil
}
