# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_postmapd_follow_global_optspecs
    string join \n h/help V/version
end

function __fish_postmapd_follow_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_postmapd_follow_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_postmapd_follow_using_subcommand
    set -l cmd (__fish_postmapd_follow_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c postmapd-follow -n "__fish_postmapd_follow_needs_command" -s h -l help -d 'Print help'
complete -c postmapd-follow -n "__fish_postmapd_follow_needs_command" -s V -l version -d 'Print version'
complete -c postmapd-follow -n "__fish_postmapd_follow_needs_command" -f -a "run" -d 'Follow the source, in the foreground'
complete -c postmapd-follow -n "__fish_postmapd_follow_needs_command" -f -a "once" -d 'Publish the tables of the source once'
complete -c postmapd-follow -n "__fish_postmapd_follow_needs_command" -f -a "check" -d 'Check the settings, the source and every row'
complete -c postmapd-follow -n "__fish_postmapd_follow_needs_command" -f -a "init" -d 'Print or run the statements that create the tables of postmapd'
complete -c postmapd-follow -n "__fish_postmapd_follow_needs_command" -f -a "load" -d 'Make the tables of postmapd equal to the files of a directory'
complete -c postmapd-follow -n "__fish_postmapd_follow_needs_command" -f -a "dump" -d 'Write the tables of the source as files'
complete -c postmapd-follow -n "__fish_postmapd_follow_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand run" -l config -d 'The settings file [env: POSTMAPD_FOLLOW_CONFIG]' -r -F
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand run" -l log-level -d 'The level of the log on standard error: off, error, warn, info, debug or trace [env: POSTMAPD_FOLLOW_LOG_LEVEL]' -r
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand run" -l log-format -d 'The format of the log [env: POSTMAPD_FOLLOW_LOG_FORMAT] [default: journald if journald reads standard error, else text]' -r -f -a "text\t'Time, level, text and fields, for people'
json\t'An object for each event, for programs'
journald\t'Priority, text and fields. journald adds the time'"
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand run" -l allow-empty -d 'Publish a table without rows even if the active one has rows. Without it, such a table is refused, unless the source has recorded that the rows were removed'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand run" -s V -l version -d 'Print version'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand once" -l timeout -d 'How long to try: a number of seconds, or a text such as 500ms or 2min' -r
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand once" -l config -d 'The settings file [env: POSTMAPD_FOLLOW_CONFIG]' -r -F
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand once" -l log-level -d 'The level of the log on standard error: off, error, warn, info, debug or trace [env: POSTMAPD_FOLLOW_LOG_LEVEL]' -r
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand once" -l log-format -d 'The format of the log [env: POSTMAPD_FOLLOW_LOG_FORMAT] [default: journald if journald reads standard error, else text]' -r -f -a "text\t'Time, level, text and fields, for people'
json\t'An object for each event, for programs'
journald\t'Priority, text and fields. journald adds the time'"
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand once" -l allow-empty -d 'Publish a table without rows even if the active one has rows. Without it, such a table is refused, unless the source has recorded that the rows were removed'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand once" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand once" -s V -l version -d 'Print version'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand check" -l config -d 'The settings file [env: POSTMAPD_FOLLOW_CONFIG]' -r -F
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand check" -l offline -d 'Check the settings and the files that they name, and do not connect'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand check" -s h -l help -d 'Print help'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand check" -s V -l version -d 'Print version'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand init" -l reader -d 'The user that reads the tables, if it is not the one in the setting source' -r
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand init" -l config -d 'The settings file [env: POSTMAPD_FOLLOW_CONFIG]' -r -F
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand init" -l source -d 'The database and the user that owns the tables, instead of the setting source; without a password' -r
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand init" -l password-file -d 'The file with the password of this user, instead of the setting password_file' -r -F
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand init" -l apply -d 'Run the statements'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand init" -s h -l help -d 'Print help'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand init" -s V -l version -d 'Print version'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand load" -l config -d 'The settings file [env: POSTMAPD_FOLLOW_CONFIG]' -r -F
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand load" -l source -d 'The database and the user that owns the tables, instead of the setting source; without a password' -r
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand load" -l password-file -d 'The file with the password of this user, instead of the setting password_file' -r -F
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand load" -l dry-run -d 'Print what would change, and change nothing'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand load" -l force -d 'Change and remove rows that differ from the files'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand load" -s h -l help -d 'Print help'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand load" -s V -l version -d 'Print version'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand dump" -l config -d 'The settings file [env: POSTMAPD_FOLLOW_CONFIG]' -r -F
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand dump" -s h -l help -d 'Print help'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand dump" -s V -l version -d 'Print version'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand help; and not __fish_seen_subcommand_from run once check init load dump help" -f -a "run" -d 'Follow the source, in the foreground'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand help; and not __fish_seen_subcommand_from run once check init load dump help" -f -a "once" -d 'Publish the tables of the source once'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand help; and not __fish_seen_subcommand_from run once check init load dump help" -f -a "check" -d 'Check the settings, the source and every row'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand help; and not __fish_seen_subcommand_from run once check init load dump help" -f -a "init" -d 'Print or run the statements that create the tables of postmapd'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand help; and not __fish_seen_subcommand_from run once check init load dump help" -f -a "load" -d 'Make the tables of postmapd equal to the files of a directory'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand help; and not __fish_seen_subcommand_from run once check init load dump help" -f -a "dump" -d 'Write the tables of the source as files'
complete -c postmapd-follow -n "__fish_postmapd_follow_using_subcommand help; and not __fish_seen_subcommand_from run once check init load dump help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
