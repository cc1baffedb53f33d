package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"bobosync/shared/boborow"
)

// rowsOf returns the rows of bookings, oldest first as in an export, but sometimes in no order.
func (p *planner) rowsOf(some []booking) []string {
	some = slices.Clone(some)
	slices.SortFunc(some, byTime)

	if p.rng.IntN(4) == 0 {
		p.rng.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
	}

	rows := make([]string, len(some))
	for i, b := range some {
		rows[i] = p.row(b)
	}

	return rows
}

func (p *planner) row(b booking) string {
	employee := p.plan.workers[b.worker].employee
	switch p.rng.IntN(16) {
	case 0:
		employee = `"` + employee + `"`
	case 1:
		employee = " " + employee + " "
	}

	return p.private(boborow.New(b.on, employee, b.at)).String()
}

// private adds data that must not leave the machine: a payroll id, and where the worker stood.
func (p *planner) private(r boborow.Row) boborow.Row {
	r[boborow.Payroll] = fmt.Sprintf("PAY%07d", p.rng.IntN(10_000_000))
	if p.rng.IntN(12) == 0 {
		r[boborow.Payroll] = `"` + r[boborow.Payroll] + `, relief"`
	}

	r[boborow.Latitude] = fmt.Sprintf("52.%06d", 380_000+p.rng.IntN(200_000))
	r[boborow.Longitude] = fmt.Sprintf("-1.%06d", 700_000+p.rng.IntN(290_000))
	r[boborow.Accuracy] = fmt.Sprintf("%.1f", 3+p.rng.Float64()*20)

	return r
}

// badRow returns a row of a plain worker that must be rejected. If it were accepted, it would be that worker's latest
// booking.
func (p *planner) badRow(flaw boborow.Flaw) string {
	b := p.booking(p.some(1)[0], true, ageNewest, ageNewer)
	return p.private(boborow.New(true, p.plan.workers[b.worker].employee, b.at)).With(flaw, p.opts.now.Add(72*time.Hour))
}

// text joins rows to the text of a file, in one of the forms that occur in practice.
func (p *planner) text(rows []string) []byte {
	end, text := "\n", ""
	if p.rng.IntN(2) == 0 {
		end = "\r\n"
	}

	if p.rng.IntN(5) == 0 {
		text = "\ufeff"
	}

	if p.rng.IntN(3) > 0 {
		text += boborow.Header + end
	}

	for _, r := range rows {
		text += r + end
		if p.rng.IntN(40) == 0 {
			text += end
		}
	}

	if p.rng.IntN(4) == 0 {
		text = strings.TrimRight(text, "\r\n")
	}

	return []byte(text)
}
