package tokens

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"

	"bobosync/shared/cas"
)

// keptSettings is how many sets of settings have a name at once; of more, the oldest loses its own.
const keptSettings = 8

// settingsKey is where the names of settings lie in the state bucket.
func (s *Store) settingsKey() string { return s.key() + "-settings" }

// Settings returns a name for the store's credentials together with further settings, the same for all who have the same. The
// name is random, since everyone who reads the circuit breaker may see it: a hash of the credentials would let them be guessed.
// It lies in the bucket, sealed under the credentials; who cannot open any of those there gets a new one.
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
