package publisher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"

	"bobosync/shared/athoc"
	"bobosync/shared/breaker"
	"bobosync/shared/bus"
	"bobosync/shared/event"
	"bobosync/shared/telemetry"
)

// job is one user of a batch, with the newest of the updates that the batch holds for them.
type job struct {
	update event.Update
	item   *bus.Item
	// status is what AtHoc is sent; a duty status that became stale while it waited is sent as off duty.
	status athoc.DutyStatus
	// expired: the duty status became stale while it waited.
	expired bool
}

// delivery is the work on one batch: the calls that it needs, and what follows from their answers.
type delivery struct {
	p        *publisher
	lent     *leasedBatch
	outcomes outcomes
	// refused are the users whose status AtHoc will never take, according to its answer for the user, or to a 400 for a
	// call with no other user. They are dead-lettered unless AtHoc refuses everybody. applied counts the users whose
	// status AtHoc took.
	refused []refusal
	applied int
	// calls counts the calls and sent the users in them. answered counts the calls that AtHoc answered for each user,
	// and inARow those that have failed since the last answered one.
	calls, sent, answered, inARow int
}

type refusal struct {
	job    job
	reason string
	call   event.Call
}

// everybodyRefused is how many users in a row AtHoc must refuse, without taking one, before the settings are taken to
// be at fault and not the users.
const everybodyRefused = 8

// handle sends one batch. It returns an error if outcomes could not be stored. The batch is then redelivered after a
// back-off; otherwise AtHoc would be sent the same at full rate for as long as there is no room to store outcomes. A
// batch whose handling panicked is redelivered in the same way.
func (p *publisher) handle(msg *message.Message) error {
	ctx, batch := msg.Context(), bus.BatchFrom(msg.Context())
	lent := batch.Owner.(*leasedBatch) // its source makes no others
	d := &delivery{p: p, lent: lent, outcomes: outcomes{p: p}}
	jobs := p.read(batch.Items)
	began := time.Now()

	err := d.deliver(ctx, jobs)
	if storeErr := d.store(ctx); storeErr != nil {
		return storeErr
	}

	for _, j := range jobs {
		if !j.item.IsSettled() {
			j.item.Nak(0) // the circuit breaker alone decides when
		}
	}

	if d.calls > 0 {
		// Calls that fail as a whole are logged by the circuit breaker, once: in an outage there are many of them.
		level, settled := slog.LevelInfo, len(d.outcomes.settled)
		if d.answered == 0 && settled == 0 {
			level = slog.LevelDebug
		}

		p.log.Log(ctx, level, "batch sent to AtHoc", "users", d.sent, "calls", d.calls, "settled", settled, "again", len(jobs)-settled,
			"milliseconds", time.Since(began).Milliseconds())
	}

	if err != nil && ctx.Err() == nil {
		p.log.Debug("the rest of the batch is redelivered", "error", err)
	}

	return nil
}

// read decodes the updates and keeps the newest one for each user. Arrival order decides: the broker delivers no older
// update once it holds a newer one, whereas sequences restart when a stream is recreated, and clocks go back.
// Unreadable updates are dead-lettered, superseded ones are acknowledged.
func (p *publisher) read(items []*bus.Item) []job {
	newest := map[string]int{}
	var jobs []job
	for _, item := range items {
		var u event.Update
		if err := event.Decode(item.Data, &u); err != nil {
			item.Term(err.Error())
			continue
		}

		j := p.prepare(u, item)
		if at, seen := newest[item.Subject]; seen {
			jobs[at].item.Ack()
			jobs[at] = j
			continue
		}

		newest[item.Subject] = len(jobs)
		jobs = append(jobs, j)
	}

	return jobs
}

func (p *publisher) prepare(u event.Update, item *bus.Item) job {
	j := job{update: u, item: item, status: athoc.DutyStatus{Username: u.User}}
	lifetime := p.cfg.Lifetime.Duration()

	j.expired = u.On && !u.Keep && lifetime > 0 && p.now().Sub(time.Unix(u.At, 0)) > lifetime
	if u.On && !j.expired {
		j.status.Since = time.Unix(u.At, 0)
	}

	return j
}

