package athoc

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestWhatWasGivenUpIsNotSentLater: a server that reads nothing, as across a network that is cut, gets the rest of a call neither when it reads again.
func TestWhatWasGivenUpIsNotSentLater(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	client, err := newHTTPClient(Config{Timeout: time.Minute})
	require.NoError(t, err)
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	ended := make(chan error, 1)
	go func() {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+listener.Addr().String(), bytes.NewReader(make([]byte, 64<<20)))
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
	_, err = io.ReadFull(conn, make([]byte, 1<<20)) // it is under way, and far from its end
	require.NoError(t, err)
	giveUp()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err = io.Copy(io.Discard, conn)
	require.ErrorContains(t, err, "reset", "the connection has no orderly end, after which the system may go on sending")
}
