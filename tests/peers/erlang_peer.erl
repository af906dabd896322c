%% Sends each line of standard input as a message with gen_tcp and {packet, 4}, and closes at its end. An escript: PORT

main([Port]) ->
    Options = [binary, {packet, 4}, {active, false}],
    {ok, Socket} = gen_tcp:connect("127.0.0.1", list_to_integer(Port), Options),
    ok = io:setopts(standard_io, [binary]),
    ok = send_lines(Socket),
    ok = gen_tcp:close(Socket).

send_lines(Socket) ->
    case file:read_line(standard_io) of
        {ok, Line} ->
            ok = gen_tcp:send(Socket, string:trim(Line, trailing, "\n")),
            send_lines(Socket);
        eof ->
            ok
    end.
