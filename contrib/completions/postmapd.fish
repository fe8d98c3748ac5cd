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
complete -c postmapd -n "__fish_postmapd_needs_command" -f -a "serve" -d 'Serve a folder of relay files to Postfix, in the foreground'
complete -c postmapd -n "__fish_postmapd_needs_command" -f -a "query" -d 'Print what the tables, or a running server, answer for some keys'
complete -c postmapd -n "__fish_postmapd_needs_command" -f -a "check" -d 'Read everything and say what is wrong, where, why it matters, and what to do'
complete -c postmapd -n "__fish_postmapd_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l dir -d 'The folder with postfix-relaymap.cf and postfix-sasl-password.cf [env: POSTMAPD_DIR] [default: /etc/postmapd]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l config -d 'The settings file [env: POSTMAPD_CONFIG] [default: postmapd.toml in DIR, if it is there]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l recipient-delimiter -d 'What begins an address extension, each character by itself, as in main.cf [env: POSTMAPD_RECIPIENT_DELIMITER] [default: +]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l listen -d 'Where to listen, as main.cf writes it: socketmap:inet:HOST:PORT, socketmap:unix:PATH or tcp:HOST:PORT:MAP; may be given several times, in the variable separated by commas, in the settings file as a list [env: POSTMAPD_LISTEN] [default: socketmap:inet:127.0.0.1:10451]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l socket-owner -d 'The owner of UNIX sockets, a name or a number [env: POSTMAPD_SOCKET_OWNER] [default: the server\'s user]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l socket-group -d 'The group of UNIX sockets, a name or a number [env: POSTMAPD_SOCKET_GROUP] [default: postfix, if there is such a group and the server may give it]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l socket-mode -d 'The mode of UNIX sockets, an octal number (in the settings file in quotes) [env: POSTMAPD_SOCKET_MODE] [default: 0660]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l log -d 'What is logged: off, error, warn, info, debug (with the keys of lookups) or trace [env: POSTMAPD_LOG] [default: info]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -l log-format -d 'The form of the log [env: POSTMAPD_LOG_FORMAT] [default: text]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -s h -l help -d 'Print help'
complete -c postmapd -n "__fish_postmapd_using_subcommand serve" -s V -l version -d 'Print version'
complete -c postmapd -n "__fish_postmapd_using_subcommand query" -l dir -d 'The folder with postfix-relaymap.cf and postfix-sasl-password.cf [env: POSTMAPD_DIR] [default: /etc/postmapd]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand query" -l config -d 'The settings file [env: POSTMAPD_CONFIG] [default: postmapd.toml in DIR, if it is there]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand query" -l recipient-delimiter -d 'What begins an address extension, each character by itself, as in main.cf [env: POSTMAPD_RECIPIENT_DELIMITER] [default: +]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand query" -l server -d 'Ask a running server, as main.cf names it: socketmap:inet:HOST:PORT, socketmap:unix:PATH or tcp:HOST:PORT' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand query" -l format -d 'How to print the explanation' -r -f -a "text\t'For people'
json\t'For machines: one object a line'"
complete -c postmapd -n "__fish_postmapd_using_subcommand query" -l explain -d 'Say which keys were tried, what answered and why, and what Postfix does then; passwords are not shown'
complete -c postmapd -n "__fish_postmapd_using_subcommand query" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c postmapd -n "__fish_postmapd_using_subcommand query" -s V -l version -d 'Print version'
complete -c postmapd -n "__fish_postmapd_using_subcommand check" -l dir -d 'The folder with postfix-relaymap.cf and postfix-sasl-password.cf [env: POSTMAPD_DIR] [default: /etc/postmapd]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand check" -l config -d 'The settings file [env: POSTMAPD_CONFIG] [default: postmapd.toml in DIR, if it is there]' -r -F
complete -c postmapd -n "__fish_postmapd_using_subcommand check" -l recipient-delimiter -d 'What begins an address extension, each character by itself, as in main.cf [env: POSTMAPD_RECIPIENT_DELIMITER] [default: +]' -r
complete -c postmapd -n "__fish_postmapd_using_subcommand check" -l format -d 'How to print' -r -f -a "text\t'For people: with the line, the reason and what to do'
json\t'For machines'"
complete -c postmapd -n "__fish_postmapd_using_subcommand check" -l strict -d 'End with 1 if there are warnings'
complete -c postmapd -n "__fish_postmapd_using_subcommand check" -l dns -d 'Ask the resolver for every host of a next hop'
complete -c postmapd -n "__fish_postmapd_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c postmapd -n "__fish_postmapd_using_subcommand check" -s V -l version -d 'Print version'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and not __fish_seen_subcommand_from serve query check help" -f -a "serve" -d 'Serve a folder of relay files to Postfix, in the foreground'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and not __fish_seen_subcommand_from serve query check help" -f -a "query" -d 'Print what the tables, or a running server, answer for some keys'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and not __fish_seen_subcommand_from serve query check help" -f -a "check" -d 'Read everything and say what is wrong, where, why it matters, and what to do'
complete -c postmapd -n "__fish_postmapd_using_subcommand help; and not __fish_seen_subcommand_from serve query check help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
