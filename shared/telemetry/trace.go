package telemetry

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"bobosync/shared/config"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// scope distinguishes this project's spans from those of libraries.
const scope = "bobosync"

const (
	// flushTime is how long sending the last spans may take at the end.
	flushTime = 3 * time.Second
	// exportErrorInterval is the shortest time between two log lines about spans that cannot be sent.
	exportErrorInterval = 10 * time.Minute
	// maxFiles is the most files whose traces one piece of work is entered into; a span holds 128 links.
	maxFiles = 100
)

// tracing is the destination of spans; the zero value drops them.
type tracing struct{ provider *sdktrace.TracerProvider }

// Traces reports whether the settings switch traces on: OTEL_TRACES_EXPORTER is otlp, or it is not set and an endpoint
// is.
func (c Config) Traces() bool {
	switch strings.ToLower(c.TracesExporter) {
	case "otlp":
		return true
	case "":
		return c.Endpoint != "" || c.TracesEndpoint != ""
	}

	return false
}

func (c Config) validateTraces() error {
	var errs []error
	switch strings.ToLower(c.TracesExporter) {
	case "", "none", "otlp":
	default:
		errs = append(errs, errors.New("OTEL_TRACES_EXPORTER: must be otlp or none"))
	}

	for _, v := range []struct{ name, address string }{
		{"OTEL_EXPORTER_OTLP_ENDPOINT", c.Endpoint}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", c.TracesEndpoint},
	} {
		if v.address == "" {
			continue
		}

		if _, _, has := strings.Cut(v.address, "://"); !has {
			errs = append(errs, fmt.Errorf("%s: must be an address such as http://localhost:4318", v.name))
			continue
		}

		errs = append(errs, config.Addresses(v.name, v.address, "http", "https"))
	}

	if _, err := c.headers(); err != nil {
		errs = append(errs, err)
	}

	return errors.Join(errs...)
}

// headers parses name=value pairs with URL-encoded values. Its error quotes nothing, because a value may be a secret.
func (c Config) headers() (map[string]string, error) {
	if c.Headers == "" {
		return nil, nil
	}

	headers := map[string]string{}
	for pair := range strings.SplitSeq(c.Headers.Reveal(), ",") {
		name, value, paired := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); !paired || name == "" || err != nil {
			return nil, errors.New("OTEL_EXPORTER_OTLP_HEADERS: must be name=value, several of them separated by commas")
		}

		headers[name] = value
	}

	return headers, nil
}

// endpoint returns the address that traces go to; empty for OTLP's default, http://localhost:4318.
func (c Config) endpoint() string {
	switch {
	case c.TracesEndpoint != "":
		return c.TracesEndpoint
	case c.Endpoint != "":
		return strings.TrimRight(c.Endpoint, "/") + "/v1/traces"
	}

	return ""
}

// Trace makes t send spans as the settings say, under the program's name, until the returned function is called, which
// sends what is left. If the settings leave traces off, nothing happens. For what the settings do not cover, the SDK
// uses its other OTEL_ variables in the environment. An unreachable collector costs spans and nothing else.
func (t *Telemetry) Trace(ctx context.Context, cfg Config, program, version string, log *slog.Logger) (stop func() error, err error) {
	if t == nil || !cfg.Traces() {
		return func() error { return nil }, nil
	}

	headers, err := cfg.headers()
	if err != nil {
		return nil, err
	}

	var options []otlptracehttp.Option
	if headers != nil {
		options = append(options, otlptracehttp.WithHeaders(headers))
	}

	if endpoint := cfg.endpoint(); endpoint != "" {
		options = append(options, otlptracehttp.WithEndpointURL(endpoint))
	}

	exporter, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("send traces (OTEL_EXPORTER_OTLP_ENDPOINT): %w", err)
	}

	origin, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(attribute.String("service.name", program), attribute.String("service.version", version)),
		resource.WithFromEnv())
	if err != nil {
		log.Warn("OTEL_RESOURCE_ATTRIBUTES cannot be used in full", "error", err)
	}

	// The exporter fails in a goroutine of the SDK, which can report errors only to this global handler.
	otel.SetErrorHandler(&exportErrors{log: log})

	t.tracing.provider = sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(origin),
		sdktrace.WithIDGenerator(fileIDs{}))

	log.Info("traces are sent")

	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), flushTime)
		defer cancel()

		if err := t.tracing.provider.Shutdown(ctx); err != nil {
			log.Debug("the last spans could not be sent", "error", err)
		}

		return nil
	}, nil
}

// exportErrors logs at most one error of the SDK per exportErrorInterval, because a collector may be down for long.
type exportErrors struct {
	log  *slog.Logger
	mu   sync.Mutex
	last time.Time
}

// Handle implements otel.ErrorHandler.
func (c *exportErrors) Handle(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if !c.last.IsZero() && time.Since(c.last) < exportErrorInterval {
		return
	}

	c.last = time.Now()

	if call, ok := errors.AsType[*url.Error](err); ok {
		err = call.Err // omit the address, which may hold a key
	}

	c.log.Warn("spans cannot be sent and are dropped; check OTEL_EXPORTER_OTLP_ENDPOINT", "error", anyAddress.ReplaceAllString(err.Error(), "the collector"))
}

// anyAddress matches an address within a text.
var anyAddress = regexp.MustCompile(`https?://\S*[^\s:]`)

