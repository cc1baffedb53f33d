package bus

import "github.com/nats-io/nats.go"

// Credentials returns the options that a connection takes from a credentials file, as [Connect] does with
// [Config.CredsFile].
func Credentials(file string) ([]nats.Option, error) { return credentials(file) }
