package queue

import "strings"

// names are texts that many messages share. Each is a number; "" is 0.
type names struct {
	texts   []string
	numbers map[string]uint32
}

func newNames() names { return names{[]string{""}, map[string]uint32{"": 0}} }

func (n *names) of(number uint32) string { return n.texts[number] }

func (n *names) add(text string) uint32 {
	number, known := n.numbers[text]
	if !known {
		text = strings.Clone(text) // it is a part of a header, or of the log
		number = uint32(len(n.texts))
		n.texts, n.numbers[text] = append(n.texts, text), number
	}
	return number
}

// compact forgets what no message has any more, once that may be most.
func (n *names) compact(messages map[key]message) {
	if len(n.texts) < 1000+2*len(messages) {
		return
	}
	kept := newNames()
	for k, m := range messages {
		for _, number := range [...]*uint32{&m.payer, &m.author, &m.sender, &m.to, &m.queue} {
			*number = kept.add(n.of(*number))
		}
		messages[k] = m
	}
	*n = kept
}
