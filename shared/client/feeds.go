package client

import "bobosync/shared/control"

// FeedWords says in a word or two how a feed is doing.
func FeedWords(f control.FeedState) string {
	switch {
	case !f.Learnt:
		return "learning"
	case f.Silent:
		return "silent"
	case f.Thin != nil:
		return "thin"
	case f.Flood != nil:
		return "flood"
	default:
		return "usual"
	}
}
