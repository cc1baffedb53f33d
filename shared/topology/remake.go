package topology

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// unwatched lists the streams and buckets whose loss ends no service's session: it would go unrepaired until something
// restarts. Nothing that brings statuses to AtHoc is among them.
var unwatched = []string{StreamDead, StreamJournal, StreamAudit, BucketAudit, StreamHistory}

// Remake makes the unwatched parts of a broker's store that are missing now and were missing at the previous check, as
// far as this program's key allows. At the first check somebody else may be about to make them, and operators should
// get to see the loss. It returns the names of those that are missing now, for the next check, and an error that joins
// everything that could not be checked or made.
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

		errs = append(errs, err) // an error does not hold up the others
		if have.missing {
			missing = append(missing, res.Name)
		}
	}

	return missing, errors.Join(errs...)
}
