# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_postmapd_global_optspecs
    string join \n h/help V/version
end

function __fish_postmapd_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_postmapd_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_postmapd_using_subcommand
    set -l cmd (__fish_postmapd_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c postmapd -n "__fish_postmapd_needs_command" -s h -l help -d 'Print help'
complete -c postmapd -n "__fish_postmapd_needs_command" -s V -l version -d 'Print version'
complete -c postmapd -n "__fish_postmapd_needs_command" -f -a "serve" -d 'Serve the tables of a directory to Postfix, in the foreground'
complete -c postmapd -n "__fish_postmapd_needs_command" -f -a "status" -d 'Show the state of a running server and its files'
complete -c postmapd -n "__fish_postmapd_needs_command" -f -a "query" -d 'Look up keys in the tables, or on a running server'
complete -c postmapd -n "__fish_postmapd_needs_command" -f -a "check" -d 'Check tables, settings and environment, and report each problem with its fix'
complete -c postmapd -n "__fish_postmapd_needs_command" -f -a "relay" -d 'Add, change, remove and list relays and their credentials'
complete -c postmapd -n "__fish_postmapd_needs_command" -f -a "probe" -d 'Try the relays as Postfix would use them, without sending mail'
complete -c postmapd -n "__fish_postmapd_needs_command" -f -a "bench" -d 'Measure how fast a server answers under the load of many Postfix processes'
complete -c postmapd -n "__fish_postmapd_needs_command" -f -a "import" -d 'Convert the tables of an existing Postfix into files and settings that give the same answers'
complete -c postmapd -n "__fish_postmapd_needs_command" -f -a "postconf" -d 'Print the main.cf parameters for these settings, or check a live Postfix against them'
complete -c postmapd -n "__fish_postmapd_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l dir -d 'Directory of the table files, postfix-relaymap.cf and postfix-sasl-password.cf [env: POSTMAPD_DIR] [default: /etc/postmapd]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l config -d 'Settings file; see postmapd.toml(5) [env: POSTMAPD_CONFIG] [default: postmapd.toml in DIR, if it exists]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l recipient-delimiter -d 'Characters that separate an address from its extension; set it to the value of recipient_delimiter in main.cf [env: POSTMAPD_RECIPIENT_DELIMITER] [default: +]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l next-hops -d 'Source of the senders\' next hops: postmapd, or main.cf if postmapd serves only credentials. With postmapd, a sender without a next hop gets no credentials: the lookup finds nothing, or returns a temporary error if there is neither a relay map nor a default relay [env: POSTMAPD_NEXT_HOPS] [default: postmapd]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l listen -d 'Endpoint to listen on, written as in main.cf: socketmap:inet:HOST:PORT or socketmap:unix:PATH for every map, or tcp:HOST:PORT:MAP for one. Separate several with commas, repeat the flag, or write a list in the settings file [env: POSTMAPD_LISTEN] [default: socketmap:inet:127.0.0.1:10451]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l admin -d 'Address of the HTTP listener for health, status, metrics and a page for people: HOST:PORT or unix:PATH; see postmapd-status(1) [env: POSTMAPD_ADMIN] [default: disabled]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l allow-users -d 'Local users that can query sasl: names or IDs, separated by commas or, in the settings file, as a list. Other local users can query only relayhost [env: POSTMAPD_ALLOW_USERS] [default: root, postfix if that user exists, and the server\'s user]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l allow-networks -d 'Other hosts that can connect and query every map: addresses or networks (192.0.2.7, 192.0.2.0/24, 2001:db8::/32), separated by commas or, in the settings file, as a list. 127.0.0.0/8 lets every local user query sasl [env: POSTMAPD_ALLOW_NETWORKS] [default: none]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l socket-owner -d 'Owner of the UNIX sockets: a user name or ID [env: POSTMAPD_SOCKET_OWNER] [default: the server\'s user]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l socket-group -d 'Group of the UNIX sockets: a group name or ID [env: POSTMAPD_SOCKET_GROUP] [default: postfix, if that group exists and the server can assign it]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l socket-mode -d 'Mode of the UNIX sockets, an octal number; in the settings file, a string [env: POSTMAPD_SOCKET_MODE] [default: 0660]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l user -d 'User that the server switches to once its sockets are bound: a name or ID. The server must be started as root, and can still read files that only root can read [env: POSTMAPD_USER] [default: the user that starts the server]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l sandbox -d 'Restrict the server once its sockets are bound: no new privileges, no core dumps, no writing or executing of files, no outgoing TCP connections, and only the capabilities and system calls that it needs [env: POSTMAPD_SANDBOX] [default: on]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l reload-errors -d 'What a reload does with a table file that has an error: keep the last valid configuration until it is fixed, or apply the file as at the start, so that only the lookups that depend on the error get a temporary error (holes). holes is for a directory that a program generates from a source with many authors. In both cases, invalid settings, a file that cannot be read and a file without any readable entry change nothing [env: POSTMAPD_RELOAD_ERRORS] [default: keep]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l log -d 'Log level: off, error, warn, info, debug (includes the keys of lookups) or trace; for single modules, a list such as info,postmapd::source=debug [env: POSTMAPD_LOG] [default: info]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l log-format -d 'Format of the log [env: POSTMAPD_LOG_FORMAT] [default: journald if standard error is connected to the journal, else text]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -s h -l help -d 'Print help'
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -s V -l version -d 'Print version'
complete -c postmapd -n "__fish_postmapd_using_subcommand status" -l dir -d 'Directory of the table files, postfix-relaymap.cf and postfix-sasl-password.cf [env: POSTMAPD_DIR] [default: /etc/postmapd]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand status" -l config -d 'Settings file; see postmapd.toml(5) [env: POSTMAPD_CONFIG] [default: postmapd.toml in DIR, if it exists]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand status" -l recipient-delimiter -d 'Characters that separate an address from its extension; set it to the value of recipient_delimiter in main.cf [env: POSTMAPD_RECIPIENT_DELIMITER] [default: +]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand status" -l next-hops -d 'Source of the senders\' next hops: postmapd, or main.cf if postmapd serves only credentials. With postmapd, a sender without a next hop gets no credentials: the lookup finds nothing, or returns a temporary error if there is neither a relay map nor a default relay [env: POSTMAPD_NEXT_HOPS] [default: postmapd]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand status" -l admin -d 'The server\'s admin listener, HOST:PORT or unix:PATH [env: POSTMAPD_ADMIN] [default: 127.0.0.1:9451]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand status" -l format -d 'The output format' -r -f -a "text\t'Text for people'
json\t'JSON for programs'"
complete -c postmapd -n "__fish_postmapd_using_subcommand status" -l alive -d 'Check only whether the server answers lookups, and print nothing if it does: for health checks'
complete -c postmapd -n "__fish_postmapd_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c postmapd -n "__fish_postmapd_using_subcommand status" -s V -l version -d 'Print version'
complete -c postmapd -n "__fish_postmapd_using_subcommand query" -l dir -d 'Directory of the table files, postfix-relaymap.cf and postfix-sasl-password.cf [env: POSTMAPD_DIR] [default: /etc/postmapd]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand query" -l config -d 'Settings file; see postmapd.toml(5) [env: POSTMAPD_CONFIG] [default: postmapd.toml in DIR, if it exists]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand query" -l recipient-delimiter -d 'Characters that separate an address from its extension; set it to the value of recipient_delimiter in main.cf [env: POSTMAPD_RECIPIENT_DELIMITER] [default: +]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand query" -l next-hops -d 'Source of the senders\' next hops: postmapd, or main.cf if postmapd serves only credentials. With postmapd, a sender without a next hop gets no credentials: the lookup finds nothing, or returns a temporary error if there is neither a relay map nor a default relay [env: POSTMAPD_NEXT_HOPS] [default: postmapd]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand query" -l server -d 'Query a running server, named as in main.cf: socketmap:inet:HOST:PORT, socketmap:unix:PATH or tcp:HOST:PORT' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand query" -l admin -d 'Ask a running server for the explanation: the address of its admin listener, HOST:PORT or unix:PATH' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand query" -l format -d 'Output format of --explain; json prints one object per line' -r -f -a "text\t'Text for people'
json\t'JSON for programs'"
complete -c postmapd -n "__fish_postmapd_using_subcommand query" -l explain -d 'Print which keys were tried, what answered and why, and what Postfix does next; never a password'
complete -c postmapd -n "__fish_postmapd_using_subcommand query" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c postmapd -n "__fish_postmapd_using_subcommand query" -s V -l version -d 'Print version'
complete -c postmapd -n "__fish_postmapd_using_subcommand check" -l dir -d 'Directory of the table files, postfix-relaymap.cf and postfix-sasl-password.cf [env: POSTMAPD_DIR] [default: /etc/postmapd]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand check" -l config -d 'Settings file; see postmapd.toml(5) [env: POSTMAPD_CONFIG] [default: postmapd.toml in DIR, if it exists]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand check" -l recipient-delimiter -d 'Characters that separate an address from its extension; set it to the value of recipient_delimiter in main.cf [env: POSTMAPD_RECIPIENT_DELIMITER] [default: +]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand check" -l next-hops -d 'Source of the senders\' next hops: postmapd, or main.cf if postmapd serves only credentials. With postmapd, a sender without a next hop gets no credentials: the lookup finds nothing, or returns a temporary error if there is neither a relay map nor a default relay [env: POSTMAPD_NEXT_HOPS] [default: postmapd]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand check" -s c -d 'Postfix\'s configuration directory, as for postconf -c; if it has a main.cf, its relayhost is checked [default: $MAIL_CONFIG or /etc/postfix]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand check" -l admin -d 'The server\'s admin listener, HOST:PORT or unix:PATH [env: POSTMAPD_ADMIN] [default: 127.0.0.1:9451]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand check" -l format -d 'Output format' -r -f -a "text\t'Text for people'
json\t'JSON for programs'"
complete -c postmapd -n "__fish_postmapd_using_subcommand check" -l strict -d 'Exit with 1 if there are warnings'
complete -c postmapd -n "__fish_postmapd_using_subcommand check" -l dns -d 'Resolve the host of every next hop'
complete -c postmapd -n "__fish_postmapd_using_subcommand check" -l against-server -d 'Show also what these files would change in the running server: see below'
complete -c postmapd -n "__fish_postmapd_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c postmapd -n "__fish_postmapd_using_subcommand check" -s V -l version -d 'Print version'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and not __fish_seen_subcommand_from add-domain add-auth exclude-domain remove-domain remove-auth disable enable set-tls remove-tls list help" -l dir -d 'Directory of the table files, postfix-relaymap.cf and postfix-sasl-password.cf [env: POSTMAPD_DIR] [default: /etc/postmapd]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and not __fish_seen_subcommand_from add-domain add-auth exclude-domain remove-domain remove-auth disable enable set-tls remove-tls list help" -l config -d 'Settings file; see postmapd.toml(5) [env: POSTMAPD_CONFIG] [default: postmapd.toml in DIR, if it exists]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and not __fish_seen_subcommand_from add-domain add-auth exclude-domain remove-domain remove-auth disable enable set-tls remove-tls list help" -l recipient-delimiter -d 'Characters that separate an address from its extension; set it to the value of recipient_delimiter in main.cf [env: POSTMAPD_RECIPIENT_DELIMITER] [default: +]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and not __fish_seen_subcommand_from add-domain add-auth exclude-domain remove-domain remove-auth disable enable set-tls remove-tls list help" -l next-hops -d 'Source of the senders\' next hops: postmapd, or main.cf if postmapd serves only credentials. With postmapd, a sender without a next hop gets no credentials: the lookup finds nothing, or returns a temporary error if there is neither a relay map nor a default relay [env: POSTMAPD_NEXT_HOPS] [default: postmapd]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and not __fish_seen_subcommand_from add-domain add-auth exclude-domain remove-domain remove-auth disable enable set-tls remove-tls list help" -s h -l help -d 'Print help'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and not __fish_seen_subcommand_from add-domain add-auth exclude-domain remove-domain remove-auth disable enable set-tls remove-tls list help" -s V -l version -d 'Print version'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and not __fish_seen_subcommand_from add-domain add-auth exclude-domain remove-domain remove-auth disable enable set-tls remove-tls list help" -f -a "add-domain" -d 'Send the mail of a domain or of one sender through a relay'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and not __fish_seen_subcommand_from add-domain add-auth exclude-domain remove-domain remove-auth disable enable set-tls remove-tls list help" -f -a "add-auth" -d 'Store the credentials of a domain, of one sender or of a next hop'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and not __fish_seen_subcommand_from add-domain add-auth exclude-domain remove-domain remove-auth disable enable set-tls remove-tls list help" -f -a "exclude-domain" -d 'Deliver the mail of a domain or of one sender directly, regardless of the default relay'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and not __fish_seen_subcommand_from add-domain add-auth exclude-domain remove-domain remove-auth disable enable set-tls remove-tls list help" -f -a "remove-domain" -d 'Remove the relay map entry of a domain or of one sender; the default relay applies again'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and not __fish_seen_subcommand_from add-domain add-auth exclude-domain remove-domain remove-auth disable enable set-tls remove-tls list help" -f -a "remove-auth" -d 'Remove the credentials of a domain, of one sender or of a next hop'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and not __fish_seen_subcommand_from add-domain add-auth exclude-domain remove-domain remove-auth disable enable set-tls remove-tls list help" -f -a "disable" -d 'Turn the entries of a sender, a domain or a next hop into comments, to enable them again later'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and not __fish_seen_subcommand_from add-domain add-auth exclude-domain remove-domain remove-auth disable enable set-tls remove-tls list help" -f -a "enable" -d 'Turn the comments of a disabled key into its entries again'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and not __fish_seen_subcommand_from add-domain add-auth exclude-domain remove-domain remove-auth disable enable set-tls remove-tls list help" -f -a "set-tls" -d 'Set how Postfix speaks TLS to a next hop'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and not __fish_seen_subcommand_from add-domain add-auth exclude-domain remove-domain remove-auth disable enable set-tls remove-tls list help" -f -a "remove-tls" -d 'Remove the TLS entry of a next hop; the default for its port and host applies again'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and not __fish_seen_subcommand_from add-domain add-auth exclude-domain remove-domain remove-auth disable enable set-tls remove-tls list help" -f -a "list" -d 'List every sender with an entry, its next hop, its TLS and its user, but no password'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and not __fish_seen_subcommand_from add-domain add-auth exclude-domain remove-domain remove-auth disable enable set-tls remove-tls list help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from add-domain" -l wait -d 'Wait until the edit is active in the running server, for at most SECONDS; the default is 30' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from add-domain" -l admin -d 'The server\'s admin listener, HOST:PORT or unix:PATH [env: POSTMAPD_ADMIN] [default: 127.0.0.1:9451]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from add-domain" -l dir -d 'Directory of the table files, postfix-relaymap.cf and postfix-sasl-password.cf [env: POSTMAPD_DIR] [default: /etc/postmapd]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from add-domain" -l config -d 'Settings file; see postmapd.toml(5) [env: POSTMAPD_CONFIG] [default: postmapd.toml in DIR, if it exists]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from add-domain" -l recipient-delimiter -d 'Characters that separate an address from its extension; set it to the value of recipient_delimiter in main.cf [env: POSTMAPD_RECIPIENT_DELIMITER] [default: +]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from add-domain" -l next-hops -d 'Source of the senders\' next hops: postmapd, or main.cf if postmapd serves only credentials. With postmapd, a sender without a next hop gets no credentials: the lookup finds nothing, or returns a temporary error if there is neither a relay map nor a default relay [env: POSTMAPD_NEXT_HOPS] [default: postmapd]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from add-domain" -s h -l help -d 'Print help'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from add-domain" -s V -l version -d 'Print version'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from add-auth" -l wait -d 'Wait until the edit is active in the running server, for at most SECONDS; the default is 30' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from add-auth" -l admin -d 'The server\'s admin listener, HOST:PORT or unix:PATH [env: POSTMAPD_ADMIN] [default: 127.0.0.1:9451]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from add-auth" -l dir -d 'Directory of the table files, postfix-relaymap.cf and postfix-sasl-password.cf [env: POSTMAPD_DIR] [default: /etc/postmapd]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from add-auth" -l config -d 'Settings file; see postmapd.toml(5) [env: POSTMAPD_CONFIG] [default: postmapd.toml in DIR, if it exists]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from add-auth" -l recipient-delimiter -d 'Characters that separate an address from its extension; set it to the value of recipient_delimiter in main.cf [env: POSTMAPD_RECIPIENT_DELIMITER] [default: +]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from add-auth" -l next-hops -d 'Source of the senders\' next hops: postmapd, or main.cf if postmapd serves only credentials. With postmapd, a sender without a next hop gets no credentials: the lookup finds nothing, or returns a temporary error if there is neither a relay map nor a default relay [env: POSTMAPD_NEXT_HOPS] [default: postmapd]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from add-auth" -l password-stdin -d 'Read the password from standard input (one line)'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from add-auth" -l next-hop -d 'DOMAIN is a host or a next hop, and is used unchanged'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from add-auth" -s h -l help -d 'Print help'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from add-auth" -s V -l version -d 'Print version'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from exclude-domain" -l wait -d 'Wait until the edit is active in the running server, for at most SECONDS; the default is 30' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from exclude-domain" -l admin -d 'The server\'s admin listener, HOST:PORT or unix:PATH [env: POSTMAPD_ADMIN] [default: 127.0.0.1:9451]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from exclude-domain" -l dir -d 'Directory of the table files, postfix-relaymap.cf and postfix-sasl-password.cf [env: POSTMAPD_DIR] [default: /etc/postmapd]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from exclude-domain" -l config -d 'Settings file; see postmapd.toml(5) [env: POSTMAPD_CONFIG] [default: postmapd.toml in DIR, if it exists]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from exclude-domain" -l recipient-delimiter -d 'Characters that separate an address from its extension; set it to the value of recipient_delimiter in main.cf [env: POSTMAPD_RECIPIENT_DELIMITER] [default: +]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from exclude-domain" -l next-hops -d 'Source of the senders\' next hops: postmapd, or main.cf if postmapd serves only credentials. With postmapd, a sender without a next hop gets no credentials: the lookup finds nothing, or returns a temporary error if there is neither a relay map nor a default relay [env: POSTMAPD_NEXT_HOPS] [default: postmapd]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from exclude-domain" -s h -l help -d 'Print help'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from exclude-domain" -s V -l version -d 'Print version'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-domain" -l wait -d 'Wait until the edit is active in the running server, for at most SECONDS; the default is 30' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-domain" -l admin -d 'The server\'s admin listener, HOST:PORT or unix:PATH [env: POSTMAPD_ADMIN] [default: 127.0.0.1:9451]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-domain" -l dir -d 'Directory of the table files, postfix-relaymap.cf and postfix-sasl-password.cf [env: POSTMAPD_DIR] [default: /etc/postmapd]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-domain" -l config -d 'Settings file; see postmapd.toml(5) [env: POSTMAPD_CONFIG] [default: postmapd.toml in DIR, if it exists]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-domain" -l recipient-delimiter -d 'Characters that separate an address from its extension; set it to the value of recipient_delimiter in main.cf [env: POSTMAPD_RECIPIENT_DELIMITER] [default: +]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-domain" -l next-hops -d 'Source of the senders\' next hops: postmapd, or main.cf if postmapd serves only credentials. With postmapd, a sender without a next hop gets no credentials: the lookup finds nothing, or returns a temporary error if there is neither a relay map nor a default relay [env: POSTMAPD_NEXT_HOPS] [default: postmapd]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-domain" -s h -l help -d 'Print help'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-domain" -s V -l version -d 'Print version'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-auth" -l wait -d 'Wait until the edit is active in the running server, for at most SECONDS; the default is 30' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-auth" -l admin -d 'The server\'s admin listener, HOST:PORT or unix:PATH [env: POSTMAPD_ADMIN] [default: 127.0.0.1:9451]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-auth" -l dir -d 'Directory of the table files, postfix-relaymap.cf and postfix-sasl-password.cf [env: POSTMAPD_DIR] [default: /etc/postmapd]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-auth" -l config -d 'Settings file; see postmapd.toml(5) [env: POSTMAPD_CONFIG] [default: postmapd.toml in DIR, if it exists]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-auth" -l recipient-delimiter -d 'Characters that separate an address from its extension; set it to the value of recipient_delimiter in main.cf [env: POSTMAPD_RECIPIENT_DELIMITER] [default: +]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-auth" -l next-hops -d 'Source of the senders\' next hops: postmapd, or main.cf if postmapd serves only credentials. With postmapd, a sender without a next hop gets no credentials: the lookup finds nothing, or returns a temporary error if there is neither a relay map nor a default relay [env: POSTMAPD_NEXT_HOPS] [default: postmapd]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-auth" -l next-hop -d 'DOMAIN is a host or a next hop, and is used unchanged'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-auth" -s h -l help -d 'Print help'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-auth" -s V -l version -d 'Print version'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from disable" -l reason -d 'Why, for people: without `|` and line ends; relay list shows it' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from disable" -l wait -d 'Wait until the edit is active in the running server, for at most SECONDS; the default is 30' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from disable" -l admin -d 'The server\'s admin listener, HOST:PORT or unix:PATH [env: POSTMAPD_ADMIN] [default: 127.0.0.1:9451]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from disable" -l dir -d 'Directory of the table files, postfix-relaymap.cf and postfix-sasl-password.cf [env: POSTMAPD_DIR] [default: /etc/postmapd]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from disable" -l config -d 'Settings file; see postmapd.toml(5) [env: POSTMAPD_CONFIG] [default: postmapd.toml in DIR, if it exists]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from disable" -l recipient-delimiter -d 'Characters that separate an address from its extension; set it to the value of recipient_delimiter in main.cf [env: POSTMAPD_RECIPIENT_DELIMITER] [default: +]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from disable" -l next-hops -d 'Source of the senders\' next hops: postmapd, or main.cf if postmapd serves only credentials. With postmapd, a sender without a next hop gets no credentials: the lookup finds nothing, or returns a temporary error if there is neither a relay map nor a default relay [env: POSTMAPD_NEXT_HOPS] [default: postmapd]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from disable" -l next-hop -d 'KEY is a host or a next hop, and is used unchanged'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from disable" -s h -l help -d 'Print help'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from disable" -s V -l version -d 'Print version'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from enable" -l wait -d 'Wait until the edit is active in the running server, for at most SECONDS; the default is 30' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from enable" -l admin -d 'The server\'s admin listener, HOST:PORT or unix:PATH [env: POSTMAPD_ADMIN] [default: 127.0.0.1:9451]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from enable" -l dir -d 'Directory of the table files, postfix-relaymap.cf and postfix-sasl-password.cf [env: POSTMAPD_DIR] [default: /etc/postmapd]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from enable" -l config -d 'Settings file; see postmapd.toml(5) [env: POSTMAPD_CONFIG] [default: postmapd.toml in DIR, if it exists]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from enable" -l recipient-delimiter -d 'Characters that separate an address from its extension; set it to the value of recipient_delimiter in main.cf [env: POSTMAPD_RECIPIENT_DELIMITER] [default: +]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from enable" -l next-hops -d 'Source of the senders\' next hops: postmapd, or main.cf if postmapd serves only credentials. With postmapd, a sender without a next hop gets no credentials: the lookup finds nothing, or returns a temporary error if there is neither a relay map nor a default relay [env: POSTMAPD_NEXT_HOPS] [default: postmapd]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from enable" -l next-hop -d 'KEY is a host or a next hop, and is used unchanged'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from enable" -s h -l help -d 'Print help'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from enable" -s V -l version -d 'Print version'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from set-tls" -l wait -d 'Wait until the edit is active in the running server, for at most SECONDS; the default is 30' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from set-tls" -l admin -d 'The server\'s admin listener, HOST:PORT or unix:PATH [env: POSTMAPD_ADMIN] [default: 127.0.0.1:9451]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from set-tls" -l dir -d 'Directory of the table files, postfix-relaymap.cf and postfix-sasl-password.cf [env: POSTMAPD_DIR] [default: /etc/postmapd]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from set-tls" -l config -d 'Settings file; see postmapd.toml(5) [env: POSTMAPD_CONFIG] [default: postmapd.toml in DIR, if it exists]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from set-tls" -l recipient-delimiter -d 'Characters that separate an address from its extension; set it to the value of recipient_delimiter in main.cf [env: POSTMAPD_RECIPIENT_DELIMITER] [default: +]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from set-tls" -l next-hops -d 'Source of the senders\' next hops: postmapd, or main.cf if postmapd serves only credentials. With postmapd, a sender without a next hop gets no credentials: the lookup finds nothing, or returns a temporary error if there is neither a relay map nor a default relay [env: POSTMAPD_NEXT_HOPS] [default: postmapd]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from set-tls" -s h -l help -d 'Print help'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from set-tls" -s V -l version -d 'Print version'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-tls" -l wait -d 'Wait until the edit is active in the running server, for at most SECONDS; the default is 30' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-tls" -l admin -d 'The server\'s admin listener, HOST:PORT or unix:PATH [env: POSTMAPD_ADMIN] [default: 127.0.0.1:9451]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-tls" -l dir -d 'Directory of the table files, postfix-relaymap.cf and postfix-sasl-password.cf [env: POSTMAPD_DIR] [default: /etc/postmapd]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-tls" -l config -d 'Settings file; see postmapd.toml(5) [env: POSTMAPD_CONFIG] [default: postmapd.toml in DIR, if it exists]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-tls" -l recipient-delimiter -d 'Characters that separate an address from its extension; set it to the value of recipient_delimiter in main.cf [env: POSTMAPD_RECIPIENT_DELIMITER] [default: +]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-tls" -l next-hops -d 'Source of the senders\' next hops: postmapd, or main.cf if postmapd serves only credentials. With postmapd, a sender without a next hop gets no credentials: the lookup finds nothing, or returns a temporary error if there is neither a relay map nor a default relay [env: POSTMAPD_NEXT_HOPS] [default: postmapd]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-tls" -s h -l help -d 'Print help'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from remove-tls" -s V -l version -d 'Print version'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from list" -l format -d 'Output format' -r -f -a "text\t'Text for people'
json\t'JSON for programs'"
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from list" -l dir -d 'Directory of the table files, postfix-relaymap.cf and postfix-sasl-password.cf [env: POSTMAPD_DIR] [default: /etc/postmapd]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from list" -l config -d 'Settings file; see postmapd.toml(5) [env: POSTMAPD_CONFIG] [default: postmapd.toml in DIR, if it exists]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from list" -l recipient-delimiter -d 'Characters that separate an address from its extension; set it to the value of recipient_delimiter in main.cf [env: POSTMAPD_RECIPIENT_DELIMITER] [default: +]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from list" -l next-hops -d 'Source of the senders\' next hops: postmapd, or main.cf if postmapd serves only credentials. With postmapd, a sender without a next hop gets no credentials: the lookup finds nothing, or returns a temporary error if there is neither a relay map nor a default relay [env: POSTMAPD_NEXT_HOPS] [default: postmapd]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from help" -f -a "add-domain" -d 'Send the mail of a domain or of one sender through a relay'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from help" -f -a "add-auth" -d 'Store the credentials of a domain, of one sender or of a next hop'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from help" -f -a "exclude-domain" -d 'Deliver the mail of a domain or of one sender directly, regardless of the default relay'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from help" -f -a "remove-domain" -d 'Remove the relay map entry of a domain or of one sender; the default relay applies again'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from help" -f -a "remove-auth" -d 'Remove the credentials of a domain, of one sender or of a next hop'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from help" -f -a "disable" -d 'Turn the entries of a sender, a domain or a next hop into comments, to enable them again later'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from help" -f -a "enable" -d 'Turn the comments of a disabled key into its entries again'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from help" -f -a "set-tls" -d 'Set how Postfix speaks TLS to a next hop'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from help" -f -a "remove-tls" -d 'Remove the TLS entry of a next hop; the default for its port and host applies again'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from help" -f -a "list" -d 'List every sender with an entry, its next hop, its TLS and its user, but no password'
complete -c postmapd -n "__fish_postmapd_using_subcommand relay; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c postmapd -n "__fish_postmapd_using_subcommand probe" -l dir -d 'Directory of the table files, postfix-relaymap.cf and postfix-sasl-password.cf [env: POSTMAPD_DIR] [default: /etc/postmapd]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand probe" -l config -d 'Settings file; see postmapd.toml(5) [env: POSTMAPD_CONFIG] [default: postmapd.toml in DIR, if it exists]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand probe" -l recipient-delimiter -d 'Characters that separate an address from its extension; set it to the value of recipient_delimiter in main.cf [env: POSTMAPD_RECIPIENT_DELIMITER] [default: +]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand probe" -l next-hops -d 'Source of the senders\' next hops: postmapd, or main.cf if postmapd serves only credentials. With postmapd, a sender without a next hop gets no credentials: the lookup finds nothing, or returns a temporary error if there is neither a relay map nor a default relay [env: POSTMAPD_NEXT_HOPS] [default: postmapd]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand probe" -l next-hop -d 'Try one next hop, with the login for its host or for itself' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand probe" -l ca -d 'Trust the certificate authorities of this PEM file, as smtp_tls_CAfile, in place of those of the system (or of the variables SSL_CERT_FILE and SSL_CERT_DIR)' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand probe" -l timeout -d 'Time limit in seconds for a relay with all its servers, DNS included (1 to 600)' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand probe" -l format -d 'Output format' -r -f -a "text\t'Text for people'
json\t'JSON for programs'"
complete -c postmapd -n "__fish_postmapd_using_subcommand probe" -l all -d 'Try the relays of all senders and the default relay, each relay once for each login'
complete -c postmapd -n "__fish_postmapd_using_subcommand probe" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c postmapd -n "__fish_postmapd_using_subcommand probe" -s V -l version -d 'Print version'
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -l connections -d 'Numbers of connections, measured one after the other [default: 1,2,4,8,16,32; with --rate or --compare: 16]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -l rate -d 'Number of requests per second, due at fixed times [default: as many as the server answers]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -l pipeline -d 'Number of requests in flight on each connection; Postfix has one' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -l duration -d 'Duration of each run, such as 500ms, 10s or 2m [default: 3s without --count]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -l count -d 'Number of requests in each run [default: no limit]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -l warm-up -d 'Duration of the warm-up before each run, which is not measured' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -l timeout -d 'Time to wait for a connection or a reply; Postfix waits 100 seconds' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -l keys -d 'File with the keys, one a line; - is standard input; not with --hits' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -l hits -d 'Share of keys that are found, from 0 to 1; the others are senders without an entry; needs --dir, not with --keys' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -l distinct -d 'Maximum number of keys from the tables' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -l seed -d 'Seed of the random choice of keys' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -l dir -d 'Directory of the table files, postfix-relaymap.cf and postfix-sasl-password.cf [env: POSTMAPD_DIR] [default: /etc/postmapd]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -l config -d 'Settings file; see postmapd.toml(5) [env: POSTMAPD_CONFIG] [default: postmapd.toml in DIR, if it exists]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -l recipient-delimiter -d 'Characters that separate an address from its extension; set it to the value of recipient_delimiter in main.cf [env: POSTMAPD_RECIPIENT_DELIMITER] [default: +]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -l next-hops -d 'Source of the senders\' next hops: postmapd, or main.cf if postmapd serves only credentials. With postmapd, a sender without a next hop gets no credentials: the lookup finds nothing, or returns a temporary error if there is neither a relay map nor a default relay [env: POSTMAPD_NEXT_HOPS] [default: postmapd]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -l pid -d 'Process IDs of the server, to report its processor time and that of its child processes' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -l compare -d 'Second server, measured in alternation; the report has the ratios and their spread over the rounds' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -l compare-pid -d 'Process IDs of the second server' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -l rounds -d 'Number of runs of each of the two servers, for each number of connections [default: 5]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -l format -d 'The output format' -r -f -a "text\t'For people'
json\t'For machines'
csv\t'For machines, one line for each run'"
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -l plot -d 'SVG file for a plot of the result; its name must end in .svg' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -l hdr -d 'File for the latency distribution in the percentile format of HdrHistogram, in microseconds; for several numbers of connections or two servers, one file for each: for example latency-16.hgrm, latency-a-16.hgrm' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -l no-verify -d 'Take keys from the directory, but do not compare the replies with it'
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c postmapd -n "__fish_postmapd_using_subcommand bench" -s V -l version -d 'Print version'
complete -c postmapd -n "__fish_postmapd_using_subcommand import" -l dir -d 'Directory of the table files, postfix-relaymap.cf and postfix-sasl-password.cf [env: POSTMAPD_DIR] [default: /etc/postmapd]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand import" -l config -d 'Settings file; see postmapd.toml(5) [env: POSTMAPD_CONFIG] [default: postmapd.toml in DIR, if it exists]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand import" -l recipient-delimiter -d 'Characters that separate an address from its extension; set it to the value of recipient_delimiter in main.cf [env: POSTMAPD_RECIPIENT_DELIMITER] [default: +]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand import" -l next-hops -d 'Source of the senders\' next hops: postmapd, or main.cf if postmapd serves only credentials. With postmapd, a sender without a next hop gets no credentials: the lookup finds nothing, or returns a temporary error if there is neither a relay map nor a default relay [env: POSTMAPD_NEXT_HOPS] [default: postmapd]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand import" -s c -d 'Postfix\'s configuration directory, as in postconf -c' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand import" -l dry-run -d 'Show what would change, with passwords masked, and write nothing'
complete -c postmapd -n "__fish_postmapd_using_subcommand import" -l force -d 'Replace files that already have entries'
complete -c postmapd -n "__fish_postmapd_using_subcommand import" -s h -l help -d 'Print help'
complete -c postmapd -n "__fish_postmapd_using_subcommand import" -s V -l version -d 'Print version'
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -l dir -d 'Directory of the table files, postfix-relaymap.cf and postfix-sasl-password.cf [env: POSTMAPD_DIR] [default: /etc/postmapd]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -l config -d 'Settings file; see postmapd.toml(5) [env: POSTMAPD_CONFIG] [default: postmapd.toml in DIR, if it exists]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -l recipient-delimiter -d 'Characters that separate an address from its extension; set it to the value of recipient_delimiter in main.cf [env: POSTMAPD_RECIPIENT_DELIMITER] [default: +]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -l next-hops -d 'Source of the senders\' next hops: postmapd, or main.cf if postmapd serves only credentials. With postmapd, a sender without a next hop gets no credentials: the lookup finds nothing, or returns a temporary error if there is neither a relay map nor a default relay [env: POSTMAPD_NEXT_HOPS] [default: postmapd]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -l listen -d 'Endpoint to listen on, written as in main.cf: socketmap:inet:HOST:PORT or socketmap:unix:PATH for every map, or tcp:HOST:PORT:MAP for one. Separate several with commas, repeat the flag, or write a list in the settings file [env: POSTMAPD_LISTEN] [default: socketmap:inet:127.0.0.1:10451]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -l admin -d 'Address of the HTTP listener for health, status, metrics and a page for people: HOST:PORT or unix:PATH; see postmapd-status(1) [env: POSTMAPD_ADMIN] [default: disabled]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -l allow-users -d 'Local users that can query sasl: names or IDs, separated by commas or, in the settings file, as a list. Other local users can query only relayhost [env: POSTMAPD_ALLOW_USERS] [default: root, postfix if that user exists, and the server\'s user]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -l allow-networks -d 'Other hosts that can connect and query every map: addresses or networks (192.0.2.7, 192.0.2.0/24, 2001:db8::/32), separated by commas or, in the settings file, as a list. 127.0.0.0/8 lets every local user query sasl [env: POSTMAPD_ALLOW_NETWORKS] [default: none]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -l socket-owner -d 'Owner of the UNIX sockets: a user name or ID [env: POSTMAPD_SOCKET_OWNER] [default: the server\'s user]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -l socket-group -d 'Group of the UNIX sockets: a group name or ID [env: POSTMAPD_SOCKET_GROUP] [default: postfix, if that group exists and the server can assign it]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -l socket-mode -d 'Mode of the UNIX sockets, an octal number; in the settings file, a string [env: POSTMAPD_SOCKET_MODE] [default: 0660]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -l user -d 'User that the server switches to once its sockets are bound: a name or ID. The server must be started as root, and can still read files that only root can read [env: POSTMAPD_USER] [default: the user that starts the server]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -l sandbox -d 'Restrict the server once its sockets are bound: no new privileges, no core dumps, no writing or executing of files, no outgoing TCP connections, and only the capabilities and system calls that it needs [env: POSTMAPD_SANDBOX] [default: on]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -l reload-errors -d 'What a reload does with a table file that has an error: keep the last valid configuration until it is fixed, or apply the file as at the start, so that only the lookups that depend on the error get a temporary error (holes). holes is for a directory that a program generates from a source with many authors. In both cases, invalid settings, a file that cannot be read and a file without any readable entry change nothing [env: POSTMAPD_RELOAD_ERRORS] [default: keep]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -l server -d 'The server\'s endpoint as Postfix reaches it, if that differs from --listen (another container, port 0); can be repeated' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -s c -d 'Postfix\'s configuration directory, as in postconf -c' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -l docker-mailserver -d 'Print docker-mailserver\'s override files instead: main (postfix-main.cf), master (postfix-master.cf), or both' -r -f -a "main\t''
master\t''
both\t''"
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -l format -d 'The output format of --check' -r -f -a "text\t'Text for people'
json\t'JSON for programs'"
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -l commands -d 'Print shell commands instead of lines'
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -l services -d 'Print the form with services of master.cf for relays, which implicit TLS (port 465) needs'
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -l check -d 'Check an installed Postfix, and report everything that defeats postmapd or leaks a password'
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -l strict -d 'Exit with 1 for warnings too'
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c postmapd -n "__fish_postmapd_using_subcommand postconf" -s V -l version -d 'Print version'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and not __fish_seen_subcommand_from serve status query check relay probe bench import postconf help" -f -a "serve" -d 'Serve the tables of a directory to Postfix, in the foreground'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and not __fish_seen_subcommand_from serve status query check relay probe bench import postconf help" -f -a "status" -d 'Show the state of a running server and its files'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and not __fish_seen_subcommand_from serve status query check relay probe bench import postconf help" -f -a "query" -d 'Look up keys in the tables, or on a running server'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and not __fish_seen_subcommand_from serve status query check relay probe bench import postconf help" -f -a "check" -d 'Check tables, settings and environment, and report each problem with its fix'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and not __fish_seen_subcommand_from serve status query check relay probe bench import postconf help" -f -a "relay" -d 'Add, change, remove and list relays and their credentials'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and not __fish_seen_subcommand_from serve status query check relay probe bench import postconf help" -f -a "probe" -d 'Try the relays as Postfix would use them, without sending mail'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and not __fish_seen_subcommand_from serve status query check relay probe bench import postconf help" -f -a "bench" -d 'Measure how fast a server answers under the load of many Postfix processes'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and not __fish_seen_subcommand_from serve status query check relay probe bench import postconf help" -f -a "import" -d 'Convert the tables of an existing Postfix into files and settings that give the same answers'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and not __fish_seen_subcommand_from serve status query check relay probe bench import postconf help" -f -a "postconf" -d 'Print the main.cf parameters for these settings, or check a live Postfix against them'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and not __fish_seen_subcommand_from serve status query check relay probe bench import postconf help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and __fish_seen_subcommand_from relay" -f -a "add-domain" -d 'Send the mail of a domain or of one sender through a relay'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and __fish_seen_subcommand_from relay" -f -a "add-auth" -d 'Store the credentials of a domain, of one sender or of a next hop'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and __fish_seen_subcommand_from relay" -f -a "exclude-domain" -d 'Deliver the mail of a domain or of one sender directly, regardless of the default relay'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and __fish_seen_subcommand_from relay" -f -a "remove-domain" -d 'Remove the relay map entry of a domain or of one sender; the default relay applies again'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and __fish_seen_subcommand_from relay" -f -a "remove-auth" -d 'Remove the credentials of a domain, of one sender or of a next hop'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and __fish_seen_subcommand_from relay" -f -a "disable" -d 'Turn the entries of a sender, a domain or a next hop into comments, to enable them again later'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and __fish_seen_subcommand_from relay" -f -a "enable" -d 'Turn the comments of a disabled key into its entries again'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and __fish_seen_subcommand_from relay" -f -a "set-tls" -d 'Set how Postfix speaks TLS to a next hop'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and __fish_seen_subcommand_from relay" -f -a "remove-tls" -d 'Remove the TLS entry of a next hop; the default for its port and host applies again'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and __fish_seen_subcommand_from relay" -f -a "list" -d 'List every sender with an entry, its next hop, its TLS and its user, but no password'
