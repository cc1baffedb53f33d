package tokens

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"

	"bobosync/shared/cas"
)

// keptSettings is how many sets of settings can have a name at once; beyond that, the oldest loses its name.
const keptSettings = 8

// settingsKey returns the key, in the state bucket, of the names of settings.
func (s *Store) settingsKey() string { return s.key() + "-settings" }

// Settings returns a name for the store's credentials together with further settings; all processes with the same
// settings get the same name. The name is random, since everyone who reads the circuit breaker may see it: a hash of
// the credentials would let them be guessed. It lies in the bucket, sealed under the credentials; a process that can
// open none of the names there gets a new one.
func (s *Store) Settings(ctx context.Context, more ...string) (string, error) {
	kv, err := s.bucket(ctx)
	if err != nil {
		return "", err
	}

	extra := joined(more...)
	var name string

	err = cas.Update(ctx, kv, s.settingsKey(), func(old []byte) ([]byte, error) {
		var sealed [][]byte
		if json.Unmarshal(old, &sealed) != nil {
			sealed = nil // none, or not of this version
		}

		for _, value := range sealed {
			if plain, err := s.seal.openBytes(value, extra); err == nil {
				name = string(plain)
				return nil, nil
			}
		}

		name = rand.Text()
		sealed = append(sealed, s.seal.sealBytes([]byte(name), extra))

		return json.Marshal(slices.Clone(sealed[max(0, len(sealed)-keptSettings):]))
	})
	if err != nil {
		return "", fmt.Errorf("name the settings of AtHoc: %w", err)
	}

	return name, nil
}
