package topology

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// unwatched are the streams and buckets whose loss ends no service's session: it would go unrepaired until something restarts. What
// brings statuses to AtHoc is not among them.
var unwatched = []string{StreamDead, StreamJournal, StreamAudit, BucketAudit, StreamHistory}

// Remake makes those of the unwatched parts of a broker's store that are missing and were at the last look, as far as this program's key
// may: at the first look somebody else may be about to make them, and operators are to see it. It returns the names of those that are
// missing now, for the next look.
func Remake(ctx context.Context, js jetstream.JetStream, s Settings, before []string, log *slog.Logger) (missing []string, err error) {
	access, err := askAccess(ctx, js.Conn())
	if err != nil {
		return nil, err
	}
	for _, res := range s.resources() {
		if res.Kind == KindConsumer || !slices.Contains(unwatched, res.Name) || !access.may(res.creation()) {
			continue
		}
		have, err := res.get(ctx, js)
		switch {
		case err != nil:
			return missing, err
		case !have.missing:
			continue
		case !slices.Contains(before, res.Name):
			missing = append(missing, res.Name)
			continue
		}
		if err := res.create(ctx, js); err != nil {
			return missing, fmt.Errorf("make %s, which the broker has lost: %w", res, err)
		}
		log.Warn("a part of the broker's store was lost and is made again, without what was in it", "part", res.String())
	}
	return missing, nil
}
