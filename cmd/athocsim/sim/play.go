package sim

import (
	"context"
	"crypto/tls"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strconv"
	"time"
)

// slowPieces is the number of pieces that a slow body is cut into.
const slowPieces = 20

// play works on a call, with the fault that affects it. Every path through it finishes the call's record exactly
// once.
func (s *Simulator) play(w http.ResponseWriter, r *http.Request, c *Call, work func() answer) {
	f := s.faults.forCall(c.Endpoint, c.Users)
	process := func() answer {
		// A server goes on with a call whose client has gone, so only the end of the simulator cuts this short.
		wait(s.ctx, s.latency(len(c.Users)))

		a := work()
		c.Reason = a.reason

		return a
	}
	if f == nil {
		s.deliver(w, r, c, process())
		return
	}

	c.Fault, c.FaultID = f.Kind, f.ID
	s.logger.Debug("fault", "kind", f.Kind, "fault", f.ID, "call", c.Seq)

	switch f.Kind {
	case FaultBrokenJSON:
		a := process()
		a.body = append([]byte("<html>"), a.body[:len(a.body)/2]...)
		s.deliver(w, r, c, a)
	case FaultTruncated:
		s.truncate(w, c, process())
	case FaultSlowBody:
		s.dribble(w, r, c, process(), time.Duration(f.Hold))
	case FaultLies:
		s.deliver(w, r, c, f.lies(c, process()))
	case FaultBomb:
		process()
		s.bomb(w, c, f.Form)
	case FaultDrip:
		s.drip(w, c, f.Form, process())
	case FaultLostAnswer:
		process()
		s.reset(w, c)
	case FaultLateApply:
		s.hold(r, c, f)
		c.Finished = time.Now().UnixNano()

		wait(s.ctx, time.Duration(f.Delay))

		if s.ctx.Err() == nil {
			process()
		}

		s.reset(w, c)
	default:
		s.playUnworked(w, r, c, f, process)
	}
}

// playUnworked plays the faults with which a call is not worked on, unless Apply is set.
func (s *Simulator) playUnworked(w http.ResponseWriter, r *http.Request, c *Call, f *Fault, process func() answer) {
	if f.Apply {
		process()
	}

	switch f.Kind {
	case FaultStatus:
		s.deliver(w, r, c, f.answer())
	case FaultHang:
		s.hold(r, c, f)
		s.reset(w, c)
	case FaultReset:
		s.reset(w, c)
	}
}

func (f *Fault) answer() answer {
	a := refused(f.Status, "fault %d", f.ID)
	if f.Body != "" {
		a.body = []byte(f.Body)
	}

	if v, err := f.retryAfterHeader(); err == nil && v != "" { // it was validated when the fault was added
		a.header = http.Header{"Retry-After": {v}}
	}

	return a
}

// hold keeps a call waiting until the client gives up, the fault's Hold has passed, or the simulator ends.
func (s *Simulator) hold(r *http.Request, c *Call, f *Fault) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()

	if f.Hold > 0 {
		wait(ctx, time.Duration(f.Hold))
	} else {
		<-ctx.Done()
	}

	c.ClientGone = r.Context().Err() != nil
}

// wait returns after d or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}

	t := time.NewTimer(d)
	defer t.Stop()

	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// finish completes the record. It is called just before the last byte of an answer is sent, or before a connection is
// dropped.
func (s *Simulator) finish(c *Call, status int) {
	c.Status = status
	if c.Finished == 0 {
		c.Finished = time.Now().UnixNano()
	}

	s.calls.finish(c)
	s.logger.LogAttrs(context.Background(), slog.LevelInfo, "call", slog.Uint64("call", c.Seq), slog.String("endpoint", c.Endpoint),
		slog.Int("status", status), slog.Int("users", len(c.Users)), slog.Duration("duration", time.Duration(c.Finished-c.Arrived)),
		slog.String("fault", c.Fault), slog.String("reason", c.Reason))
}

func writeHead(w http.ResponseWriter, a answer) {
	maps.Copy(w.Header(), a.header)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
}

func (s *Simulator) deliver(w http.ResponseWriter, r *http.Request, c *Call, a answer) {
	c.ClientGone = r.Context().Err() != nil
	s.finish(c, a.status)
	writeHead(w, a)
	_, _ = w.Write(a.body) // a client that has gone cannot be answered
}

// truncate announces the whole body and sends half of it.
func (s *Simulator) truncate(w http.ResponseWriter, c *Call, a answer) {
	writeHead(w, a)
	_, _ = w.Write(a.body[:len(a.body)/2])
	_ = http.NewResponseController(w).Flush()

	s.finish(c, a.status)
	panic(http.ErrAbortHandler)
}

func (s *Simulator) dribble(w http.ResponseWriter, r *http.Request, c *Call, a answer, over time.Duration) {
	writeHead(w, a)

	flush := http.NewResponseController(w).Flush
	size := max(1, len(a.body)/slowPieces)
	rest := a.body
	for ; len(rest) > size && r.Context().Err() == nil; rest = rest[size:] {
		_, _ = w.Write(rest[:size])
		_ = flush()
		ctx, cancel := context.WithCancel(r.Context())
		stop := context.AfterFunc(s.ctx, cancel)
		wait(ctx, over/slowPieces)
		stop()
		cancel()
	}

	c.ClientGone = r.Context().Err() != nil
	s.finish(c, a.status)

	_, _ = w.Write(rest)
}

// reset drops the connection with a TCP reset, so that a client does not mistake it for the end of an answer.
func (s *Simulator) reset(w http.ResponseWriter, c *Call) {
	s.finish(c, 0)

	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}

	raw := conn
	if t, ok := conn.(*tls.Conn); ok {
		raw = t.NetConn()
	}

	if t, ok := raw.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}

	_ = raw.Close()
}
