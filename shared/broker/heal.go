package broker

// What of the store is damaged, and is set aside so that it is made anew: everything in it can be had again from the files.

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
)

// The directories of the store, as the server lays it out: jetstream/<account>/streams/<stream>/obs/<consumer>.
const (
	serverDir    = server.JetStreamStoreDir
	streamsDir   = "streams"
	consumersDir = "obs"
	// asideDir is beside them, and holds what was damaged.
	asideDir = "set-aside"
)

// maxHeals is how often a start sets damaged parts aside before it gives up.
const maxHeals = 3

// ErrDamaged means that a part of the store cannot be used, and was not set aside.
var ErrDamaged = errors.New("a part of the store is damaged")

// damaged returns the directories of the streams and consumers that lie in the store and that the server has not taken up, or
// streams of which it has lost the end.
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

// hasStream reports whether the server has taken up a stream that lies in the store.
func (s *Server) hasStream(account, stream string) bool {
	health := s.ns.Healthz(&server.HealthzOptions{Account: account, Stream: stream, Details: true})
	for _, e := range health.Errors {
		if strings.Contains(e.Error, "could not be recovered") {
			return false
		}
	}
	return true
}

// lostItsEnd reports whether a consumer was delivered more than a stream holds that lies in the store: a message that is stored
// now gets a number that the consumer has had, and is never delivered to it.
func (s *Server) lostItsEnd(account, stream string) bool {
	info, err := s.ns.Jsz(&server.JSzOptions{Account: account, Streams: true, Consumer: true})
	if err != nil {
		return false
	}
	for _, a := range info.AccountDetails {
		for _, st := range a.Streams {
			behind := func(c *server.ConsumerInfo) bool { return c.Delivered.Stream > st.State.LastSeq }
			if st.Name == stream && slices.ContainsFunc(st.Consumer, behind) {
				return true
			}
		}
	}
	return false
}

// hasConsumer does the same for a consumer. One that nobody needs any more may have gone meanwhile.
func (s *Server) hasConsumer(account, stream, consumer string) bool {
	health := s.ns.Healthz(&server.HealthzOptions{Account: account, Stream: stream, Consumer: consumer, Details: true})
	return health.StatusCode != http.StatusNotFound
}

// eachDir calls f for the directories in dir, which need not exist. The server marks what it is deleting, and its own, by a dot.
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

// setAside moves directories of a store that no server uses to a place of their own.
func setAside(storeDir string, dirs []string, log *slog.Logger, reason string) error {
	place := filepath.Join(storeDir, asideDir, time.Now().UTC().Format("20060102T150405.000000000Z"))
	for _, dir := range dirs {
		inside, err := filepath.Rel(storeDir, dir)
		if err != nil {
			return fmt.Errorf("%w: set %s aside: %w", ErrDamaged, dir, err)
		}
		to := filepath.Join(place, inside)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, storeError(storeDir, err))
		}
		if err := os.Rename(dir, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %w", ErrDamaged, storeError(storeDir, err))
		}
		log.Error("a part of the broker's store is damaged and is made anew; what was in it is read again from the files. The damaged "+
			"part is kept and may be deleted", "damaged", inside, "kept", to, "reason", reason)
	}
	return nil
}
