package resolver_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/services/resolver"
	"bobosync/shared/await"
	"bobosync/shared/bustest"
	"bobosync/shared/config"
	"bobosync/shared/event"
	"bobosync/shared/program"
	"bobosync/shared/topology"
)

// BenchmarkFile takes a file of 1,000,000 rows of 20,000 or 200,000 workers from the broker to the table of updates, as
// much as there is room for in the table: reading, keeping the latest events, settling the rows that were superseded,
// publishing.
func BenchmarkFile(b *testing.B) {
	for _, workers := range []int{20_000, 200_000} {
		b.Run(fmt.Sprint(workers, "-workers"), func(b *testing.B) { benchmarkFile(b, workers) })
	}
}

func benchmarkFile(b *testing.B, workers int) {
	const rows, part, chunk = 1_000_000, 500, 10_000
	server := bustest.Start(b)
	conn := server.Connect(b)
	var cfg resolver.Config
	require.NoError(b, config.Load(b.Context(), config.Map(map[string]string{
		"DATA_DIRECTORY": b.TempDir(), "NATS_URL": server.ClientURL(), "ENTRIES_MAX_BYTES": "2000000000",
	}), &cfg))
	settings := topology.From(cfg.Broker, cfg.Calls)
	require.NoError(b, topology.Provision(b.Context(), conn.JS, settings, topology.Everyone))

	for n := 0; n*chunk < workers; n++ {
		users := map[string]string{}
		for i := n * chunk; i < (n+1)*chunk; i++ {
			users[fmt.Sprintf("%06d", i)] = fmt.Sprintf("firstname.lastname.%d@example.org", i)
		}

		_, err := conn.JS.Publish(b.Context(), topology.SubjectMapping, event.Encode(&event.MappingChunk{Snapshot: "m", Index: n, Chunks: workers / chunk, Users: users}))
		require.NoError(b, err)
	}

	b.ReportAllocs()

	for n := 0; b.Loop(); n++ {
		b.StopTimer()

		file := fmt.Sprintf("%064x", n)
		for at := 0; at < rows; at += part {
			m := event.Entries{File: file, Sequence: int64(n + 1), Last: at+part == rows}
			for i := at; i < at+part; i++ {
				m.Entries = append(m.Entries, event.Entry{
					Row: i + 2, Employee: fmt.Sprintf("%06d", i*7919%workers), At: time.Now().Add(-time.Hour).Unix() + int64(i/1000), On: i/workers%2 == n%2,
				})
			}

			_, err := conn.JS.PublishAsync(topology.EntriesSubject(file), event.Encode(&m))
			require.NoError(b, err)
		}

		<-conn.JS.PublishAsyncComplete()

		ctx, stop := context.WithCancel(b.Context())
		done := make(chan error, 1)

		b.StartTimer()
		go func() {
			done <- resolver.Run(ctx, cfg, program.Deps{Conn: server.Connect(b), Log: bustest.Logger()})
		}()

		await.True(b, func() bool {
			c, err := conn.JS.Consumer(b.Context(), topology.StreamEntries, topology.ConsumerResolverEntries)
			return err == nil && c.CachedInfo().NumPending == 0 && c.CachedInfo().NumAckPending == 0
		}, 2*time.Minute)
		b.StopTimer()
		stop()
		require.NoError(b, <-done)
		b.StartTimer()
	}
}
