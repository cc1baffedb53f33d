package publisher

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/bus"
)

func TestWhichOfTwoMessagesIsLater(t *testing.T) {
	noon := time.Date(2024, 6, 17, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		m, than bus.Info
		later   bool
	}{
		"the next one":                    {bus.Info{Sequence: 8, Time: noon.Add(time.Second)}, bus.Info{Sequence: 7, Time: noon}, true},
		"the one before":                  {bus.Info{Sequence: 7, Time: noon}, bus.Info{Sequence: 8, Time: noon.Add(time.Second)}, false},
		"the broker's clock was put back": {bus.Info{Sequence: 8, Time: noon.Add(-time.Hour)}, bus.Info{Sequence: 7, Time: noon}, true},
		"the stream was lost meanwhile":   {bus.Info{Sequence: 1, Time: noon.Add(time.Second)}, bus.Info{Sequence: 7, Time: noon}, true},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.later, later(c.m, c.than)) })
	}
}
