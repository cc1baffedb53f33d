package control

// ReadRequester and Signed determine what is known of an order's sender.
var (
	ReadRequester = readRequester
	Signed        = signed
)