// deliver makes the calls that a batch needs: one, unless AtHoc takes fewer users at a time or one of them makes calls
// fail.
func (d *delivery) deliver(ctx context.Context, jobs []job) error {
	order := scheduled(jobs, d.lent.size, d.lent.permit.Probe, rand.IntN(len(jobs)+1), d.lent.state, d.p.breaker.Now())
	for _, j := range order.later {
		j.item.Nak(putOffPollInterval)
	}

	for work := order.calls; len(work) > 0; {
		part := work[0]
		work = work[1:]

		if err := d.leave(ctx); err != nil {
			return err
		}

		if err := d.begin(ctx, part); errors.Is(err, nats.ErrMaxPayload) && len(part) > 1 { // record too large
			work, d.lent.used = append(cut(part, (len(part)+1)/2), work...), false
			continue
		} else if err != nil {
			return err
		}

		results, took, err := d.call(ctx, part)
		if err == nil {
			err = d.succeeded(ctx, part, results, took)
		} else {
			work, err = d.failed(ctx, part, work, err)
		}

		if err != nil {
			if d.applied > 0 {
				d.bury() // AtHoc took others, so these users are to blame
			}
			return err
		}
	}

	d.bury()

	return nil
}

// leave gets the permit for a call; the first one came with the batch. It stores AtHoc's answers so far before it
// waits. It also renews the leases, since the permit would be of no use without them.
func (d *delivery) leave(ctx context.Context) error {
	if !d.lent.used {
		d.lent.used = true
		return nil
	}

	if err := d.store(ctx); err != nil {
		return err
	}

	permit, err := d.await(ctx)
	if err != nil {
		return err
	}

	d.lent.permit = permit
	if err := d.lent.renew(ctx); err != nil {
		return errors.Join(err, d.p.breaker.Release(context.WithoutCancel(ctx), permit))
	}

	return nil
}

// await waits for a permit as long as the leases last, and renews them to wait longer if the rate limit requires it.
// Otherwise, with calls further apart than leases last, the second call of a delivery would never be made, and a single
// user who makes calls fail would never be found.
func (d *delivery) await(ctx context.Context) (breaker.Permit, error) {
	end := time.Now().Add(time.Duration(2 * float64(time.Second) / d.p.cfg.Calls.RateLimit))
	for {
		bounded, cancel := context.WithDeadline(ctx, d.lent.until().Add(-spare))
		permit, err := d.p.breaker.Wait(bounded)

		cancel()

		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil || time.Now().After(end) {
			return permit, err
		}

		if err := d.lent.renew(ctx); err != nil {
			return breaker.Permit{}, err
		}
	}
}

// begin records a call before it is made.
func (d *delivery) begin(ctx context.Context, part []job) error {
	bounded, cancel := context.WithDeadline(ctx, d.lent.until())
	defer cancel()

	attempt := newAttempt(part, d.p.owner, d.p.now())
	if err := d.p.attempts.begin(bounded, attempt, len(d.outcomes.made) == 0); err != nil {
		d.lent.partitions.checkForLoss(ctx, err)
		return errors.Join(err, d.p.breaker.Release(context.WithoutCancel(ctx), d.lent.permit))
	}

	d.outcomes.made = append(d.outcomes.made, attempt.Call)

	return nil
}

// call makes one call, within the time for which the partitions are leased.
func (d *delivery) call(ctx context.Context, part []job) ([]athoc.Result, time.Duration, error) {
	bounded, cancel := context.WithDeadline(ctx, d.lent.until())
	defer cancel()

	statuses := make([]athoc.DutyStatus, len(part))
	for i, j := range part {
		statuses[i] = j.status
	}

	began := time.Now()

	d.p.stats.callBegan(len(part), d.p.now())
	d.p.metrics.Called(len(part))
	results, err := d.p.athoc.UpdateDutyStatus(bounded, statuses, athoc.WithGuard(d.lent.guard), athoc.WithRepeat(d.p.breaker.Pace))
	d.p.stats.callEnded(err, d.p.now())
	trace(d.p.deps.Telemetry, part, began, err)
	made := d.outcomes.lastCall()
	made.Answered, made.Status = d.p.now().UnixMilli(), statusOf(err)
	d.calls++
	d.sent += len(part)

	return results, time.Since(began), err
}

// report reports a call to the circuit breaker.
func (d *delivery) report(ctx context.Context, err error) {
	if err := d.p.breaker.Settle(ctx, d.lent.permit, err); err != nil {
		d.p.log.Warn("a call could not be reported to the circuit breaker", "error", err)
	}
}

// succeeded handles a call that AtHoc answered for each user.
func (d *delivery) succeeded(ctx context.Context, part []job, results []athoc.Result, took time.Duration) error {
	d.report(ctx, nil)
	d.answered++
	d.inARow, d.p.alone, d.p.answered = 0, 0, d.p.now()
	d.settle(part, results)

	call := breaker.Update{Users: len(part), Batch: d.p.cfg.BatchSize, Took: took}
	for _, j := range part {
		if _, isPutOff := d.lent.state.PutOff.Of(j.update.User); isPutOff {
			call.Settled = append(call.Settled, j.update.User)
		}
	}

	if err := d.p.breaker.Answered(context.WithoutCancel(ctx), call); err != nil {
		return err
	}

	return d.blameSettings(ctx)
}

