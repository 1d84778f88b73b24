-- A session of an MTA, by Debian's miltertest: two messages on one connection, a limit
-- of 10, and an abort. miltertest ends with an error where an answer is another one.

conn = mt.connect(socket)
if conn == nil then
	error("connect to " .. socket)
end

local function want(what, code)
	if mt.getreply(conn) ~= code then
		error(what .. " was answered " .. tostring(mt.getreply(conn)))
	end
end

local function mail(id)
	mt.macro(conn, SMFIC_MAIL, "i", id, "{auth_type}", "PLAIN", "{auth_authen}", "news@lua.example")
	mt.mailfrom(conn, "<news@lua.example>")
	want("MAIL", SMFIR_CONTINUE)
end

local function rcpt(to, code)
	mt.rcptto(conn, "<" .. to .. ">")
	want("RCPT " .. to, code)
end

mt.conninfo(conn, "client.example", "192.0.2.17")
want("connect", SMFIR_CONTINUE)

-- aborted: counts nothing
mail("LUA1")
for n = 1, 9 do
	rcpt("u" .. n .. "@far.example", SMFIR_CONTINUE)
end
mt.abort(conn)

mail("LUA2")
for n = 1, 9 do
	rcpt("u" .. n .. "@far.example", SMFIR_CONTINUE)
end
rcpt("x@here.example", SMFIR_CONTINUE)
mt.eom(conn)
want("the end of the message", SMFIR_CONTINUE)

mail("LUA3")
rcpt("u10@far.example", SMFIR_CONTINUE)
rcpt("u11@far.example", SMFIR_REPLYCODE)
rcpt("x@here.example", SMFIR_CONTINUE)
mt.eom(conn)
want("the end of the message", SMFIR_CONTINUE)

mail("LUA4")
rcpt("u12@far.example", SMFIR_REPLYCODE)
mt.disconnect(conn)
