package topology

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// unwatched are the streams and buckets whose loss ends no service's session: it would go unrepaired until something restarts. What
// brings statuses to AtHoc is not among them.
var unwatched = []string{StreamDead, StreamJournal, StreamAudit, BucketAudit, StreamHistory}

// Remake makes those of the unwatched parts of a broker's store that are missing and were at the last look, as far as this program's key
// may: at the first look somebody else may be about to make them, and operators are to see it. It returns the names of those that are
// missing now, for the next look, and an error that has all that could not be looked at or made.
func Remake(ctx context.Context, js jetstream.JetStream, s Settings, before []string, log *slog.Logger) (missing []string, err error) {
	access, err := askAccess(ctx, js.Conn())
	if err != nil {
		return nil, err
	}

	var errs []error
	for _, res := range s.resources() {
		if res.Kind == KindConsumer || !slices.Contains(unwatched, res.Name) || !access.may(res.creation()) {
			continue
		}

		have, err := res.get(ctx, js)
		if err == nil && have.missing && slices.Contains(before, res.Name) {
			if err = res.create(ctx, js); err == nil {
				log.Warn("a part of the broker's store was lost and is made again, without what was in it", "part", res.String())
				continue
			}
		}

		errs = append(errs, err) // it holds up none of the others
		if have.missing {
			missing = append(missing, res.Name)
		}
	}

	return missing, errors.Join(errs...)
}
