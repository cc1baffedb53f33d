package telemetry

import (
	"errors"
	"net/url"
)

// tracing is where spans go.
type tracing struct{}

func (c Config) validateEndpoint() error {
	if c.Endpoint == "" {
		return nil
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("OTEL_EXPORTER_OTLP_ENDPOINT: must be an address such as http://localhost:4318")
	}
	return nil
}
