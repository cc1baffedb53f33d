package config_test

import (
	"context"
	"fmt"
	"time"

	"bobosync/shared/config"
)

// Settings come from the environment or a file into a struct, all of them at once.
func ExampleLoad() {
	var settings struct {
		Poll time.Duration `env:"POLL_INTERVAL, default=5s"`
		Size int           `env:"BATCH_SIZE, default=1000"`
	}
	err := config.Load(context.Background(), config.Map(map[string]string{"POLL_INTERVAL": "2s"}), &settings)
	fmt.Println(settings.Poll, settings.Size, err)
	// Output: 2s 1000 <nil>
}

// A secret shows itself to nobody who does not ask for it.
func ExampleSecret() {
	password := config.Secret("correct horse")
	fmt.Printf("%v %s\n", password, password)
	// Output: [hidden] [hidden]
}
