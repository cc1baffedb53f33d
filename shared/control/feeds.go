package control

import "time"

// DefaultFeed is the name of the feed of CSV_DIRECTORY.
const DefaultFeed = "default"

// InputDirectory returns the name of a feed's input directory in messages, and in IngestState.Directories: that of the
// variable that sets it.
func InputDirectory(feed string) string {
	if feed == DefaultFeed {
		return "CSV_DIRECTORY"
	}
	return "FEEDS " + feed
}

// MuteFeed is an endpoint of ingest: it takes a FeedMuteRequest and answers with the FeedState.
const MuteFeed = "mute-feed"

// FeedMuteRequest asks that what is unusual about a feed be no finding for some time.
type FeedMuteRequest struct {
	Name string `json:"name"`
	// Seconds is how long, from now; 0 ends the mute.
	Seconds int64  `json:"seconds"`
	By      string `json:"by"`
	Reason  string `json:"reason"`
}

// FeedMute says until when a feed is muted, by whom and why.
type FeedMute struct {
	Until  time.Time `json:"until"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
}

// FeedState compares what a feed brings with what it usually brings. Copies of known files, and files that are read
// again, do not count.
type FeedState struct {
	Name string `json:"name"`
	// Since is when the first known file of the feed arrived; zero if none has. Learnt reports whether that is long
	// enough ago, and the latest file recent enough, to know what is usual. If not, the feed is never silent, thin or a
	// flood.
	Since  time.Time `json:"since,omitzero"`
	Learnt bool      `json:"learnt"`
	// LastFile is when the latest file arrived, with the UTC offset of BOBO's clock.
	LastFile time.Time `json:"last_file,omitzero"`
	// Rows and Files count those of the current hour so far; Usual is what such hours usually bring.
	Rows  int       `json:"rows"`
	Files int       `json:"files"`
	Usual UsualHour `json:"usual"`
	// Silent reports that nothing has arrived for three times the usual longest gap. Thin is a complete hour with less
	// than a third of the fewest rows that such hours have brought, Flood one with more than five times the most.
	Silent bool         `json:"silent"`
	Thin   *UnusualHour `json:"thin,omitempty"`
	Flood  *UnusualHour `json:"flood,omitempty"`
	// Mute is set while the feed is muted.
	Mute *FeedMute `json:"mute,omitempty"`
}

// UsualHour is what past hours at this time of this weekday have brought.
type UsualHour struct {
	// Begin is the hour that is compared with them, on BOBO's clock. Hours is how many past hours there are.
	Begin time.Time `json:"begin"`
	Hours int       `json:"hours"`
	// Least and Most are numbers of rows. GapSeconds is the 99th percentile of the longest times without a file.
	Least      int   `json:"least"`
	Most       int   `json:"most"`
	GapSeconds int64 `json:"gap_seconds"`
}

// UnusualHour is an hour that brought unusually few or many rows.
type UnusualHour struct {
	UsualHour
	Rows int `json:"rows"`
}
