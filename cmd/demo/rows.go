package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const header = "Transaction_Type,Employee_ID,Payroll_ID,Clocking_Date,Clocking_Time,DateTime_Created,Geo_Status,Geo_Latitude,Geo_Longitude,Geo_Accuracy"

// Forms of dates and times in BOBO's files, as Go's time package writes them.
const (
	dateForm  = "20060102"
	clockForm = "150405"
)

// rowsOf writes bookings oldest first, as an export has them; some exports are in no order.
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
	transaction := "BOF"
	if b.on {
		transaction = "BON"
	}
	employee := p.plan.workers[b.worker].employee
	switch p.rng.IntN(16) {
	case 0:
		employee = `"` + employee + `"`
	case 1:
		employee = " " + employee + " "
	}
	date, clock := b.at.Format(dateForm), b.at.Format(clockForm)
	return p.join(transaction, employee, date, clock, date+clock)
}

// join adds the columns that must stay at home: a payroll id, and where the worker stood.
func (p *planner) join(transaction, employee, date, clock, created string) string {
	payroll := fmt.Sprintf("PAY%07d", p.rng.IntN(10_000_000))
	if p.rng.IntN(12) == 0 {
		payroll = `"` + payroll + `, relief"`
	}
	return strings.Join([]string{
		transaction, employee, payroll, date, clock, created, "1",
		fmt.Sprintf("52.%06d", 380_000+p.rng.IntN(200_000)),
		fmt.Sprintf("-1.%06d", 700_000+p.rng.IntN(290_000)),
		fmt.Sprintf("%.1f", 3+p.rng.Float64()*20),
	}, ",")
}

// Kinds of bad rows.
const (
	badColumns = iota
	badMoreColumns
	badType
	badEmployee
	badDate
	badTime
	badContradiction
	badFuture
	badText
	badKinds
)

// badRow is a row of a plain worker that must be rejected: it would be their latest booking if it were not.
func (p *planner) badRow(what int) string {
	b := p.booking(p.some(1)[0], true, ageNewest, ageNewer)
	employee := p.plan.workers[b.worker].employee
	date, clock := b.at.Format(dateForm), b.at.Format(clockForm)
	good := p.join("BON", employee, date, clock, date+clock)
	switch what {
	case badColumns:
		return good[:strings.LastIndexByte(good, ',')]
	case badMoreColumns:
		return good + ",0"
	case badType:
		return "BOO" + good[len("BON"):]
	case badEmployee:
		return p.join("BON", "", date, clock, date+clock)
	case badDate:
		return p.join("BON", employee, "20240230", clock, "20240230"+clock)
	case badTime:
		return p.join("BON", employee, date, "250000", date+"250000")
	case badContradiction:
		return p.join("BON", employee, date, clock, b.at.Add(time.Minute).Format(dateForm+clockForm))
	case badFuture:
		at := p.opts.now.Add(72 * time.Hour)
		return p.join("BON", employee, at.Format(dateForm), at.Format(clockForm), at.Format(dateForm+clockForm))
	default:
		return "--- connection to host lost ---"
	}
}

// text joins rows to a file, in one of the forms that are met.
func (p *planner) text(rows []string) []byte {
	end, text := "\n", ""
	if p.rng.IntN(2) == 0 {
		end = "\r\n"
	}
	if p.rng.IntN(5) == 0 {
		text = "\ufeff"
	}
	if p.rng.IntN(3) > 0 {
		text += header + end
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
