package engine_test

import "testing"

// An attack that goes on over midnight is still one attack: what it sends is usual on neither day.
func TestAnAttackOverMidnight(t *testing.T) {
	for _, perMinute := range []int{1, 2, 5, 30, 500} {
		o := newOffice(t, 100, "")
		all := append([]rate{{"eve", 3}}, colleagues...)
		o.week(7, all...)
		o.run(10*60, all...) // from noon
		o.clear()
		o.run(7*60, append([]rate{{"eve", 60 * perMinute}}, colleagues...)...)
		t.Logf("%d/min: sent %v, refused %v, at most %d in an hour", perMinute, o.sent, o.refused, o.worst)
		if o.refusedOf(colleagues...) > 0 || o.worst > 100 {
			t.Errorf("%d a minute: colleagues are refused, or the limit is exceeded", perMinute)
		}
	}
}