// Tracing reports whether spans are sent, so that a caller need not gather what nobody would see.
func (t *Telemetry) Tracing() bool { return t != nil && t.tracing.provider != nil }

// fileContext returns the root of a file's trace. Each service derives it from the file's id, the SHA-256 of its
// content in hex, so that no service has to pass it on. The trace id is the first 16 bytes of the hash, the root span's
// id is the next 8.
func fileContext(fileID string) trace.SpanContext {
	sum, err := hex.DecodeString(fileID)
	if err != nil || len(sum) != sha256.Size {
		hash := sha256.Sum256([]byte(fileID))
		sum = hash[:]
	}

	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID(sum[:16]), SpanID: trace.SpanID(sum[16:24]), TraceFlags: trace.FlagsSampled, Remote: true,
	})
}

type rootKey struct{}

// fileIDs gives the root of a file's trace its derived ids, and every other span random ones.
type fileIDs struct{}

// NewIDs implements the SDK's IDGenerator.
func (g fileIDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if root, derived := ctx.Value(rootKey{}).(trace.SpanContext); derived {
		return root.TraceID(), root.SpanID()
	}

	var id trace.TraceID
	binary.BigEndian.PutUint64(id[:8], rand.Uint64())
	binary.BigEndian.PutUint64(id[8:], rand.Uint64()|1) // an id of zeros is not valid

	return id, g.NewSpanID(ctx, id)
}

// NewSpanID implements the SDK's IDGenerator.
func (fileIDs) NewSpanID(context.Context, trace.TraceID) trace.SpanID {
	var id trace.SpanID
	binary.BigEndian.PutUint64(id[:], rand.Uint64()|1)
	return id
}

// Work is a piece of work that has ended.
type Work struct {
	// Name says what it was, in two or three words that are the same each time.
	Name         string
	Began, Ended time.Time
	// Err is what went wrong, if anything did. Its text is sent, so it must hold no personal data.
	Err error
	// Counts holds numbers by snake_case names.
	Counts map[string]int
}

// NoteRoot enters the first work on a file, reading it, into the file's trace as its root. All other work on the file
// is entered with NoteFile and NoteFiles, by any service, before or after it.
func (t *Telemetry) NoteRoot(fileID string, w Work) {
	if t.Tracing() {
		ctx := context.WithValue(context.Background(), rootKey{}, fileContext(fileID))
		t.note(ctx, w, trace.WithNewRoot(), trace.WithAttributes(fileAttribute(fileID)))
	}
}

// NoteFile enters work on a file into the file's trace.
func (t *Telemetry) NoteFile(fileID string, w Work) {
	if t.Tracing() {
		t.note(trace.ContextWithRemoteSpanContext(context.Background(), fileContext(fileID)), w, trace.WithAttributes(fileAttribute(fileID)))
	}
}

// NoteFiles enters work on many files at once, such as a call to AtHoc. The work gets its own trace, with links to the
// traces of up to a hundred of the files, and is also entered into each of these, with a link back. The same file may
// occur in fileIDs more than once.
func (t *Telemetry) NoteFiles(fileIDs []string, w Work) {
	if !t.Tracing() {
		return
	}

	fileIDs = distinct(fileIDs)

	links := make([]trace.Link, 0, maxFiles)
	linked := fileIDs[:min(len(fileIDs), maxFiles)]
	for _, id := range linked {
		links = append(links, trace.Link{SpanContext: fileContext(id), Attributes: []attribute.KeyValue{fileAttribute(id)}})
	}

	whole := t.note(context.Background(), w, trace.WithLinks(links...), trace.WithAttributes(attribute.Int("bobosync.files", len(fileIDs))))
	for _, id := range linked {
		t.note(trace.ContextWithRemoteSpanContext(context.Background(), fileContext(id)), w,
			trace.WithLinks(trace.Link{SpanContext: whole}), trace.WithAttributes(fileAttribute(id)))
	}
}

func (t *Telemetry) note(ctx context.Context, w Work, options ...trace.SpanStartOption) trace.SpanContext {
	options = append(options, trace.WithTimestamp(w.Began))
	for name, n := range w.Counts {
		options = append(options, trace.WithAttributes(attribute.Int("bobosync."+name, n)))
	}

	_, span := t.tracing.provider.Tracer(scope).Start(ctx, w.Name, options...)
	if w.Err != nil {
		span.SetStatus(codes.Error, w.Err.Error())
	}

	span.End(trace.WithTimestamp(w.Ended))

	return span.SpanContext()
}

// distinct returns the ids without repetitions and empty ones, in order.
func distinct(ids []string) []string {
	seen := make(map[string]bool, len(ids))
	var kept []string
	for _, id := range ids {
		if !seen[id] && id != "" {
			seen[id] = true
			kept = append(kept, id)
		}
	}

	return kept
}

func fileAttribute(id string) attribute.KeyValue { return attribute.String("bobosync.file", id) }

// FileHeader writes the root of a file's trace into a message's headers, as a W3C traceparent, so that the broker's own
// tools and other readers see which trace the message belongs to. This project's readers need no header: they know the
// file.
func (t *Telemetry) FileHeader(fileID string, set func(key, value string)) {
	if !t.Tracing() {
		return
	}

	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(trace.ContextWithRemoteSpanContext(context.Background(), fileContext(fileID)), carrier)

	for key, value := range carrier {
		set(key, value)
	}
}
