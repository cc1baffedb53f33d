package resolver

import (
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/memory"
	"bobosync/shared/bus"
	"bobosync/shared/event"
)

// answerLinger lets the answers of several calls to AtHoc be saved at once: nobody waits for that.
const answerLinger = 100 * time.Millisecond

// answers handles what AtHoc said to the updates.
func (r *resolver) answers(msg *message.Message) error {
	batch := bus.BatchFrom(msg.Context())
	r.mu.Lock()
	defer r.mu.Unlock()
	change := memory.Change{Workers: map[string]latest.Worker{}}
	err := r.memory.View(func(v memory.View) error {
		f := newFold(v.Worker)
		for _, item := range batch.Items {
			var m event.Acks
			if err := event.Decode(item.Data, &m); err != nil {
				item.Term(err.Error())
				continue
			}
			for _, a := range m.Answers {
				if a.Employee == "" {
					r.answeredForeign(a)
				}
				for _, employee := range r.concerned(a) {
					w, err := f.worker(employee)
					if err != nil {
						return err
					}
					if w.Answer(a, r.rules) {
						change.Workers[employee] = *w
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read AtHoc's answers: %w", err)
	}
	if len(change.Workers) == 0 {
		return nil
	}
	if err := r.memory.Save(change); err != nil {
		return err
	}
	for employee, w := range change.Workers {
		r.note(employee, w)
	}
	return nil
}

// concerned returns the workers whom an answer of AtHoc's is about. A call that was given up may still be at work on the user,
// so it is about the worker who is mapped to the user now as well, though it was sent for nobody, or for somebody else. Such a
// worker may be unknown so far: if there is an event soon, it is sent once more, like everybody's.
func (r *resolver) concerned(a event.Answer) []string {
	var out []string
	if a.Employee != "" {
		out = append(out, a.Employee)
	}
	if a.Outcome == event.Pending {
		if now := r.directory.Load().employee(a.User); now != "" && now != a.Employee {
			out = append(out, now)
		}
	}
	return out
}
