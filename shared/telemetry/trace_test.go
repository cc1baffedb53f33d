package telemetry_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"bobosync/shared/telemetry"
	"bobosync/shared/telemetry/teletest"
)

var (
	fileA = strings.Repeat("ab", 32)
	fileB = strings.Repeat("cd", 32)
)

// TestAFilesTrace: what several processes do with a file forms one trace, whose id is the beginning of the file's id.
// Work on many files at once has its own trace, with links both ways.
func TestAFilesTrace(t *testing.T) {
	c := teletest.StartCollector(t)
	began := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ended := began.Add(time.Second)
	process := func(name string, work func(*telemetry.Telemetry)) {
		tel := telemetry.New("v1.2.3")
		stop, err := tel.Trace(t.Context(), telemetry.Config{Endpoint: c.URL, Headers: "authorization=Bearer%20hunter2"}, name, "v1.2.3",
			slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		require.True(t, tel.Tracing())
		work(tel)
		require.NoError(t, stop())
	}
	process("bobosync-ingest", func(tel *telemetry.Telemetry) {
		for _, file := range []string{fileA, fileB} {
			tel.NoteRoot(file, telemetry.Work{Name: "read file", Began: began, Ended: ended, Counts: map[string]int{"rows": 7}})
			tel.NoteFile(file, telemetry.Work{Name: "move file", Began: began, Ended: ended})
		}

		headers := map[string]string{}
		tel.FileHeader(fileA, func(key, value string) { headers[key] = value })
		require.Equal(t, map[string]string{"traceparent": "00-" + fileA[:32] + "-" + fileA[:16] + "-01"}, headers)
	})
	process("bobosync-publisher", func(tel *telemetry.Telemetry) {
		tel.NoteFiles([]string{fileA, fileB, fileA, ""}, telemetry.Work{
			Name: "call AtHoc", Began: began, Ended: ended, Err: errors.New("AtHoc is away"),
		})
	})

	roots := c.Named("read file")
	require.Len(t, roots, 2)

	for _, file := range []string{fileA, fileB} {
		root := roots[file[:32]]
		require.NotNil(t, root)
		require.Contains(t, root.GetAttributes()[0].String()+root.GetAttributes()[1].String(), "bobosync.rows")
		require.Empty(t, root.GetParentSpanId(), "the root of the trace")
		require.Equal(t, file[:16], hex.EncodeToString(root.GetSpanId()))
		require.Equal(t, root.GetSpanId(), c.Named("move file")[file[:32]].GetParentSpanId())
	}

	calls := c.Named("call AtHoc")
	require.Len(t, calls, 3, "its own, and one in each file's trace")

	for _, file := range []string{fileA, fileB} {
		part, root := calls[file[:32]], roots[file[:32]]
		require.Equal(t, root.GetSpanId(), part.GetParentSpanId())
		require.Equal(t, tracepb.Status_STATUS_CODE_ERROR, part.GetStatus().GetCode())
		whole := calls[hex.EncodeToString(part.GetLinks()[0].GetTraceId())]
		require.Len(t, whole.GetLinks(), 2)

		for _, s := range []*tracepb.Span{root, part, whole} {
			require.Equal(t, uint64(began.UnixNano()), s.GetStartTimeUnixNano())
			require.Equal(t, uint64(ended.UnixNano()), s.GetEndTimeUnixNano())
		}
	}

	require.Contains(t, c.Resources(), "service.name=bobosync-ingest")
	require.Contains(t, c.Resources(), "service.name=bobosync-publisher")
	require.Contains(t, c.Resources(), "service.version=v1.2.3")
	require.Equal(t, "Bearer hunter2", c.Header().Get("Authorization"))
}

// TestTheStandardVariablesWork: the standard variables for names and samplers work.
func TestTheStandardVariablesWork(t *testing.T) {
	c := teletest.StartCollector(t)
	t.Setenv("OTEL_SERVICE_NAME", "duty")
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")

	tel := telemetry.New("dev")
	stop, err := tel.Trace(t.Context(), telemetry.Config{TracesExporter: "otlp", TracesEndpoint: c.URL + "/v1/traces"}, "x", "dev", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	tel.NoteRoot(fileA, telemetry.Work{Name: "read file", Began: time.Now(), Ended: time.Now()})
	require.NoError(t, stop())
	require.Zero(t, c.Len())

	t.Setenv("OTEL_TRACES_SAMPLER", "")
	stop, err = tel.Trace(t.Context(), telemetry.Config{TracesExporter: "otlp", TracesEndpoint: c.URL + "/v1/traces"}, "x", "dev", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	tel.NoteRoot(fileA, telemetry.Work{Name: "read file", Began: time.Now(), Ended: time.Now()})
	require.NoError(t, stop())
	require.Equal(t, 1, c.Len())
	require.Contains(t, c.Resources(), "service.name=duty")
}

// TestACollectorThatIsAway: it costs spans, one log line, and nothing else.
func TestACollectorThatIsAway(t *testing.T) {
	c := teletest.StartCollector(t)
	c.Status = http.StatusForbidden // 5xx would be retried for a while
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	tel := telemetry.New("dev")
	stop, err := tel.Trace(t.Context(), telemetry.Config{Endpoint: c.URL}, "x", "dev", log)
	require.NoError(t, err)

	for range 3000 { // several batches
		tel.NoteFile(fileA, telemetry.Work{Name: "read file", Began: time.Now(), Ended: time.Now()})
	}

	require.NoError(t, stop())
	require.Equal(t, 1, strings.Count(text.String(), "cannot be sent"), text.String())
	require.Equal(t, 1, strings.Count(text.String(), "level=WARN"))
}

// TestTracesAreOffByDefault: nothing is sent, and a span costs nothing.
func TestTracesAreOffByDefault(t *testing.T) {
	tel := telemetry.New("dev")
	stop, err := tel.Trace(t.Context(), telemetry.Config{}, "x", "dev", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.False(t, tel.Tracing())
	require.NoError(t, stop())
	require.Zero(t, testing.AllocsPerRun(100, func() {
		tel.NoteFile(fileA, telemetry.Work{Name: "read file"})
	}))
}
