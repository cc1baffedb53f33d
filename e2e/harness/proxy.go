//go:build unix

package harness

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Proxy forwards TCP connections, and can act as a bad network: slow, cut, or silent.
//
// When a client closes its connection, the proxy discards what the client has sent and has not arrived yet. (A real
// network may deliver it much later. That has the same effect as a request on which AtHoc goes on working after its
// client gave up, which no client can prevent. The simulator's late_apply fault plays it within bounds.)
type Proxy struct {
	target   string
	tap      func([]byte)
	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex
	conns   map[*pair]bool
	latency time.Duration
	refuse  bool
	silent  chan struct{} // if not nil, nothing passes until it is closed
	closed  bool
}

// pair is a connection from a client, with the connection to the server that it is forwarded to.
type pair struct {
	client, server net.Conn
	gone           chan struct{} // closed when the client has gone
	once           sync.Once
}

// NewProxy listens on a free loopback port and forwards everything to target.
func NewProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start a proxy: %w", err)
	}

	p := &Proxy{target: target, listener: l, conns: map[*pair]bool{}}
	p.wg.Add(1)
	go p.accept()

	return p, nil
}

// Addr returns the address on which the proxy listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close ends the proxy and all connections.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.listener.Close()
	p.Silence(false)
	p.Cut()
	p.wg.Wait()

	return err
}

// Delay makes every piece of data, in either direction, arrive later by d.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.latency = d
}

// Refuse turns new connections away.
func (p *Proxy) Refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.refuse = on
}

// Silence lets nothing pass while it is on; connections stay open.
func (p *Proxy) Silence(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()

	switch {
	case on && p.silent == nil:
		p.silent = make(chan struct{})
	case !on && p.silent != nil:
		close(p.silent)
		p.silent = nil
	}
}

// Cut resets all current connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()

	for c := range p.conns {
		c.reset()
	}
}

func (p *Proxy) accept() {
	defer p.wg.Done()

	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}

		if err != nil {
			continue
		}

		p.wg.Add(1)
		go p.serve(client)
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer p.wg.Done()

	c := &pair{client: client, gone: make(chan struct{})}

	p.mu.Lock()
	refuse := p.refuse || p.closed
	p.mu.Unlock()

	if !refuse {
		var err error
		c.server, err = net.Dial("tcp", p.target)
		refuse = err != nil
	}

	p.mu.Lock()

	refuse = refuse || p.closed
	if !refuse {
		p.conns[c] = true
	}
	p.mu.Unlock()

	if refuse {
		c.reset()
		return
	}

	var both sync.WaitGroup
	both.Go(func() { p.pass(c, c.server, c.client) })
	p.pass(c, c.client, c.server)
	both.Wait()
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
}

// reset drops both ends with a TCP reset.
func (c *pair) reset() {
	c.once.Do(func() { close(c.gone) })

	for _, conn := range []net.Conn{c.client, c.server} {
		if t, ok := conn.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
			_ = t.Close()
		}
	}
}

// piece is data on its way.
type piece struct {
	data []byte
	due  time.Time
}

// pass forwards data in one direction until that ends, and then ends the other direction.
func (p *Proxy) pass(c *pair, from, to net.Conn) {
	pieces := make(chan piece, 1024)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(pieces)

		for {
			buf := make([]byte, 32<<10)
			n, err := from.Read(buf)
			if n > 0 {
				p.mu.Lock()
				due := time.Now().Add(p.latency)
				p.mu.Unlock()

				select {
				case pieces <- piece{buf[:n], due}:
				case <-c.gone:
					return
				}
			}

			if err != nil {
				if from == c.client {
					c.once.Do(func() { close(c.gone) })
				}
				return
			}
		}
	})

	for d := range pieces {
		if p.tap != nil {
			p.tap(d.data)
		}

		if !p.hold(c, d.due) {
			break
		}

		if _, err := to.Write(d.data); err != nil {
			break
		}
	}

	// The other direction may still be waiting for an answer; with this one closed there is nobody to read it.
	_ = to.Close()
	_ = from.Close()

	c.once.Do(func() { close(c.gone) })

	for range pieces { // so that the reader can finish
	}

	reader.Wait()
}

// hold waits until a piece may arrive. It returns false if the client closes its connection meanwhile.
func (p *Proxy) hold(c *pair, due time.Time) bool {
	if wait := time.Until(due); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()

		select {
		case <-timer.C:
		case <-c.gone:
			return false
		}
	}

	p.mu.Lock()
	silent := p.silent
	p.mu.Unlock()

	if silent == nil {
		return true
	}

	select {
	case <-silent:
		return true
	case <-c.gone:
		return false
	}
}
