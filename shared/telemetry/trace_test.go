package telemetry_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"bobosync/shared/telemetry"
)

// collected is an OpenTelemetry collector.
type collected struct {
	*httptest.Server
	mu        sync.Mutex
	spans     []*tracepb.Span
	resources []string
	header    http.Header
	status    int
}

func newCollector(t *testing.T) *collected {
	t.Helper()
	c := &collected{status: http.StatusOK}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/v1/traces", r.URL.Path)
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			unzipped, err := gzip.NewReader(r.Body)
			if !assert.NoError(t, err) {
				return
			}
			body = unzipped
		}
		data, err := io.ReadAll(body)
		assert.NoError(t, err)
		var request collector.ExportTraceServiceRequest
		assert.NoError(t, proto.Unmarshal(data, &request))
		c.take(&request, r.Header)
		w.WriteHeader(c.status)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collected) take(request *collector.ExportTraceServiceRequest, header http.Header) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.header = header
	for _, r := range request.GetResourceSpans() {
		for _, a := range r.GetResource().GetAttributes() {
			c.resources = append(c.resources, a.GetKey()+"="+a.GetValue().GetStringValue())
		}
		for _, s := range r.GetScopeSpans() {
			c.spans = append(c.spans, s.GetSpans()...)
		}
	}
}

// named returns the spans of a name, by trace.
func (c *collected) named(name string) map[string]*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[string]*tracepb.Span{}
	for _, s := range c.spans {
		if s.GetName() == name {
			found[hex.EncodeToString(s.GetTraceId())] = s
		}
	}
	return found
}

var (
	fileA = strings.Repeat("ab", 32)
	fileB = strings.Repeat("cd", 32)
)

// TestAFilesTrace: what several processes do with a file is one trace, whose id is the beginning of the file's; what concerns
// many files at once has a trace of its own, with links both ways.
func TestAFilesTrace(t *testing.T) {
	c := newCollector(t)
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
			ctx, span := tel.FileRoot(t.Context(), file, "read file")
			_, inner := tel.FileSpan(ctx, file, "publish")
			inner.End()
			span.End()
		}
		headers := map[string]string{}
		tel.FileHeader(fileA, func(key, value string) { headers[key] = value })
		require.Equal(t, map[string]string{"traceparent": "00-" + fileA[:32] + "-" + fileA[:16] + "-01"}, headers)
	})
	process("bobosync-publisher", func(tel *telemetry.Telemetry) {
		_, end := tel.FilesSpan(context.Background(), []string{fileA, fileB}, "call AtHoc")
		end(errors.New("AtHoc is away"))
	})
	roots := c.named("read file")
	require.Len(t, roots, 2)
	for _, file := range []string{fileA, fileB} {
		root := roots[file[:32]]
		require.NotNil(t, root)
		require.Empty(t, root.GetParentSpanId(), "the root of the trace")
		require.Equal(t, file[:16], hex.EncodeToString(root.GetSpanId()))
		require.Equal(t, root.GetSpanId(), c.named("publish")[file[:32]].GetParentSpanId())
	}
	calls := c.named("call AtHoc")
	require.Len(t, calls, 3, "its own, and one in each file's trace")
	for _, file := range []string{fileA, fileB} {
		part := calls[file[:32]]
		require.Equal(t, roots[file[:32]].GetSpanId(), part.GetParentSpanId())
		require.Equal(t, tracepb.Status_STATUS_CODE_ERROR, part.GetStatus().GetCode())
		whole := calls[hex.EncodeToString(part.GetLinks()[0].GetTraceId())]
		require.Len(t, whole.GetLinks(), 2)
		require.Equal(t, part.GetStartTimeUnixNano(), whole.GetStartTimeUnixNano())
		require.Equal(t, part.GetEndTimeUnixNano(), whole.GetEndTimeUnixNano())
	}
	require.Contains(t, c.resources, "service.name=bobosync-ingest")
	require.Contains(t, c.resources, "service.name=bobosync-publisher")
	require.Contains(t, c.resources, "service.version=v1.2.3")
	require.Equal(t, "Bearer hunter2", c.header.Get("Authorization"))
}

// TestTheEnvironmentWinsWhereTheStandardSaysSo: names and samplers of the standard variables work.
func TestTheStandardVariablesWork(t *testing.T) {
	c := newCollector(t)
	t.Setenv("OTEL_SERVICE_NAME", "duty")
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	tel := telemetry.New("dev")
	stop, err := tel.Trace(t.Context(), telemetry.Config{TracesExporter: "otlp", TracesEndpoint: c.URL + "/v1/traces"}, "x", "dev", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	_, span := tel.FileRoot(t.Context(), fileA, "read file")
	span.End()
	require.NoError(t, stop())
	require.Empty(t, c.spans)

	t.Setenv("OTEL_TRACES_SAMPLER", "")
	stop, err = tel.Trace(t.Context(), telemetry.Config{TracesExporter: "otlp", TracesEndpoint: c.URL + "/v1/traces"}, "x", "dev", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	_, span = tel.FileRoot(t.Context(), fileA, "read file")
	span.End()
	require.NoError(t, stop())
	require.Len(t, c.spans, 1)
	require.Contains(t, c.resources, "service.name=duty")
}

// TestACollectorThatIsAway costs spans, one line, and nothing else.
func TestACollectorThatIsAway(t *testing.T) {
	c := newCollector(t)
	c.status = http.StatusForbidden // 5xx is tried again for a while
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	tel := telemetry.New("dev")
	stop, err := tel.Trace(t.Context(), telemetry.Config{Endpoint: c.URL}, "x", "dev", log)
	require.NoError(t, err)
	for range 3000 { // several batches
		_, span := tel.FileSpan(t.Context(), fileA, "read file")
		span.End()
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
		_, span := tel.FileSpan(context.Background(), fileA, "x")
		span.End()
	}))
}
