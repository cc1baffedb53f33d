package metrics

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/telemetry"
	"bobosync/shared/telemetry/teletest"
)

func TestMetrics(t *testing.T) {
	all := telemetry.New("v1.2.3")
	m := New(all)
	m.Called(20)
	m.Settled(event.Applied)
	m.Again(1)
	m.Confirmed(time.Second)
	m.Watch(teletest.Always(control.PublisherState{Partitions: []int{1, 4}, BatchSize: 1000, LastSuccess: time.Now()}))
	teletest.Documented(t, "../../../..", all, []string{"publisher"}, m)
	teletest.HasValues(t, all, map[string]float64{
		"bobosync_publisher_lanes_held": 2, "bobosync_publisher_users_total applied": 1, "bobosync_publisher_users_total again": 1,
	})
}

// TestPublishersInOneProcessShare: the second one gets the same metrics, and does not panic.
func TestPublishersInOneProcessShare(t *testing.T) {
	all := telemetry.New("dev")
	require.Same(t, New(all), New(all))
	require.NotSame(t, New(all), New(telemetry.New("dev")))
	New(nil).Called(1)
}
