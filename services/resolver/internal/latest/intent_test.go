package latest

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"bobosync/shared/event"
)

// crashes is a worker whose process may end between any two steps, with the table of updates and AtHoc.
type crashes struct {
	saved   Worker
	newest  Event
	events  int
	table   *event.Update
	athoc   *event.Update
	answers []event.Answer
}

// publish does what the resolver does with an update: it saves what it is about to do, does it, and saves that it did.
// It takes only the given number of these steps.
func (c *crashes) publish(update *event.Update, before, after Worker, steps int) {
	if update == nil {
		if steps > 0 {
			c.saved = after
		}
		return
	}

	if steps > 0 {
		c.saved = Intent(before, after)
	}

	if steps > 1 {
		c.table = update
	}

	if steps > 2 {
		c.saved = after
	}
}

const allSteps = 3

func (c *crashes) resolve(steps int) {
	if !c.saved.Unresolved {
		return
	}

	w := c.saved
	update, _ := w.Resolve("007", "bond", event.ReasonEvent, noon, rules)
	c.publish(update, c.saved, w, steps)
}

// deliver lets the publisher send what is in the table; the answer arrives sooner or later.
func (c *crashes) deliver() {
	if c.table != nil {
		c.answers = append(c.answers, answer(c.table, event.Applied))
		c.athoc, c.table = c.table, nil
	}
}

// TestAHalfPublishedUpdateIsNeverTakenForNothing: wherever the process ends, AtHoc has in the end what the latest event
// says. This also holds if AtHoc had confirmed the same before an update of which the state store does not know whether
// it went out.
func TestAHalfPublishedUpdateIsNeverTakenForNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &crashes{}
		steps := func(t *rapid.T) int { return rapid.IntRange(0, allSteps).Draw(t, "steps") }
		t.Repeat(map[string]func(*rapid.T){
			"event": func(t *rapid.T) {
				c.events++
				at := noon.Add(time.Duration(c.events-1000) * time.Second).Unix()
				c.newest = Event{
					Version: event.Version{Rank: at, Sequence: 1, Row: c.events}, File: "a", On: rapid.Bool().Draw(t, "on"), At: at,
				}
				c.saved.Take(c.newest, false)
			},
			"resolve": func(t *rapid.T) { c.resolve(steps(t)) },
			"replay": func(t *rapid.T) {
				if w := c.saved; !w.Unresolved && w.Known() {
					update := w.Again("007", "bond", event.ReasonReplay, noon, rules)
					c.publish(update, c.saved, w, steps(t))
				}
			},
			"deliver": func(*rapid.T) { c.deliver() },
			"answer": func(t *rapid.T) {
				if len(c.answers) > 0 { // an old one as well, since it may be delivered twice
					c.saved.Answer(rapid.SampledFrom(c.answers).Draw(t, "answer"), noon, rules)
				}
			},
		})

		if c.events == 0 {
			return
		}

		c.resolve(allSteps)
		c.deliver()

		if c.athoc == nil || c.athoc.On != c.newest.On || c.athoc.On && c.athoc.At != c.newest.At {
			t.Fatalf("AtHoc was sent %+v, the latest is %+v", c.athoc, c.newest)
		}
	})
}
