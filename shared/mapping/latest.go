package mapping

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/bus"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// Latest reads the newest mapping of which the stream holds all chunks. If there is none, snapshot is "" and users is
// nil. A chunk that cannot be read is logged, and counts as missing.
func Latest(ctx context.Context, js jetstream.JetStream, log *slog.Logger) (snapshot string, users map[string]string, err error) {
	var chunks Assembler

	err = bus.Read(ctx, js, topology.StreamMapping, bus.ReadFrom{}, func(data []byte, _ string) {
		var chunk event.MappingChunk
		if err := event.Decode(data, &chunk); err != nil {
			log.Warn("a part of the mapping in the broker cannot be read, going on without it", "error", err)
			return
		}

		if whole := chunks.Add(chunk); whole != nil {
			snapshot, users = chunk.Snapshot, whole
		}
	})
	if err != nil {
		return "", nil, fmt.Errorf("read the mapping from its stream: %w", err)
	}

	return snapshot, users, nil
}