// trace adds a call to the traces of the files that its users' events come from.
func trace(tel *telemetry.Telemetry, part []job, began time.Time, err error) {
	if !tel.Tracing() {
		return
	}

	files := make([]string, len(part))
	for i, j := range part {
		files[i] = j.update.File
	}

	tel.NoteFiles(files, telemetry.Work{
		Name: "call AtHoc", Began: began, Ended: time.Now(), Err: err,
		Counts: map[string]int{"users": len(part)},
	})
}

// failed handles a call that failed as a whole. It returns the calls to make, or an error that ends the delivery.
func (d *delivery) failed(ctx context.Context, part []job, work [][]job, err error) ([][]job, error) {
	call, ok := errors.AsType[*athoc.CallError](err)
	if !ok {
		d.report(ctx, err)
		return nil, err
	}

	f := d.failure(part, call)
	step := next(f)

	switch {
	case lingers(call): // AtHoc may still be working on it: the partitions rest a while
		d.lent.inDoubt = true
		d.outcomes.giveUp(part)
	case call.MayHaveApplied():
		d.outcomes.doubt(part...)
	}

	if step.action == returnToQueue {
		d.report(ctx, pathsFault(call))
	} else {
		d.report(ctx, nil) // AtHoc is there
	}

	if step.divisor > 0 {
		level := slog.LevelWarn
		if step.action == returnToQueue { // then the circuit breaker logs it
			level = slog.LevelDebug
		}

		if err := d.shrink(ctx, len(part), step.divisor, level); err != nil {
			return nil, err
		}
	}

	switch step.action {
	case shrink:
		return recut(append([][]job{part}, work...), d.lent.size), nil
	case halve:
		return append(cut(part, (len(part)+1)/2), work...), nil
	case trySingle:
		return slices.Concat(cut(part[:2:2], 1), cut(part[2:], len(part)), work), nil
	case later:
		return append(work, part), nil
	case halveLater:
		return append(work, cut(part, (len(part)+1)/2)...), nil
	case refuse:
		d.refused = append(d.refused, refusal{part[0], call.Detail, *d.outcomes.lastCall()})
		return work, d.blameSettings(ctx)
	case putOff:
		return work, d.putOff(ctx, part[0], call)
	default:
		return nil, err
	}
}

// failure gathers what is known of a call that failed as a whole.
func (d *delivery) failure(part []job, call *athoc.CallError) failure {
	d.inARow++
	known := false
	if len(part) == 1 {
		if _, known = d.lent.state.PutOff.Of(part[0].update.User); !known {
			d.p.alone++
		}
	}

	answered := known || d.takesOthers()
	sent := call.Op == athoc.OpUpdate && call.Begun()

	return failure{
		kind: call.Kind, status: call.Status, update: call.Op == athoc.OpUpdate, users: len(part), probe: d.lent.permit.Probe,
		inDoubt: call.MayHaveApplied() && (call.Status == 0 || call.Status == http.StatusGatewayTimeout),
		there:   sent && (d.lent.state.Searched != nil || d.answered > 0 || known), answered: answered,
		inARow: d.inARow, alone: d.p.alone,
	}
}

// takesOthers reports whether AtHoc has answered another update, in this delivery or lately.
func (d *delivery) takesOthers() bool {
	return d.answered > 0 || d.p.now().Sub(d.p.answered) < lately
}

// pathsFault turns a 413 for a single user into an outage: something on the path is at fault, not the user.
func pathsFault(call *athoc.CallError) error {
	if call.Kind != athoc.TooLarge {
		return call
	}

	return &athoc.CallError{
		Kind: athoc.Outage, Op: call.Op, Status: call.Status, RetryAfter: call.RetryAfter, Err: call,
		Detail: "a call with one user is refused as too large, so something on the path to AtHoc is wrong: " + call.Detail,
	}
}

// shrink makes the next calls smaller, including those of other publishers.
func (d *delivery) shrink(ctx context.Context, users, divisor int, level slog.Level) error {
	size, err := d.p.breaker.TooLarge(context.WithoutCancel(ctx), users, d.p.cfg.BatchSize, divisor)
	if err != nil {
		return err
	}

	if size < d.lent.size {
		d.p.log.Log(ctx, level, "calls to AtHoc become smaller for a while", "failed", users, "now", size)
	}

	d.lent.size = size
	d.p.stats.setLimit(size)

	return nil
}

