package athoc

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestWhatWasGivenUpIsNotSentLater: a server that does not read, as behind a network that is cut, does not get the rest
// of a call that was given up, even when it reads again.
func TestWhatWasGivenUpIsNotSentLater(t *testing.T) {
	t.Parallel()

	certified := httptest.NewTLSServer(nil)
	defer certified.Close()

	for name, cfg := range map[string]*tls.Config{
		"plain":               nil,
		"TLS that has HTTP/2": {Certificates: certified.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)

			address := "http://" + listener.Addr().String()
			if cfg != nil {
				listener, address = tls.NewListener(listener, cfg), "https://"+listener.Addr().String()
			}
			defer listener.Close()

			client, err := newHTTPClient(Config{Timeout: time.Minute, InsecureSkipVerify: true})
			require.NoError(t, err)

			ctx, giveUp := context.WithCancel(t.Context())
			defer giveUp()

			ended := make(chan error, 1)
			go func() {
				r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(make([]byte, 64<<20)))
				if err == nil {
					var resp *http.Response
					if resp, err = client.Do(r); err == nil {
						err = resp.Body.Close()
					}
				}

				ended <- err
			}()

			conn, err := listener.Accept()
			require.NoError(t, err)

			defer conn.Close()

			require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
			_, err = io.ReadFull(conn, make([]byte, 1<<20)) // the call is under way, and far from its end
			require.NoError(t, err)
			giveUp()
			require.ErrorIs(t, <-ended, context.Canceled)

			_, err = io.Copy(io.Discard, conn)
			if over, isTLS := conn.(*tls.Conn); isTLS && err == nil { // the TLS stream may end in order although its connection does not
				_, err = io.Copy(io.Discard, over.NetConn())
			}

			require.ErrorContains(t, err, "reset", "the connection has no orderly end, after which the system may go on sending")
		})
	}
}
