package auth

// Logins by a password beside a login service, of which people are told.

import (
	"context"
	"sync"
	"time"
)

const (
	// tellWait is how long telling of one may take, tellAgain how long it is before it is tried again.
	tellWait, tellAgain = 5 * time.Second, 30 * time.Second
	// mostUntold bounds those that nobody could be told of yet; the log has them all.
	mostUntold = 100
)

// Emergency is a login by a password that is kept for when the login service is down.
type Emergency struct {
	Who Identity
	At  time.Time
}

// untold are those that nobody was told of yet.
type untold struct {
	mu    sync.Mutex
	all   []Emergency
	again time.Time // when it is tried again, if it failed; it is tell's own
}

func (u *untold) add(e Emergency) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.all) < mostUntold {
		u.all = append(u.all, e)
	}
}

func (u *untold) first() (Emergency, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.all) == 0 {
		return Emergency{}, false
	}
	return u.all[0], true
}

// tell has people told, one after the other, until one of them cannot be. An answer that was lost has one told of twice: better than never.
func (u *untold) tell(ctx context.Context, opt Options) {
	for !opt.Clock().Before(u.again) {
		e, there := u.first()
		if !there {
			return
		}
		within, cancel := context.WithTimeout(ctx, tellWait)
		err := opt.Tell(within, e)
		cancel()
		if err != nil {
			if u.again.IsZero() && ctx.Err() == nil {
				opt.Log.Warn("nobody can be told of an emergency login yet; it is tried again", "name", e.Who.Name, "at", e.At, "error", err)
			}
			u.again = opt.Clock().Add(tellAgain)
			return
		}
		u.again = time.Time{}
		u.mu.Lock()
		u.all = u.all[1:]
		u.mu.Unlock()
	}
}
