package boborow_test

import (
	"fmt"
	"time"

	"bobosync/shared/boborow"
)

// A worker books on.
func Example() {
	row := boborow.New(true, "12345", time.Date(2024, 6, 17, 14, 30, 0, 0, time.UTC))
	row[boborow.Payroll], row[boborow.Accuracy] = "PAY001", "5.0"
	fmt.Println(row)
	fmt.Println(row.With(boborow.NoEmployee, time.Time{}))
	// Output:
	// BON,12345,PAY001,20240617,143000,20240617143000,1,,,5.0
	// BON,,PAY001,20240617,143000,20240617143000,1,,,5.0
}
