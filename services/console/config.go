package console

// The settings.

import (
	"errors"
	"net"

	"bobosync/services/console/internal/auth"
	"bobosync/shared/config"
)

// Config holds the console's settings.
type Config struct {
	// Broker has the key for reading the data of pages: a viewer's key is enough.
	Broker config.Broker
	Data   config.Data
	Log    config.Log
	// Addr is where the console listens, such as 127.0.0.1:8470. If it is empty, bobosync run has no console.
	Addr string `env:"CONSOLE_ADDR"`
	// OperatorCreds is the file with the NATS credentials for giving orders and looking up persons. Without it, a
	// broker that keeps its users apart refuses both.
	OperatorCreds string `env:"CONSOLE_OPERATOR_CREDS"`
	// Zone is AtHoc's time zone, in which bin/console shows all times. bobosync run shows them in the machine's zone.
	Zone config.Zone `env:"ATHOC_TIMEZONE, default=local"`

	Auth auth.Config
}

// Validate reports everything that is wrong with the settings.
func (c *Config) Validate() error {
	errs := []error{c.Broker.Validate(), c.Log.Validate()}
	if c.Addr == "" {
		return errors.Join(errs...)
	}

	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		errs = append(errs, errors.New("CONSOLE_ADDR: must be an address and a port, such as 127.0.0.1:8470"))
	}

	return errors.Join(append(errs, c.Auth.Validate(c.Addr))...)
}

// Common returns the settings that every program needs.
func (c *Config) Common() (config.Broker, config.Log) { return c.Broker, c.Log }
