module bobosync/cmd/athocsim

go 1.26.0

require (
	github.com/lmittmann/tint v1.2.1
	github.com/mattn/go-isatty v0.0.24
)

require golang.org/x/sys v0.28.0 // indirect
