module bobosync/services/resolver

go 1.26.0

require bobosync/shared v0.0.0

require (
	github.com/stretchr/testify v1.12.1 // indirect
	go.etcd.io/bbolt v1.5.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	pgregory.net/rapid v1.3.0 // indirect
)

replace bobosync/shared => ../../shared
