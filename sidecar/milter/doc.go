// Package milter answers Postfix and Sendmail as a mail filter (the milter protocol of
// Sendmail's libmilter), on emersion/go-milter. It owns the connections, with deadlines
// and a bound on their number. It asks an Asker for the verdicts. It tells the MTA the
// verdict, and emits events about clients that it cannot answer.
//
// The library is wrapped, because it has no deadlines, cannot be drained, forgets a
// connection after each message, and always speaks version 2 of the protocol:
//
//  1. Server.Serve admits a connection and registers it;
//  2. wire, the net.Conn that the library gets, checks each frame before the library sees
//     it, sets deadlines and answers in the version of the MTA (wire.go, frame.go);
//  3. session is the one handler of a connection, for all of its messages: at each RCPT
//     it asks whether there is room, and at the end of a message it charges (session.go).
//
// It does not ask for headers and bodies. If it cannot answer, it lets the mail pass or
// closes the connection, and the MTA then does what it is configured to do. Only the Asker
// refuses mail.
package milter
