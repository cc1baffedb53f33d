package resolver

// This file lists what operators and the janitor can ask the resolver for.

import (
	"context"

	"bobosync/services/resolver/internal/dead"
	"bobosync/services/resolver/internal/erasure"
	"bobosync/services/resolver/internal/show"
	"bobosync/services/resolver/internal/trial"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

func (s *service) endpoints(w *work) []control.Endpoint {
	eraser := &erasure.Eraser{JS: w.conn.JS, Roster: s.roster, Forget: func(ctx context.Context, req control.ForgetRequest) (control.ForgetAnswer, error) {
		return control.Ask[control.ForgetAnswer](ctx, w.conn.NC, topology.Janitor, control.Forget, req)
	}}
	letters := dead.Letters{JS: w.conn.JS, Requeue: w.replayer.Requeue, Forecast: w.replayer.ForecastRequeue}

	return []control.Endpoint{
		s.check,
		control.WithForecast(control.On(control.Replay, w.replayer.Begin), w.replayer.Forecast),
		control.On(control.ReplayForecast, func(ctx context.Context, req control.ReplayRequest) (control.ReplayState, error) {
			req.DryRun = true
			return w.replayer.Begin(ctx, req)
		}),
		control.On(control.Replays, func(context.Context, control.Nothing) ([]control.ReplayState, error) { return w.replayer.List() }),
		control.On(control.StopReplay, w.replayer.Stop),
		control.On(control.Requeue, w.replayer.Requeue),
		control.On(control.DeadRequeue, letters.Try),
		control.On(control.DeadDrop, letters.Drop),
		control.On(control.DeadForecast, letters.Count),
		control.On(control.Observe, s.observer.Observe),
		control.On(control.MappingList, func(_ context.Context, req control.MappingListRequest) (control.MappingListAnswer, error) {
			return show.Mapping(s.roster.Store, req)
		}),
		control.On(control.Held, w.decider.List),
		control.On(control.HeldShow, w.decider.Show),
		control.On(control.HeldDecide, w.decider.Decide),
		control.On(control.HeldRequeue, w.decider.Requeue),
		control.On(control.WorkerShow, func(ctx context.Context, req control.WorkerRequest) (control.WorkerAnswer, error) {
			return show.Worker(ctx, w.conn.JS, s.roster, req)
		}),
		control.On(control.WorkerPast, func(ctx context.Context, req control.PastRequest) (control.PastAnswer, error) {
			employee, user, err := show.Find(ctx, s.roster, req.Text)
			if err != nil {
				return control.PastAnswer{}, err
			}

			return w.history.Past(ctx, employee, user, req)
		}),
		control.On(control.OnDuty, w.history.OnDuty),
		control.On(control.FileCalls, w.history.FileCalls),
		control.On(control.EraseShow, eraser.Show),
		control.On(control.Erase, eraser.Erase),
		control.On(control.Try, func(_ context.Context, req control.TryRequest) (control.TryAnswer, error) {
			return trial.Try(s.roster, req)
		}),
		control.OnEvery(control.State, s.state),
	}
}
