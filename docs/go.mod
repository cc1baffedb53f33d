module bobosync/docs

go 1.26.0
