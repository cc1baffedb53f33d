package auth

// Logins by a password where people normally use a login service. People are notified of each.

import (
	"context"
	"sync"
	"time"
)

const (
	// notifyTimeout is how long one notification may take, notifyRetryPause the delay before it is tried again.
	notifyTimeout, notifyRetryPause = 5 * time.Second, 30 * time.Second
	// maxUnnotified bounds the logins that could not be reported yet; the log has all logins.
	maxUnnotified = 100
)

// Emergency is a login by a password that is kept for when the login service is down.
type Emergency struct {
	Who Identity
	At  time.Time
}

// unnotified holds the logins that are not reported yet.
type unnotified struct {
	mu    sync.Mutex
	all   []Emergency
	again time.Time // when to try again after a failure; only notify uses it
}

func (u *unnotified) add(e Emergency) {
	u.mu.Lock()
	defer u.mu.Unlock()

	if len(u.all) < maxUnnotified {
		u.all = append(u.all, e)
	}
}

func (u *unnotified) first() (Emergency, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()

	if len(u.all) == 0 {
		return Emergency{}, false
	}

	return u.all[0], true
}

// notify reports the logins, one after the other, until one fails. If an answer is lost, a login is reported twice,
// which is better than never.
func (u *unnotified) notify(ctx context.Context, opt Options) {
	for !opt.Clock().Before(u.again) {
		e, there := u.first()
		if !there {
			return
		}

		within, cancel := context.WithTimeout(ctx, notifyTimeout)
		err := opt.Notify(within, e)

		cancel()

		if err != nil {
			if u.again.IsZero() && ctx.Err() == nil {
				opt.Log.Warn("nobody can be notified of an emergency login yet; it is tried again", "name", e.Who.Name, "at", e.At, "error", err)
			}

			u.again = opt.Clock().Add(notifyRetryPause)

			return
		}

		u.again = time.Time{}
		u.mu.Lock()
		u.all = u.all[1:]
		u.mu.Unlock()
	}
}
