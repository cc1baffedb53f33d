package topology

// Streams of a bounded size where the broker has less room than is wanted.

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// minStreamBytes is the least size with which a stream of a bounded size is made.
const minStreamBytes = 8 << 20

// ErrNoRoom means that the broker has no room on its disk, or within the account's limits, for what is to be made.
var ErrNoRoom = errors.New("the broker has no room for it: make room on its disk, or lower ENTRIES_MAX_BYTES or HISTORY_MAX_BYTES")

// noRoom reports whether a broker refused something for lack of room on its disk or in the account's storage.
func noRoom(err error) bool {
	codes := []jetstream.ErrorCode{10002, 10023, 10028, 10047} // too little: resources of the account, of the server, memory, storage
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && slices.Contains(codes, api.ErrorCode)
}

// createStream makes a stream. If the broker has no room for its size, the size is halved, down to minStreamBytes. A
// stream that drops its oldest messages is then made without a size of its own: it takes the room that there is.
func createStream(ctx context.Context, js jetstream.JetStream, c jetstream.StreamConfig) error {
	for {
		_, err := js.CreateStream(ctx, c)
		switch {
		case !noRoom(err):
			return err
		case c.MaxBytes/2 < minStreamBytes && c.MaxBytes > 0 && c.Discard == jetstream.DiscardOld:
			c.MaxBytes = -1
			continue
		case c.MaxBytes/2 < minStreamBytes:
			return fmt.Errorf("%w: %w", ErrNoRoom, err)
		}

		c.MaxBytes /= 2
	}
}

// updateStream changes a stream from have to want. If the broker has no room for it to grow as wanted, it grows by
// less, or keeps its size. A stream without a size does not get a size that is smaller than wanted, which could drop
// what it holds. updateStream returns what it asked for last, and what the broker made of that.
func updateStream(
	ctx context.Context, js jetstream.JetStream, have, want jetstream.StreamConfig,
) (asked, made jetstream.StreamConfig, err error) {
	for {
		s, err := js.UpdateStream(ctx, want)
		switch {
		case err == nil:
			return want, s.CachedInfo().Config, nil
		case !noRoom(err):
			return want, have, err
		case want.MaxBytes <= have.MaxBytes:
			if len(Differences(want, have)) > 0 {
				return want, have, err
			}
			return have, have, nil // a broker that has less room than before refuses even the present size
		case have.MaxBytes < 0:
			want.MaxBytes = have.MaxBytes
			continue
		}

		want.MaxBytes = max(want.MaxBytes/2, have.MaxBytes)
	}
}
