package console

// The settings.

import (
	"errors"
	"net"

	"bobosync/services/console/internal/auth"
	"bobosync/shared/config"
)

// Config are the console's settings.
type Config struct {
	// Broker has the key with which the data of pages is read: the viewer's is enough.
	Broker config.Broker
	Data   config.Data
	Log    config.Log
	// Addr is where the console listens, such as 127.0.0.1:8470; there is no console in bobosync run if it is empty.
	Addr string `env:"CONSOLE_ADDR"`
	// OperatorCreds is the file with the NATS credentials with which orders are given and persons looked up. Without it the broker
	// refuses both, if it keeps its users apart.
	OperatorCreds string `env:"CONSOLE_OPERATOR_CREDS"`
	// Zone is AtHoc's, in which bin/console shows all times; with bobosync run they are in the machine's.
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
