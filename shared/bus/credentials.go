package bus

import "github.com/nats-io/nats.go"

// Credentials returns what a connection takes from a credentials file, as [Connect] does with [Config.CredsFile].
func Credentials(file string) ([]nats.Option, error) { return credentials(file) }
