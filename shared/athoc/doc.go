// Package athoc is a client for the part of BlackBerry's AtHoc web API (v2) that this project uses: it gets an access
// token, searches users, and writes one date-and-time attribute, the duty status, of users that exist already.
//
// # What the client decides, and what it leaves to its caller
//
// The client never waits and never tries again, with one exception: a call that is answered 401 gets one new token and
// is repeated once. Every other failure goes to the caller at once as a [*CallError], whose [Kind] says what may be
// done about it. Rate limits, back-off, batch sizes and the stopping of retry storms belong to the caller.
//
// An answer of 200 to an update proves nothing: AtHoc reports on each user separately, so [Client.UpdateDutyStatus]
// returns one [Result] for each user that was asked for.
//
// # Safety rules that cannot be configured away
//
// An update is always sent with syncExistingUsersOnly=true, since AtHoc creates unknown users otherwise, and contains
// nothing but LOGIN_ID and the duty-status attribute, since AtHoc writes whatever else it finds. Redirects are not
// followed, so that credentials go to the configured host only. TLS is 1.2 or newer.
//
// # What may be logged
//
// Error texts and [Result.Detail] hold no token, secret or password, and no username of a worker: what the server said
// is quoted shortened and scrubbed. [Result.Username], [DutyStatus] and [User] are personal data.
//
// All facts about the API are from BlackBerry's public documentation of releases 7.9 to 7.19.
package athoc