// putOff has a user who makes calls fail retried later. If the user has done so for very long, and AtHoc takes others,
// putOff gives the user up instead; if AtHoc takes nobody, the user may not be to blame.
func (d *delivery) putOff(ctx context.Context, j job, call *athoc.CallError) error {
	known, _ := d.lent.state.PutOff.Of(j.update.User)
	if isHopeless(known, d.p.breaker.Now()) && d.takesOthers() {
		d.outcomes.done(j, event.Dead, call.Error())
		return nil
	}

	if known.Failures == 0 {
		d.p.log.Warn("calls to AtHoc fail because of one user, who is put off; bobosync status names him", "cause", call.Error())
	}

	j.item.Nak(putOffPollInterval)

	return d.p.breaker.PutOff(context.WithoutCancel(ctx), j.update.User, call.Error())
}

// lingers reports whether AtHoc may still be working on a call that failed: there was no answer, or the answer came
// from a gateway that may have stopped waiting for AtHoc's. Such answers are 504, 502 (with which IIS and Azure also
// answer a time-out), and the statuses from 520 on, which only gateways use.
func lingers(call *athoc.CallError) bool {
	return call.MayHaveApplied() && (call.Status == 0 || call.Status == http.StatusBadGateway || call.Status == http.StatusGatewayTimeout ||
		call.Status >= gatewaysOwn)
}

// gatewaysOwn is the first of the statuses that gateways have invented.
const gatewaysOwn = 520

// blameSettings reports Refused to the circuit breaker if AtHoc has refused at least everybodyRefused users and taken
// none, counting earlier deliveries too: a setting is wrong, and users must not be dead-lettered for that.
func (d *delivery) blameSettings(ctx context.Context) error {
	if len(d.refused) == 0 || d.p.alike+len(d.refused) < everybodyRefused || d.applied > 0 {
		return nil
	}

	cause := fmt.Sprintf("AtHoc refuses every user alike (%s): check DUTY_STATUS_FIELD", d.refused[0].reason)
	d.refused = nil
	if err := d.p.breaker.Report(context.WithoutCancel(ctx), d.lent.permit, breaker.Refused, cause, 0); err != nil {
		return err
	}

	return errors.New(cause)
}

// bury dead-letters the users whose status AtHoc refused for good.
func (d *delivery) bury() {
	if d.applied == 0 {
		d.p.alike += len(d.refused)
	}

	for _, r := range d.refused {
		d.outcomes.doneBy(r.call, r.job, event.Dead, r.reason)
	}

	d.refused = nil
}

// settle handles AtHoc's answer for each user.
func (d *delivery) settle(part []job, results []athoc.Result) {
	for i, j := range part {
		outcome, final := outcomeOf(results[i].Outcome, j.expired)
		if !final {
			d.outcomes.doubt(j)
			j.item.Nak(bus.DefaultBackoff(j.item.NumDelivered))
			d.p.refusals.add(j.update, results[i].Detail, d.p.now())
			d.p.metrics.Again(1)

			continue
		}

		if outcome == event.Dead {
			d.refused = append(d.refused, refusal{j, results[i].Detail, *d.outcomes.lastCall()})
			continue
		}

		if outcome == event.Applied || outcome == event.Expired {
			d.applied++
			d.p.alike = 0
		}

		d.outcomes.done(j, outcome, results[i].Detail)
	}
}

// outcomeOf turns AtHoc's answer about a user into the outcome of the row. The outcome is not final if the user must be
// sent again.
func outcomeOf(o athoc.Outcome, expired bool) (outcome event.Outcome, final bool) {
	switch o {
	case athoc.Applied:
		if expired {
			return event.Expired, true
		}
		return event.Applied, true
	case athoc.UnknownUser:
		return event.UnknownUser, true
	case athoc.ForbiddenUser:
		return event.ForbiddenUser, true
	case athoc.Invalid:
		return event.Dead, true
	default:
		return event.Pending, false
	}
}

// store stores the outcomes. Users who have one are no longer put off, and their failures are forgotten: otherwise a
// user who was given up, and is put off again later, would be dead-lettered at the first failure.
func (d *delivery) store(ctx context.Context) error {
	settled := d.outcomes.settled[d.outcomes.stored:]
	if err := d.outcomes.store(ctx); err != nil {
		return err
	}

	var over []string
	for _, j := range settled {
		if _, isPutOff := d.lent.state.PutOff.Of(j.update.User); isPutOff {
			over = append(over, j.update.User)
		}
	}

	if len(over) == 0 {
		return nil
	}

	if err := d.p.breaker.PutOffNoMore(context.WithoutCancel(ctx), over...); err != nil {
		d.p.log.Warn("users whose updates have their outcomes still count as put off", "error", err)
	}

	return nil
}
