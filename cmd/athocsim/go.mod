module bobosync/cmd/athocsim

go 1.26.0
