package control

// ReadRequester and Signed are what is known of who gives an order.
var (
	ReadRequester = readRequester
	Signed        = signed
)
