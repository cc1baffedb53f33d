package teletest

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Collector receives spans as an OpenTelemetry collector does, over HTTP.
type Collector struct {
	*httptest.Server
	// Status is the HTTP status that it answers with; set it before anything is sent.
	Status int

	mu        sync.Mutex
	spans     []*tracepb.Span
	resources []string
	header    http.Header
}

// StartCollector runs a collector until the end of the test.
func StartCollector(tb testing.TB) *Collector {
	tb.Helper()

	c := &Collector{Status: http.StatusOK}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request, err := read(r)
		if err != nil || r.URL.Path != "/v1/traces" {
			tb.Errorf("the collector was sent to %s what it cannot read: %v", r.URL.Path, err)
			return
		}

		c.take(request, r.Header)
		w.WriteHeader(c.Status)
	}))
	tb.Cleanup(c.Close)

	return c
}

func read(r *http.Request) (*collector.ExportTraceServiceRequest, error) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, err
		}

		body = unzipped
	}

	data, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}

	request := new(collector.ExportTraceServiceRequest)

	return request, proto.Unmarshal(data, request)
}

func (c *Collector) take(request *collector.ExportTraceServiceRequest, header http.Header) {
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

// Len returns the number of spans received.
func (c *Collector) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.spans)
}

// Named returns the spans with a name, by their trace id in hex; the last one of each trace.
func (c *Collector) Named(name string) map[string]*tracepb.Span {
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

// Resources returns the resource attributes of the senders of spans, as key=value.
func (c *Collector) Resources() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.resources)
}

// Header returns the headers of the last request.
func (c *Collector) Header() http.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.header.Clone()
}
