// Package policyd answers mail servers over Postfix's policy delegation protocol
// (Postfix's SMTPD_POLICY_README): lines name=value, an empty line ends the request, the
// reply is action=... and an empty line, and more requests may follow on the connection.
// It owns the connections, with deadlines and bounds on memory and number, and the access
// lists of unix sockets (Permit). It asks an Asker for the verdict, and the kernel which
// user has connected; on TCP a question has a token in place of that (token.go). It tells the mail server
// the reply, and emits events about clients that it cannot answer.
//
// A question passes through
//
//  1. Server.accept: admission by the user that connected (peer.go), on TCP from the loopback, room for one more
//     connection (server.go);
//  2. Server.read: a whole request, in a buffer that exists only while it is needed
//     (reader.go);
//  3. Server.answer: the kind of request, its attributes (request.go), the Asker, the
//     reply (reply.go).
//
// A question that cannot be answered gets no reply: the connection is closed, and Exim
// goes on as if no server were there. Only the Asker refuses mail.
package policyd
